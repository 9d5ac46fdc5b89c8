"""States: the parameters of a model or of a diff, in the order of the model.

Protobuf copies everything it parses twice. Nearly all bytes of a large state are in a few packed fields, one
per tensor, so these fields are cut out as views of the body and protobuf parses the rest, which is all that
must be checked. A state of another form (a field that occurs twice, ten thousand fields) is left to protobuf
whole.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from pygrid_wire import syft_pb2 as pb
from pygrid_wire.tensor import Bytes, Cut, MalformedTensor, Tensor, read_state_tensor, write_tensor

_NOTHING: Mapping[int, Cut] = {}
_SMALLEST = 4096  # bytes; a smaller field, or state, is not worth cutting
_MOST_FIELDS = 10_000
_BYTES = 2  # wire type of a field with a length
_Path = Mapping[int, Any]  # nested fields by number; None marks a field of numbers


def _number(message: Any, name: str) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[name].number
    return number


_PACKED = ("float16", "float32", "float64", "bfloat16")
_NUMBERS = dict.fromkeys(_number(pb.TensorData, f"contents_{dtype}") for dtype in _PACKED)
_TENSOR = {_number(pb.TorchTensor, "contents_data"): _NUMBERS}
_STATE_TENSOR = {
    _number(pb.StateTensor, "torch_tensor"): _TENSOR,
    _number(pb.StateTensor, "torch_param"): {_number(pb.Parameter, "tensor"): _TENSOR},
}
_TENSORS = _number(pb.State, "tensors")


class MalformedState(ValueError):
    """The bytes are not a usable state; the text says why, for the client that sent them."""


def decode_state(body: Bytes) -> list[np.ndarray[Any, Any]]:
    """Decode a serialized state into arrays, one per parameter, in order; they may be read-only views.

    bfloat16 becomes float32 (`decode_tensors` keeps the dtype). Raises `MalformedState` if the bytes are not
    a state, there are no tensors, or a tensor is empty, has an unknown dtype, or does not fill its shape;
    also for a torch pickle, which is never opened because it can run code.
    """
    return [tensor.values for tensor in decode_tensors(body)]


def encode_state(arrays: Iterable[np.ndarray[Any, Any]]) -> bytes:
    """Encode arrays as a state that syft clients can read; its ids are random.

    Raises `MalformedState` if the format has no field for an array's dtype.
    """
    try:
        return encode_tensors([Tensor.of(np.asarray(array)) for array in arrays])
    except MalformedTensor as error:
        raise MalformedState(str(error)) from error


def decode_tensors(body: Bytes) -> list[Tensor]:
    """Decode a state like `decode_state`, with the dtypes of the wire. Large tensors are views of `body`."""
    rest, numbers = _cut_numbers(memoryview(body))
    try:
        state = pb.State.FromString(bytes(rest))
    except DecodeError as error:
        raise MalformedState("these bytes are not a state") from error
    return read_state(state, numbers)


def read_state(state: pb.State, numbers: Mapping[int, Cut] = _NOTHING) -> list[Tensor]:
    """Read the tensors of a parsed state; `numbers` holds the fields cut out of it, by tensor index."""
    if not state.tensors:
        raise MalformedState("the state holds no tensors")
    if len(UnknownFieldSet(state)):
        raise MalformedState("the state holds fields that are unknown")
    if state.placeholders and len(state.placeholders) != len(state.tensors):
        raise MalformedState(f"{len(state.placeholders)} placeholders for {len(state.tensors)} tensors")
    try:
        return [read_state_tensor(tensor, numbers.get(index)) for index, tensor in enumerate(state.tensors)]
    except MalformedTensor as error:
        raise MalformedState(str(error)) from error


def encode_tensors(tensors: Sequence[Tensor]) -> bytes:
    """Encode a state like `encode_state`, with the dtypes of the tensors."""
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
    # A scalar has no dimensions; without this, protobuf would omit its shape.
    message.contents_data.shape.SetInParent()
    return _framed_tensor(message, write_tensor(tensor, message.contents_data))


def _random_id() -> int:
    """Return eleven random digits, like the ids of syft."""
    return secrets.randbelow(90_000_000_000) + 10_000_000_000


class _Unusual(Exception):
    """The bytes are not a state of the form that clients write."""


def _cut_numbers(body: memoryview) -> tuple[Bytes, dict[int, Cut]]:
    """Return the state without its large packed fields, and these fields by tensor index."""
    if len(body) < _SMALLEST:
        return body, {}
    cuts: dict[int, Cut] = {}
    rest: list[bytes | memoryview] = []
    index = 0
    try:
        for number, kind, start, inner, end in _fields(body):
            if number != _TENSORS or kind != _BYTES:
                rest.append(body[start:end])
                continue
            found: list[Cut] = []
            rest += _framed(number, _cut(body[inner:end], _STATE_TENSOR, found))
            cuts.update((index, cut) for cut in found)
            index += 1
    except _Unusual:
        return body, {}
    return b"".join(rest), cuts


def _framed_tensor(tensor: pb.TorchTensor, numbers: Cut | None) -> list[bytes | memoryview]:
    """Serialize a tensor of a state, with `numbers` as an additional field of its `contents_data`."""
    data = tensor.contents_data.SerializeToString()
    rest = pb.TorchTensor()
    rest.CopyFrom(tensor)
    rest.ClearField("contents_data")
    contents = [data, *(_framed(numbers.field, [numbers.contents]) if numbers else ())]
    torch = [rest.SerializeToString(), *_framed(_number(pb.TorchTensor, "contents_data"), contents)]
    return _framed(_TENSORS, _framed(_number(pb.StateTensor, "torch_tensor"), torch))


def _cut(body: memoryview, path: _Path, found: list[Cut]) -> list[bytes | memoryview]:
    rest: list[bytes | memoryview] = []
    seen = False
    for number, kind, start, inner, end in _fields(body):
        if number not in path or kind != _BYTES:
            rest.append(body[start:end])
            continue
        if seen:  # protobuf would merge them
            raise _Unusual
        seen = True
        if (deeper := path[number]) is not None:
            rest += _framed(number, _cut(body[inner:end], deeper, found))
        elif end - inner < _SMALLEST:
            rest.append(body[start:end])
        else:
            found.append(Cut(number, body[inner:end]))
    return rest


def _fields(body: memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield number, wire type, and the offsets of each field, its contents and the next field."""
    end, count = 0, 0
    while end < len(body):
        start, count = end, count + 1
        tag, inner = _varint(body, start)
        end = _end(body, tag & 7, inner)
        if tag & 7 == _BYTES:
            length, inner = _varint(body, inner)
            end = inner + length
        if end > len(body) or count > _MOST_FIELDS:
            raise _Unusual
        yield tag >> 3, tag & 7, start, inner, end


def _end(body: memoryview, kind: int, start: int) -> int:
    match kind:
        case 0 | 2:  # a number; a length
            return _varint(body, start)[1]
        case 1:
            return start + 8
        case 5:
            return start + 4
        case _:
            raise _Unusual


def _varint(body: memoryview, start: int) -> tuple[int, int]:
    """Return a number of at most 64 bits and the offset after it."""
    value = 0
    for length, byte in enumerate(body[start : start + 10]):
        value |= (byte & 0x7F) << 7 * length
        if byte < 0x80:
            return value, start + length + 1
    raise _Unusual


def _framed(number: int, pieces: list[bytes | memoryview]) -> list[bytes | memoryview]:
    size = sum(len(piece) for piece in pieces)
    return [_varint_of(number << 3 | _BYTES) + _varint_of(size), *pieces]


def _varint_of(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
