"""Decodes and checks what clients send before anything is stored: uploads of models, and reported diffs."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pygrid_node.averaging.plans import averaging_rule, require_mean
from pygrid_node.client_config import with_numbers
from pygrid_node.entities import ParameterSpec, Upload, UploadRequest
from pygrid_node.errors import InvalidRequest
from pygrid_node.long_strings import LongString
from pygrid_node.server_config import ServerConfig
from pygrid_wire import (
    Bytes,
    EncodedTensor,
    MalformedPlan,
    MalformedState,
    MalformedTensor,
    PlanForms,
    has_torchscript,
    parse_plan,
    parse_state,
    plan_forms,
)

# An upload is stored, and each worker gets its `client_config` with every assignment. All sizes in bytes.
_MOST_CONFIG = 64 * 1024  # as JSON
_MOST_PLANS = 10
_MOST_PLAN = 2 * 1024**2  # protobuf makes 90 bytes of one in the worst case
_MOST_AVERAGING_PLAN = 512 * 1024
_MOST_TENSORS = 10_000
_MOST_AROUND_NUMBERS = 1024**2  # of a state: shapes, ids, dtypes
_MOST_CYCLES = 1_000_000  # as the orchestrator
_JSON = json.JSONEncoder(allow_nan=False)
# PostgreSQL has both in one key of an index, of at most 2,704 bytes.
_LONGEST_NAME, _LONGEST_VERSION = 512, 128  # characters
_LONGEST_PLAN_NAME = 128
_LONGEST_KEY = 4096  # characters of a secret, or of an RSA key in PEM
# The plan that workers execute.
_TRAINING_PLAN = "training_plan"
_TOKEN = 1024  # bytes
# SwiftSyft writes a diff in this dtype, whatever that of the model is.
_DTYPE_OF_PHONES = "float32"
# Diffs with which an iterative averaging plan is compared with the mean.
_ENOUGH_DIFFS = 4


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What a node accepts, in bytes: the size of a model, and of the arrays that averaging it takes."""

    model: int = 128 * 1024**2
    averaging: int = 256 * 1024**2


_LIMITS = UploadLimits()


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
    name = _text(client_config, "name", _LONGEST_NAME)
    return name, _text(client_config, "version", _LONGEST_VERSION)


def read_upload(data: Mapping[str, Any], min_reports: int = 1, limits: UploadLimits = _LIMITS) -> Upload:
    """Decode and check a `host-training` message; its cycles average at least `min_reports` reports.

    Raises `InvalidRequest`.
    """
    name, version = name_and_version(data)
    client_config = with_numbers(_object(data, "client_config"))
    _check_config(data, "client_config")
    config = _server_config(data)
    if data.get("protocols"):
        raise InvalidRequest("Protocols are not supported by this node.")
    model = _from_hex(data.get("model"), "model", limits.model)
    parameters = _parameters(model, limits.model)
    averaging_plan = _from_hex(data.get("averaging_plan"), "averaging_plan", _MOST_AVERAGING_PLAN)
    if averaging_plan and not config.iterative_plan:
        config = config.with_all_diffs(min_reports)
    rule = averaging_rule(averaging_plan, parameters, config.diffs_at_once, limits.averaging)
    if min_reports > 1:
        require_mean(rule, len(parameters), config.diffs_at_once or _ENOUGH_DIFFS)
    plans = _plans(_object(data, "plans"))
    _check_dtypes(parameters, plans)
    return Upload(
        name=name,
        version=version,
        client_config=client_config,
        server_config=config.with_min_reports(min_reports),
        model=model,
        parameters=parameters,
        plans=plans,
        averaging_plan=averaging_plan,
    )


def decode_diff(value: Any, parameters: Sequence[ParameterSpec]) -> Bytes:
    """Decode the `diff` of a report: standard base64, strictly but for line ends. Raises `InvalidRequest`.

    A diff that is larger than any diff of these parameters is refused before it is decoded or stored.
    """
    if not isinstance(value, str | LongString):
        raise InvalidRequest("'diff' is required")
    most = _most_encoded(parameters)
    try:
        # 4 characters make 3 bytes, and each may be escaped; a line of 76 may end in 4 more.
        if len(value) <= 3 * most:
            body = _from_base64(value)
            if len(body) <= most:
                return body
    except ValueError as error:
        raise InvalidRequest(f"The diff is not base64: {error}") from error
    raise InvalidRequest(f"A diff of this model has at most {most} bytes.")


def check_diff(body: Bytes, parameters: Sequence[ParameterSpec]) -> None:
    """Raise `InvalidRequest` for a diff that cannot be averaged with the others.

    PyGrid stores a diff unchecked, and an invalid one then blocks the averaging of its model permanently.
    One infinite number or NaN would spoil every later checkpoint. So a diff must be a state with the shapes
    and dtypes of the model and finite numbers. No tensor of another shape or dtype is decoded.
    """
    try:
        tensors = parse_state(body)
    except MalformedState as error:
        raise InvalidRequest(f"The diff can't be read: {error}") from error
    if len(tensors) != len(parameters):
        raise InvalidRequest(f"The diff has {len(tensors)} tensors, the model {len(parameters)}.")
    for number, (tensor, parameter) in enumerate(zip(tensors, parameters, strict=True)):
        if (spec := ParameterSpec.of(tensor)) != parameter:
            raise InvalidRequest(f"Tensor {number} of the diff is {spec} instead of {parameter}.")
        if not _is_finite(tensor, "diff"):
            raise InvalidRequest(f"Tensor {number} of the diff holds a number that is not finite.")


