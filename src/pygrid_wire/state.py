"""States: the parameters of a model or of a diff, in the order of the model.

Protobuf makes up to 50 bytes of one that it parses. Nearly all bytes of a large state are in packed fields,
one per tensor, so these fields are cut out as views of the body and protobuf parses the rest, which is all
that must be checked. A state of another form (a field that occurs twice, a hundred thousand fields) is left
to protobuf whole. In either case protobuf parses at most 1 MiB; more is refused.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from pygrid_wire import syft_pb2 as pb
from pygrid_wire.tensor import (
    Bytes,
    Cut,
    EncodedTensor,
    MalformedTensor,
    Packed,
    Tensor,
    packed_fields,
    parse_state_tensor,
    write_tensor,
)

_NOTHING: Mapping[int, Cut] = {}
_SMALL_STATE, _SMALL_FIELD = 4096, 64  # bytes; what is smaller is not worth cutting
_MOST_FIELDS = 100_000  # that are looked at: a state has 9 for each tensor, and each takes a microsecond
_MOST_PARSED = 1 << 20  # bytes; ten thousand tensors have half of it besides their numbers
_BYTES = 2  # wire type of a field with a length
_Path = Mapping[int, Any]  # nested fields by number; None marks a field of numbers


def _number(message: Any, name: str) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[name].number
    return number


_TENSOR = {_number(pb.TorchTensor, "contents_data"): dict.fromkeys(packed_fields())}
_STATE_TENSOR = {
    _number(pb.StateTensor, "torch_tensor"): _TENSOR,
    _number(pb.StateTensor, "torch_param"): {_number(pb.Parameter, "tensor"): _TENSOR},
}
_TENSORS = _number(pb.State, "tensors")


class MalformedState(ValueError):
    """The bytes are not a usable state; the text says why, for the client that sent them."""


def decode_state(body: Bytes, largest: int | None = None) -> list[np.ndarray[Any, Any]]:
    """Decode a serialized state into arrays, one per parameter, in order; they may be read-only views.

    bfloat16 becomes float32 (`decode_tensors` keeps the dtype). Raises `MalformedState` if the bytes are not
    a state, there are no tensors, the arrays would take more than `largest` bytes, or a tensor is empty, has
    an unknown dtype, or does not fill its shape; also for a torch pickle, which is never opened because it
    can run code, and if more than 1 MiB are anything but packed numbers.
    """
    return [tensor.values for tensor in decode_tensors(body, largest)]


def encode_state(arrays: Iterable[np.ndarray[Any, Any]]) -> bytes:
    """Encode arrays as a state that syft clients can read; its ids are random.

    Raises `MalformedState` if the format has no field for an array's dtype.
    """
    try:
        return encode_tensors([Tensor.of(np.asarray(array)) for array in arrays])
    except MalformedTensor as error:
        raise MalformedState(str(error)) from error


def decode_tensors(body: Bytes, largest: int | None = None) -> list[Tensor]:
    """Decode a state like `decode_state`, with the dtypes of the wire. Large tensors may be views of `body`.

    Nothing larger than the arrays themselves is allocated, and nothing at all if they exceed `largest` bytes.
    """
    return _decoded(parse_state(body, largest))


def parse_state(body: Bytes, largest: int | None = None) -> list[EncodedTensor]:
    """Check a state like `decode_tensors`, and decode no numbers: views of `body` are returned.

    Raises `MalformedState`; not for numbers that do not fit their dtype, which decoding will find.
    """
    rest, numbers = _cut_numbers(memoryview(body))
    if len(rest) > _MOST_PARSED:
        raise MalformedState(
            f"the state has {len(rest)} bytes besides packed numbers in the form that clients write, "
            f"more than {_MOST_PARSED}"
        )
    try:
        state = pb.State.FromString(bytes(rest))
    except DecodeError as error:
        raise MalformedState("these bytes are not a state") from error
    tensors = _parsed(state, numbers)
    if largest is not None and (size := sum(tensor.nbytes for tensor in tensors)) > largest:
        raise MalformedState(f"the tensors take {size} bytes when decoded, more than {largest}")
    return tensors


def read_state(state: pb.State) -> list[Tensor]:
    """Read the tensors of a parsed state. Raises `MalformedState` as `decode_tensors` does."""
    return _decoded(_parsed(state))


def _parsed(state: pb.State, numbers: Mapping[int, Cut] = _NOTHING) -> list[EncodedTensor]:
    """Check a parsed state; `numbers` holds the fields cut out of it, by tensor index."""
    if not state.tensors:
        raise MalformedState("the state holds no tensors")
    if len(UnknownFieldSet(state)):
        raise MalformedState("the state holds fields that are unknown")
    if state.placeholders and len(state.placeholders) != len(state.tensors):
        raise MalformedState(f"{len(state.placeholders)} placeholders for {len(state.tensors)} tensors")
    try:
        return [parse_state_tensor(tensor, numbers.get(index)) for index, tensor in enumerate(state.tensors)]
    except MalformedTensor as error:
        raise MalformedState(str(error)) from error


def _decoded(tensors: list[EncodedTensor]) -> list[Tensor]:
    try:
        return [tensor.decode() for tensor in tensors]
    except MalformedTensor as error:
        raise MalformedState(str(error)) from error


def encode_tensors(tensors: Sequence[Tensor]) -> bytes:
    """Encode a state like `encode_state`, with the dtypes of the tensors."""
    state = pb.State()
    for tensor in tensors:
        placeholder = state.placeholders.add()
        placeholder.id.id_int = _random_id()
        placeholder.expected_shape.dims.extend(tensor.shape)
    body = BytesIO()  # hands out the bytes that it has collected without a copy
    body.write(state.SerializeToString())
    for tensor in tensors:
        for piece in _encoded(tensor):
            body.write(piece)
    return body.getvalue()


def _encoded(tensor: Tensor) -> Iterator[bytes | memoryview]:
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
    """Return the state without its packed fields, and these fields by tensor index."""
    if len(body) < _SMALL_STATE:
        return body, {}
    cuts: dict[int, Cut] = {}
    rest: list[bytes | memoryview] = []
    budget = iter(range(_MOST_FIELDS))
    index = 0
    try:
        for number, kind, start, inner, end in _fields(body, budget):
            if number != _TENSORS or kind != _BYTES:
                rest.append(body[start:end])
                continue
            found: list[Cut] = []
            rest += _framed(number, _cut(body[inner:end], _STATE_TENSOR, budget, found))
            cuts.update((index, cut) for cut in found)
            index += 1
    except _Unusual:
        return body, {}
    return b"".join(rest), cuts


def _framed_tensor(tensor: pb.TorchTensor, numbers: Packed | None) -> Iterator[bytes | memoryview]:
    """Serialize a tensor of a state, with `numbers` as an additional field of its `contents_data`."""
    head = tensor.contents_data.SerializeToString()
    head += _head(numbers.field, numbers.size) if numbers else b""
    size = numbers.size if numbers else 0
    rest = pb.TorchTensor()
    rest.CopyFrom(tensor)
    rest.ClearField("contents_data")
    head = _head(_number(pb.TorchTensor, "contents_data"), len(head) + size) + head
    head = rest.SerializeToString() + head
    head = _head(_number(pb.StateTensor, "torch_tensor"), len(head) + size) + head
    yield _head(_TENSORS, len(head) + size) + head
    yield from numbers.pieces if numbers else ()


def _cut(body: memoryview, path: _Path, budget: Iterator[int], found: list[Cut]) -> list[bytes | memoryview]:
    rest: list[bytes | memoryview] = []
    seen = False
    for number, kind, start, inner, end in _fields(body, budget):
        if number not in path:
            rest.append(body[start:end])
            continue
        if seen or kind != _BYTES:  # protobuf would merge them; numbers one by one
            raise _Unusual
        seen = True
        if (deeper := path[number]) is not None:
            rest += _framed(number, _cut(body[inner:end], deeper, budget, found))
        elif end - inner < _SMALL_FIELD:
            rest.append(body[start:end])
        else:
            found.append(Cut(number, body[inner:end]))
    return rest


def _fields(body: memoryview, budget: Iterator[int]) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield number, wire type, and the offsets of each field, its contents and the next field.

    Raises `_Unusual` for what is not a message, and when `budget`, which all messages share, is used up.
    """
    end = 0
    while end < len(body):
        start = end
        tag, inner = _varint(body, start)
        end = _end(body, tag & 7, inner)
        if tag & 7 == _BYTES:
            length, inner = _varint(body, inner)
            end = inner + length
        if end > len(body) or next(budget, None) is None:
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
    return [_head(number, sum(len(piece) for piece in pieces)), *pieces]


def _head(number: int, size: int) -> bytes:
    return _varint_of(number << 3 | _BYTES) + _varint_of(size)


def _varint_of(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
