"""Decodes and checks what clients send before anything is stored: uploads of models, and reported diffs."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pygrid_node.averaging.plans import averaging_rule, require_mean
from pygrid_node.entities import ParameterSpec, Upload, UploadRequest
from pygrid_node.errors import InvalidRequest
from pygrid_node.long_strings import LongString
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

# The plan that workers execute.
_TRAINING_PLAN = "training_plan"
_TOKEN = 1024  # bytes
# Diffs with which an iterative averaging plan is compared with the mean.
_ENOUGH_DIFFS = 4


def upload_request(data: Mapping[str, Any], address: str) -> UploadRequest:
    """Return what the orchestrator is asked about an upload from `address`. Raises `InvalidRequest`."""
    name, version = name_and_version(data)
    token = data.get("upload_token")
    if token is not None and not (isinstance(token, str) and len(token.encode(errors="replace")) <= _TOKEN):
        raise InvalidRequest(f"'upload_token' needs to be a text of at most {_TOKEN} bytes")
    return UploadRequest(name, version, address, token)


def name_and_version(data: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name and version of an upload. Raises `InvalidRequest`."""
    client_config = _object(data, "client_config")
    return _text(client_config, "name"), _text(client_config, "version")


def read_upload(data: Mapping[str, Any], min_reports: int = 1) -> Upload:
    """Decode and check a `host-training` message; its cycles average at least `min_reports` reports.

    Raises `InvalidRequest`.
    """
    name, version = name_and_version(data)
    config = ServerConfig.parse(_object(data, "server_config"))
    if data.get("protocols"):
        raise InvalidRequest("Protocols are not supported by this node.")
    model = _from_hex(data.get("model"), "model")
    parameters = _parameters(model)
    averaging_plan = _from_hex(data.get("averaging_plan"), "averaging_plan")
    if averaging_plan and not config.iterative_plan:
        config = config.with_all_diffs(min_reports)
    rule = averaging_rule(averaging_plan, parameters, config.diffs_at_once)
    if min_reports > 1:
        require_mean(rule, len(parameters), config.diffs_at_once or _ENOUGH_DIFFS)
    return Upload(
        name=name,
        version=version,
        client_config=_client_config(data),
        server_config=config.with_min_reports(min_reports),
        model=model,
        parameters=parameters,
        plans=_plans(_object(data, "plans")),
        averaging_plan=averaging_plan,
    )


def decode_diff(value: Any) -> Bytes:
    """Decode the `diff` of a report: standard base64, strictly. Raises `InvalidRequest`."""
    if not isinstance(value, str | LongString):
        raise InvalidRequest("'diff' is required")
    try:
        if isinstance(value, LongString):
            return value.from_base64()
        return base64.b64decode(value, validate=True)
    except ValueError as error:
        raise InvalidRequest(f"The diff is not base64: {error}") from error


def check_diff(body: Bytes, parameters: Sequence[ParameterSpec]) -> None:
    """Raise `InvalidRequest` for a diff that cannot be averaged with the others.

    PyGrid stores a diff unchecked, and an invalid one then blocks the averaging of its model permanently.
    One infinite number or NaN would spoil every later checkpoint. So a diff must be a state with the shapes
    and dtypes of the model and finite numbers.
    """
    try:
        tensors = decode_tensors(body)
    except MalformedState as error:
        raise InvalidRequest(f"The diff can't be read: {error}") from error
    if len(tensors) != len(parameters):
        raise InvalidRequest(f"The diff has {len(tensors)} tensors, the model {len(parameters)}.")
    for number, (tensor, parameter) in enumerate(zip(tensors, parameters, strict=True)):
        if (spec := ParameterSpec.of(tensor)) != parameter:
            raise InvalidRequest(f"Tensor {number} of the diff is {spec} instead of {parameter}.")
        if not np.isfinite(tensor.values).all():
            raise InvalidRequest(f"Tensor {number} of the diff holds a number that is not finite.")


def _client_config(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `client_config` unchanged, as workers receive it; it must be valid JSON for every client."""
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
    if _TRAINING_PLAN not in given:
        raise InvalidRequest(f"{_TRAINING_PLAN!r} is required")
    try:
        return {name: plan_forms(parse_plan(_from_hex(plan, name))) for name, plan in given.items()}
    except MalformedPlan as error:
        raise InvalidRequest(str(error)) from error


def _from_hex(value: Any, key: str) -> Bytes:
    if not isinstance(value, str | LongString):
        raise InvalidRequest(f"{key!r} is required")
    try:
        return value.from_hex() if isinstance(value, LongString) else bytes.fromhex(value)
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