def _is_finite(tensor: EncodedTensor, what: str) -> bool:
    """Decode a tensor, keeping nothing, and return whether its numbers are finite."""
    try:
        return all(np.isfinite(numbers).all() for numbers in tensor.chunks())
    except MalformedTensor as error:
        raise InvalidRequest(f"The {what} can't be read: {error}") from error


def _check_config(data: Mapping[str, Any], key: str) -> None:
    """Raise `InvalidRequest` unless an object is short, and valid JSON for every client."""
    size = 0
    try:
        for piece in _JSON.iterencode(data[key]):
            if (size := size + len(piece)) > _MOST_CONFIG:
                break
    except ValueError as error:
        raise InvalidRequest(f"{key!r} holds a number that is not finite") from error
    except (RecursionError, TypeError):  # nested too deeply; a string that is not decoded, because it is long
        size = _MOST_CONFIG + 1
    if size > _MOST_CONFIG:
        raise InvalidRequest(f"{key!r} needs to have at most {_MOST_CONFIG} bytes as JSON")


def _server_config(data: Mapping[str, Any]) -> ServerConfig:
    config = ServerConfig.parse(_object(data, "server_config"))
    _check_config(data, "server_config")
    if config.num_cycles > _MOST_CYCLES:
        raise InvalidRequest(f"'num_cycles' needs to be at most {_MOST_CYCLES}")
    for key, value in (config.authentication or {}).items():
        if len(value) > _LONGEST_KEY:
            raise InvalidRequest(f"{key!r} needs to have at most {_LONGEST_KEY} characters")
    return config


def _parameters(model: Bytes, most: int) -> tuple[ParameterSpec, ...]:
    try:
        tensors = parse_state(model, most)
    except MalformedState as error:
        raise InvalidRequest(f"The model can't be read: {error}") from error
    if len(tensors) > _MOST_TENSORS:
        raise InvalidRequest(f"The model has {len(tensors)} tensors, more than {_MOST_TENSORS}.")
    for tensor in tensors:
        _is_finite(tensor, "model")  # for its error; whether the training diverges is up to the uploader
    parameters = tuple(map(ParameterSpec.of, tensors))
    # The numbers of a checkpoint may take more bytes than those of the upload.
    if (size := sum(parameter.most_encoded for parameter in parameters)) > most:
        raise InvalidRequest(f"Checkpoints of this model may have {size} bytes, more than {most}.")
    if len(model) > _most_encoded(parameters):
        raise InvalidRequest("The model has more bytes than its tensors take.")
    return parameters


def _most_encoded(parameters: Sequence[ParameterSpec]) -> int:
    """Return the most bytes of a state with these parameters."""
    return sum(parameter.most_encoded for parameter in parameters) + _MOST_AROUND_NUMBERS


def _plans(given: Mapping[str, Any]) -> dict[str, PlanForms]:
    if _TRAINING_PLAN not in given:
        raise InvalidRequest(f"{_TRAINING_PLAN!r} is required")
    if len(given) > _MOST_PLANS:
        raise InvalidRequest(f"'plans' holds {len(given)} plans, more than {_MOST_PLANS}")
    if any(len(name) > _LONGEST_PLAN_NAME for name in given):
        raise InvalidRequest(f"The name of a plan needs to have at most {_LONGEST_PLAN_NAME} characters")
    try:
        return {
            name: plan_forms(parse_plan(_from_hex(plan, name, _MOST_PLAN))) for name, plan in given.items()
        }
    except MalformedPlan as error:
        raise InvalidRequest(str(error)) from error


def _check_dtypes(parameters: Sequence[ParameterSpec], plans: Mapping[str, PlanForms]) -> None:
    """Raise `InvalidRequest` for a model that phones would report in another dtype."""
    if not any(has_torchscript(forms.torchscript) for forms in plans.values()):
        return
    for number, parameter in enumerate(parameters):
        if parameter.dtype != _DTYPE_OF_PHONES:
            raise InvalidRequest(
                f"Parameter {number} of the model is {parameter}; phones, for which the plan has TorchScript,"
                f" train {_DTYPE_OF_PHONES} only."
            )


def _from_hex(value: Any, key: str, most: int) -> Bytes:
    if not isinstance(value, str | LongString):
        raise InvalidRequest(f"{key!r} is required")
    if len(value) > 2 * most:
        raise InvalidRequest(f"{key!r} has more than {most} bytes")
    try:
        return value.from_hex() if isinstance(value, LongString) else bytes.fromhex(value)
    except ValueError as error:
        raise InvalidRequest("Non-hexadecimal digit found") from error


def _from_base64(value: str | LongString) -> Bytes:
    if isinstance(value, LongString):
        return value.from_base64()
    return base64.b64decode(value.replace("\r\n", "").replace("\n", ""), validate=True)


def _text(given: Mapping[str, Any], key: str, most: int) -> str:
    value = given.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{key!r} is required")
    if len(value) > most:
        raise InvalidRequest(f"{key!r} needs to have at most {most} characters")
    return value


def _object(given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = given.get(key)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{key!r} is required")
    return value
