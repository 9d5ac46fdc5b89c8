"""Checks an upload in every respect, before anything of it is kept."""

import json
from collections.abc import Mapping
from typing import Any

from pygrid_node.averaging.rules import averaging_rule
from pygrid_node.entities import ParameterSpec, Upload
from pygrid_node.errors import InvalidRequest
from pygrid_node.longtext import LongText
from pygrid_node.server_config import ServerConfig
from pygrid_wire import (
    Bytes,
    MalformedPlan,
    MalformedState,
    PlanForms,
    decode_tensors,
    parse_plan,
    plan_forms,
)

# The plan that workers execute; an upload without it has nothing to train.
TRAINING_PLAN = "training_plan"


def name_and_version(data: Mapping[str, Any]) -> tuple[str, str]:
    """What an upload is called, before anything else in it is looked at; raises `InvalidRequest`."""
    client_config = _object(data, "client_config")
    return _text(client_config, "name"), _text(client_config, "version")


def read_upload(data: Mapping[str, Any]) -> Upload:
    """The upload in a `host-training` message; raises `InvalidRequest` with a sentence for its sender."""
    name, version = name_and_version(data)
    config = ServerConfig.parse(_object(data, "server_config"))
    if data.get("protocols"):
        raise InvalidRequest("Protocols are not supported by this node.")
    model = _from_hex(data.get("model"), "model")
    parameters = _parameters(model)
    averaging_plan = _from_hex(data.get("averaging_plan"), "averaging_plan")
    if averaging_plan and not config.iterative_plan:
        config = config.with_all_diffs()
    averaging_rule(averaging_plan, parameters, config.diffs_at_once)
    return Upload(
        name=name,
        version=version,
        client_config=_client_config(data),
        server_config=config,
        model=model,
        parameters=parameters,
        plans=_plans(_object(data, "plans")),
        averaging_plan=averaging_plan,
    )


def _client_config(data: Mapping[str, Any]) -> dict[str, Any]:
    """What workers are given as it came, so that it has to be JSON to every one of them."""
    given = dict(_object(data, "client_config"))
    try:
        json.dumps(given, allow_nan=False)
    except ValueError as error:
        raise InvalidRequest("'client_config' holds a number that is not finite") from error
    return given


def _parameters(model: Bytes) -> tuple[ParameterSpec, ...]:
    try:
        return tuple(ParameterSpec.of(tensor) for tensor in decode_tensors(model))
    except MalformedState as error:
        raise InvalidRequest(f"The model can't be read: {error}") from error


def _plans(given: Mapping[str, Any]) -> dict[str, PlanForms]:
    if TRAINING_PLAN not in given:
        raise InvalidRequest(f"{TRAINING_PLAN!r} is required")
    try:
        return {name: plan_forms(parse_plan(_from_hex(plan, name))) for name, plan in given.items()}
    except MalformedPlan as error:
        raise InvalidRequest(str(error)) from error


def _from_hex(value: Any, key: str) -> Bytes:
    if not isinstance(value, str | LongText):
        raise InvalidRequest(f"{key!r} is required")
    try:
        return value.from_hex() if isinstance(value, LongText) else bytes.fromhex(value)
    except ValueError as error:
        raise InvalidRequest("Non-hexadecimal digit found") from error


def _text(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{key!r} is required")
    return value


def _object(given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = given.get(key)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{key!r} is required")
    return value
