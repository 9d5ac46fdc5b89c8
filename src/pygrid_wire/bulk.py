"""A state's numbers without copies: protobuf keeps two of everything it parses, beside the bytes it is given.

What a large state consists of are a few packed fields, one a tensor. They are cut out here, as views of the
body, so that protobuf gets the rest: all that has to be checked. A state that is put together in another way
(a field twice, ten thousand of them) is left whole, for protobuf to make sense of.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pygrid_wire import syft_pb2 as pb

_SMALLEST = 4096  # bytes of numbers that are worth a cut
_MOST_FIELDS = 10_000
_BYTES = 2  # the wire type of what says its length
_Path = Mapping[int, Any]  # what is inside of a field by its number; None: numbers


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


Bytes = bytes | bytearray | memoryview


class Cut(NamedTuple):
    """The contents of a packed field, and its number."""

    field: int
    contents: memoryview


class _Unusual(Exception):
    """Not a state, or not of the form that clients write."""


def cut_numbers(body: memoryview) -> tuple[Bytes, dict[int, Cut]]:
    """The state without its large packed fields and, by the tensor's index, these."""
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


def framed_tensor(tensor: pb.TorchTensor, numbers: Cut | None) -> list[bytes | memoryview]:
    """A tensor of a state, serialized, with `numbers` as one more field of its `contents_data`."""
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
    """Number, wire type, and where a field, its contents, and the next field begin."""
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
    """A number of at most 64 bits, and where it ends."""
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
