"""Converts one tensor between its protobuf message and NumPy.

Numbers are converted in chunks: protobuf's own lists of integers take 8 bytes a number, however few it has on
the wire, and the arithmetic on varints needs several arrays of 8 bytes a number.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.unknown_fields import UnknownFieldSet

from pygrid_wire import syft_pb2 as pb

Bytes = bytes | bytearray | memoryview

_Array = np.ndarray[Any, Any]

_AT_ONCE = 1 << 16  # numbers, or bytes of varints, that are converted at once: arrays of 0.5 MiB each
_CONTENTS = "contents_"  # before the dtype, the name of the field that holds its numbers
_LONGEST = 10  # bytes of a varint
_MORE = 0x80  # bit of each byte of a varint but the last
_MOST_DIMENSIONS = 64  # of a NumPy array
_MOST_NUMBERS = sys.maxsize // 8  # of a NumPy array, 8 bytes each


class MalformedTensor(ValueError):
    """A tensor message without usable numbers; the text says why."""


class Cut(NamedTuple):
    """The contents of a packed field, taken out of a message before it was parsed; `field` is its number."""

    field: int
    contents: memoryview


class Packed(NamedTuple):
    """A packed field to be written: its number, and the size and the pieces of its contents in bytes."""

    field: int
    size: int
    pieces: Iterator[memoryview]


class _Field(NamedTuple):
    """How `TensorData` stores the numbers of one dtype."""

    array: type[np.generic]  # what NumPy calculates with
    packed: str | None = None  # NumPy's name for one number in a packed field, None for varints
    varint: type[np.generic] | None = None  # what protobuf makes of a varint


# NumPy has no bfloat16: its numbers are float32 here, and rounded again when they are written.
_FIELDS = {
    "uint8": _Field(np.uint8, varint=np.uint32),
    "int8": _Field(np.int8, varint=np.int32),
    "int16": _Field(np.int16, varint=np.int32),
    "int32": _Field(np.int32, varint=np.int32),
    "int64": _Field(np.int64, varint=np.int64),
    "float16": _Field(np.float16, "<f4"),
    "float32": _Field(np.float32, "<f4"),
    "float64": _Field(np.float64, "<f8"),
    "bfloat16": _Field(np.float32, "<f4"),
    "bool": _Field(np.bool_, varint=np.bool_),
}


class NumberSizes(NamedTuple):
    """Bytes of one number: in an array, and at most in a state."""

    decoded: int
    encoded: int


def number_sizes(dtype: str) -> NumberSizes:
    """Return the sizes of the numbers of a dtype of the wire."""
    field = _FIELDS[dtype]
    decoded = np.dtype(field.array).itemsize
    if field.packed:
        return NumberSizes(decoded, np.dtype(field.packed).itemsize)
    # A negative number is a varint of 64 bits, whatever its dtype is.
    return NumberSizes(decoded, _LONGEST if np.issubdtype(field.array, np.signedinteger) else decoded + 1)


def packed_fields() -> list[int]:
    """Return the numbers of the fields of `TensorData` that hold numbers."""
    return [_number(dtype) for dtype in _FIELDS]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Numbers and their dtype on the wire.

    `values` is read-only if it is a view of a message. The dtype is stored separately because NumPy has no
    bfloat16: those numbers are float32 in `values`.
    """

    dtype: str
    values: np.ndarray[Any, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions; `()` for a scalar."""
        shape: tuple[int, ...] = self.values.shape
        return shape

    @classmethod
    def of(cls, values: np.ndarray[Any, Any]) -> "Tensor":
        """Wrap an array under its own dtype; raises `MalformedTensor` if the format has no field for it."""
        if (name := values.dtype.name) not in _FIELDS:
            raise MalformedTensor(f"dtype {name!r} has no field in a state")
        return cls(name, values)

    def with_values(self, values: np.ndarray[Any, Any]) -> "Tensor":
        """Return a tensor of the same dtype with these numbers; integers are rounded, not truncated.

        A number that the dtype cannot hold becomes infinite, or wraps if the dtype is an integer.
        """
        new = np.empty(values.shape, _FIELDS[self.dtype].array)
        given, converted = values.reshape(-1), new.reshape(-1)
        for start in range(0, given.size, _AT_ONCE):
            converted[start : start + _AT_ONCE] = self._converted(given[start : start + _AT_ONCE])
        return Tensor(self.dtype, new)

    def _converted(self, values: _Array) -> _Array:
        kind = _FIELDS[self.dtype].array
        if not np.issubdtype(kind, np.floating):
            values = np.rint(values)
        with np.errstate(over="ignore", invalid="ignore"):
            cast = values.astype(kind)
        return _rounded_to_bfloat16(cast) if self.dtype == "bfloat16" else cast


@dataclass(frozen=True, slots=True)
class EncodedTensor:
    """A tensor whose numbers are still encoded: they fill its shape, but may not fit its dtype.

    `dtype` is that of the wire.
    """

    dtype: str
    shape: tuple[int, ...]
    _contents: Bytes | _Array

    @property
    def array_dtype(self) -> np.dtype[Any]:
        """The dtype of the decoded array: float32 for bfloat16, which NumPy does not have."""
        return np.dtype(_FIELDS[self.dtype].array)

    @property
    def nbytes(self) -> int:
        """Size of the decoded array in bytes."""
        return math.prod(self.shape) * self.array_dtype.itemsize

    def chunks(self) -> Iterator[_Array]:
        """Decode the numbers in order, in flat arrays of at most 512 KiB.

        Raises `MalformedTensor` if a number does not fit the dtype.
        """
        field = _FIELDS[self.dtype]
        if isinstance(self._contents, np.ndarray):
            yield self._contents
        elif field.packed:
            yield from _read_floats(self._contents, field)
        else:
            yield from _read_varints(self._contents, field)

    def decode(self) -> Tensor:
        """Decode the tensor; the result is a view if the numbers need no conversion.

        Raises `MalformedTensor` as `chunks` does.
        """
        field = _FIELDS[self.dtype]
        if field.packed and np.dtype(field.packed) == self.array_dtype:
            return Tensor(self.dtype, np.frombuffer(self._contents, field.packed).reshape(self.shape))
        flat = np.empty(math.prod(self.shape), self.array_dtype)
        end = 0
        for chunk in self.chunks():
            flat[end : end + chunk.size] = chunk
            end += chunk.size
        return Tensor(self.dtype, flat.reshape(self.shape))


def parse_state_tensor(message: pb.StateTensor, cut: Cut | None) -> EncodedTensor:
    """Check one tensor of a state, as `parse_tensor` does.

    Also raises `MalformedTensor` for a torch pickle, which is never opened because it can run code.
    """
    kind = message.WhichOneof("tensor")
    torch = message.torch_param.tensor if kind == "torch_param" else message.torch_tensor
    match torch.WhichOneof("contents"):
        case "contents_data":
            return parse_tensor(torch.contents_data, cut)
        case "contents_bin":
            raise MalformedTensor("a tensor is a torch pickle, which is not read here")
        case _:
            raise MalformedTensor("a tensor has no contents")


def read_tensor(data: pb.TensorData) -> Tensor:
    """Read a tensor. Raises `MalformedTensor` as `parse_tensor`, or if a number does not fit the dtype."""
    return parse_tensor(data).decode()


def parse_tensor(data: pb.TensorData, cut: Cut | None = None) -> EncodedTensor:
    """Check a tensor without decoding it; `cut` holds its numbers if they were cut out before parsing.

    Raises `MalformedTensor` if the dtype is unknown or quantized, a dimension is negative, the count of
    numbers does not match the shape, numbers are in the field of another dtype, or the message has unknown
    fields.
    """
    if data.is_quantized or (field := _FIELDS.get(data.dtype)) is None:
        raise MalformedTensor(f"dtype {data.dtype[:20]!r} is not supported")
    shape = _shape(data)
    if len(UnknownFieldSet(data)):
        raise MalformedTensor("a tensor holds fields that are unknown")
    filled = {field.number: field.name for field, _ in data.ListFields() if field.name.startswith(_CONTENTS)}
    if cut is not None:
        filled[cut.field] = data.DESCRIPTOR.fields_by_number[cut.field].name
    if filled.keys() - {_number(data.dtype)}:
        # SwiftSyft writes float32, and leaves the numbers that it has downloaded in the field of their dtype.
        raise MalformedTensor(f"a tensor of {data.dtype} holds numbers in {', '.join(filled.values())}")
    contents = getattr(data, _CONTENTS + data.dtype)
    if cut is not None:
        contents = cut.contents
    elif field.packed:
        contents = contents[0] if len(contents) == 1 else b"".join(contents)
    else:
        contents = _from_list(contents, field)
    if (count := _count(contents, field)) != math.prod(shape):
        raise MalformedTensor(f"{count} numbers do not fill the shape {list(shape)}")
    return EncodedTensor(data.dtype, shape, contents)


def write_tensor(tensor: Tensor, data: pb.TensorData) -> Packed | None:
    """Fill an empty message with a tensor. Its numbers are left out of the message and returned."""
    field = _FIELDS[tensor.dtype]
    data.dtype = tensor.dtype
    data.shape.dims.extend(tensor.shape)
    flat = tensor.values.reshape(-1)
    if flat.size == 0:
        return None
    if field.packed:
        size = flat.size * np.dtype(field.packed).itemsize
        return Packed(_number(tensor.dtype), size, _packed_floats(flat, field.packed))
    size = sum(int(_lengths(numbers).sum()) for numbers in _as_unsigned(flat))
    return Packed(_number(tensor.dtype), size, (_varints(numbers) for numbers in _as_unsigned(flat)))


def _shape(data: pb.TensorData) -> tuple[int, ...]:
    dims = data.shape.dims
    if any(dim < 0 for dim in dims):
        raise MalformedTensor("a dimension is negative")
    # The sizes that NumPy refuses. Checked first: multiplying millions of dimensions takes minutes.
    if len(dims) > _MOST_DIMENSIONS or math.prod(dim or 1 for dim in dims) > _MOST_NUMBERS:
        raise MalformedTensor(f"no array has the shape {list(dims[:8])}")
    return tuple(dims)


def _number(dtype: str) -> int:
    number: int = pb.TensorData.DESCRIPTOR.fields_by_name[_CONTENTS + dtype].number
    return number


def _from_list(numbers: Any, field: _Field) -> _Array:
    try:
        return np.fromiter(numbers, dtype=field.array, count=len(numbers))
    except OverflowError as error:
        raise MalformedTensor(f"a number does not fit the dtype: {error}") from error


def _count(contents: Bytes | _Array, field: _Field) -> int:
    """Return how many numbers the contents hold, without decoding them."""
    if isinstance(contents, np.ndarray):
        return contents.size
    if field.packed is None:
        octets = np.frombuffer(contents, np.uint8)
        ends = (octets[start : start + _AT_ONCE] < _MORE for start in range(0, octets.size, _AT_ONCE))
        return sum(int(np.count_nonzero(each)) for each in ends)
    count, rest = divmod(len(contents), np.dtype(field.packed).itemsize)
    if rest:
        raise MalformedTensor("packed numbers end in the middle of one")
    return count


def _read_floats(contents: Bytes, field: _Field) -> Iterator[_Array]:
    numbers = np.frombuffer(contents, field.packed)
    for start in range(0, numbers.size, _AT_ONCE):
        with np.errstate(over="ignore"):
            yield numbers[start : start + _AT_ONCE].astype(field.array, copy=False)


def _packed_floats(flat: _Array, packed: str) -> Iterator[memoryview]:
    for start in range(0, flat.size, _AT_ONCE):
        yield np.ascontiguousarray(flat[start : start + _AT_ONCE], packed).view(np.uint8).data


def _read_varints(contents: Bytes, field: _Field) -> Iterator[_Array]:
    octets = np.frombuffer(contents, np.uint8)
    start = 0
    while start < octets.size:
        piece = octets[start : start + _AT_ONCE]
        last = np.flatnonzero(piece < _MORE)
        if not last.size:
            raise MalformedTensor("packed numbers end in the middle of one")
        yield _fitting(_decoded(piece, last), field)
        start += int(last[-1]) + 1


def _decoded(octets: _Array, last: _Array) -> _Array:
    """Decode the varints whose last bytes are at `last`; 64 bits each, as protobuf reads them."""
    lengths = np.diff(last, prepend=-1)
    if (longest := int(lengths.max())) > _LONGEST:
        raise MalformedTensor("a packed number has more than 64 bits")
    first = last - lengths + 1
    numbers = np.zeros(last.size, np.uint64)
    for position in range(longest):
        which = np.flatnonzero(lengths > position)
        bits = (octets[first[which] + position] & 0x7F).astype(np.uint64)
        numbers[which] |= bits << np.uint64(7 * position)
    return numbers


def _fitting(numbers: _Array, field: _Field) -> _Array:
    """Convert 64 bits each to the dtype as protobuf and NumPy do: 32 are kept where protobuf keeps 32."""
    kept = numbers.astype(field.varint)
    if field.array is np.bool_:
        return kept
    limits = np.iinfo(np.dtype(field.array))
    if kept.min() < limits.min or kept.max() > limits.max:
        raise MalformedTensor(f"a number does not fit the dtype {limits.dtype}")
    return kept.astype(field.array, copy=False)


def _as_unsigned(flat: _Array) -> Iterator[_Array]:
    """Yield whole numbers as the 64 bits of their varints: a negative number has all upper bits set."""
    for start in range(0, flat.size, _AT_ONCE):
        yield flat[start : start + _AT_ONCE].astype(np.int64).view(np.uint64)


def _lengths(numbers: _Array) -> _Array:
    """Return the size of each number's varint in bytes."""
    lengths = np.ones(numbers.size, np.intp)
    for length in range(1, _LONGEST):
        lengths += numbers >> np.uint64(7 * length) > 0
    return lengths


def _varints(numbers: _Array) -> memoryview:
    lengths = _lengths(numbers)
    first = np.cumsum(lengths) - lengths
    octets = np.empty(int(lengths.sum()), np.uint8)
    for position in range(int(lengths.max())):
        which = np.flatnonzero(lengths > position)
        bits = (numbers[which] >> np.uint64(7 * position)).astype(np.uint8) & np.uint8(0x7F)
        octets[first[which] + position] = bits | np.where(lengths[which] > position + 1, _MORE, 0).astype(
            np.uint8
        )
    return octets.data


def _rounded_to_bfloat16(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Round to 8 significant bits, ties to even; infinities and NaN stay unchanged."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(values), rounded.view(np.float32), values).astype(np.float32)
