"""Checks a reported diff before it counts."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np

from pygrid_node.entities import ParameterSpec
from pygrid_node.errors import InvalidRequest
from pygrid_node.longtext import LongText
from pygrid_wire import Bytes, MalformedState, decode_tensors


def decode_diff(value: Any) -> Bytes:
    """The bytes in a report's `diff`: standard base64, strictly. Raises `InvalidRequest`."""
    if not isinstance(value, str | LongText):
        raise InvalidRequest("'diff' is required")
    try:
        if isinstance(value, LongText):
            return value.from_base64()
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"The diff is not base64: {error}") from error


def check_diff(body: Bytes, parameters: Sequence[ParameterSpec]) -> None:
    """Refuse a diff that could not be averaged with the others, with `InvalidRequest`.

    It has to be a state with the model's shapes and dtypes, and no number in it infinite or NaN: one such
    number would spoil the model for everybody.
    """
    try:
        tensors = decode_tensors(body)
    except MalformedState as error:
        raise InvalidRequest(f"The diff can't be read: {error}") from error
    if len(tensors) != len(parameters):
        raise InvalidRequest(f"The diff has {len(tensors)} tensors, the model {len(parameters)}.")
    for number, (tensor, parameter) in enumerate(zip(tensors, parameters, strict=True)):
        if (spec := ParameterSpec.of(tensor)) != parameter:
            looks = f"{_look(spec)} instead of {_look(parameter)}"
            raise InvalidRequest(f"Tensor {number} of the diff is {looks}.")
        if not np.isfinite(tensor.values).all():
            raise InvalidRequest(f"Tensor {number} of the diff holds a number that is not finite.")


def _look(spec: ParameterSpec) -> str:
    return f"{spec.dtype}{list(spec.shape)}"
