"""States: the parameters of a model, or of a diff, in the order of the model."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from pygrid_wire import syft_pb2 as pb
from pygrid_wire.bulk import Bytes, Cut, cut_numbers, framed_tensor
from pygrid_wire.tensor import MalformedTensor, Tensor, read_tensor, write_tensor

_NOTHING: Mapping[int, Cut] = {}


class MalformedState(ValueError):
    """Bytes that are no usable state; the text says why, for the client that sent them."""


def decode_state(body: Bytes) -> list[np.ndarray[Any, Any]]:
    """Read a serialized state as arrays, one a parameter, in order; they may be read-only views.

    bfloat16 comes as float32 (`decode_tensors` keeps the dtype). Raises `MalformedState` for what is not a
    state, holds no tensor, or holds one that is missing, of an unknown dtype, or of another shape than its
    numbers; also for a torch pickle, which is never opened, since it could run code.
    """
    return [tensor.values for tensor in decode_tensors(body)]


def encode_state(arrays: Iterable[np.ndarray[Any, Any]]) -> bytes:
    """Write arrays as a state that syft's clients read; the ids in it are random.

    Raises `MalformedState` for an array whose dtype has no field in the format.
    """
    try:
        return encode_tensors([Tensor.of(np.asarray(array)) for array in arrays])
    except MalformedTensor as error:
        raise MalformedState(str(error)) from error


def decode_tensors(body: Bytes) -> list[Tensor]:
    """As `decode_state`, with the dtypes of the wire. Large tensors are views of `body`, not copies."""
    rest, numbers = cut_numbers(memoryview(body))
    try:
        state = pb.State.FromString(bytes(rest))
    except DecodeError as error:
        raise MalformedState("these bytes are not a state") from error
    return read_state(state, numbers)


def read_state(state: pb.State, numbers: Mapping[int, Cut] = _NOTHING) -> list[Tensor]:
    """As `decode_tensors`, from a message that has been parsed, and what was cut out of it before."""
    if not state.tensors:
        raise MalformedState("the state holds no tensors")
    if len(UnknownFieldSet(state)):
        raise MalformedState("the state holds fields that are unknown")
    if state.placeholders and len(state.placeholders) != len(state.tensors):
        raise MalformedState(f"{len(state.placeholders)} placeholders for {len(state.tensors)} tensors")
    try:
        return [
            read_tensor(_contents(tensor), numbers.get(index)) for index, tensor in enumerate(state.tensors)
        ]
    except MalformedTensor as error:
        raise MalformedState(str(error)) from error


def encode_tensors(tensors: Sequence[Tensor]) -> bytes:
    """As `encode_state`, under the tensors' own dtypes."""
    state = pb.State()
    for tensor in tensors:
        placeholder = state.placeholders.add()
        placeholder.id.id_int = _random_id()
        placeholder.expected_shape.dims.extend(tensor.shape)
    pieces: list[bytes | memoryview] = [state.SerializeToString()]
    for tensor in tensors:
        pieces += _encoded(tensor)
    return b"".join(pieces)


def _encoded(tensor: Tensor) -> list[bytes | memoryview]:
    message = pb.TorchTensor(serializer=pb.TorchTensor.SERIALIZER_ALL)
    message.id.id_int = _random_id()
    # A scalar's shape has no dims; without this its message would be left out.
    message.contents_data.shape.SetInParent()
    return framed_tensor(message, write_tensor(tensor, message.contents_data))


def _contents(tensor: pb.StateTensor) -> pb.TensorData:
    kind = tensor.WhichOneof("tensor")
    message = tensor.torch_param.tensor if kind == "torch_param" else tensor.torch_tensor
    match message.WhichOneof("contents"):
        case "contents_data":
            return message.contents_data
        case "contents_bin":
            raise MalformedState("a tensor is a torch pickle, which is not read here")
        case _:
            raise MalformedState("a tensor has no contents")


def _random_id() -> int:
    """Eleven digits, as syft's own ids are."""
    return secrets.randbelow(90_000_000_000) + 10_000_000_000
