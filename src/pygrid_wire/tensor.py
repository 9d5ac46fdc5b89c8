"""Converts one tensor between its protobuf message and NumPy."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.unknown_fields import UnknownFieldSet

from pygrid_wire import syft_pb2 as pb

Bytes = bytes | bytearray | memoryview


class MalformedTensor(ValueError):
    """A tensor message without usable numbers; the text says why."""


class Cut(NamedTuple):
    """The contents of a packed field, taken out of a message before it was parsed; `field` is its number."""

    field: int
    contents: memoryview


class _Field(NamedTuple):
    """How `TensorData` stores the numbers of one dtype."""

    array: type[np.generic]  # what NumPy calculates with
    packed: str | None = None  # NumPy's name for one number in a packed field, None for a list of numbers


# NumPy has no bfloat16: its numbers are float32 here, and rounded again when they are written.
_FIELDS = {
    "uint8": _Field(np.uint8),
    "int8": _Field(np.int8),
    "int16": _Field(np.int16),
    "int32": _Field(np.int32),
    "int64": _Field(np.int64),
    "float16": _Field(np.float16, "<f4"),
    "float32": _Field(np.float32, "<f4"),
    "float64": _Field(np.float64, "<f8"),
    "bfloat16": _Field(np.float32, "<f4"),
    "bool": _Field(np.bool_),
}


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
        kind = _FIELDS[self.dtype].array
        if not np.issubdtype(kind, np.floating):
            values = np.rint(values)
        with np.errstate(over="ignore", invalid="ignore"):
            cast = values.astype(kind)
        return Tensor(self.dtype, _rounded_to_bfloat16(cast) if self.dtype == "bfloat16" else cast)


def read_state_tensor(message: pb.StateTensor, cut: Cut | None) -> Tensor:
    """Read one tensor of a state, as `read_tensor` does.

    Also raises `MalformedTensor` for a torch pickle, which is never opened because it can run code.
    """
    kind = message.WhichOneof("tensor")
    torch = message.torch_param.tensor if kind == "torch_param" else message.torch_tensor
    match torch.WhichOneof("contents"):
        case "contents_data":
            return read_tensor(torch.contents_data, cut)
        case "contents_bin":
            raise MalformedTensor("a tensor is a torch pickle, which is not read here")
        case _:
            raise MalformedTensor("a tensor has no contents")


def read_tensor(data: pb.TensorData, cut: Cut | None = None) -> Tensor:
    """Read a tensor; `cut` holds its numbers if they were cut out before parsing.

    Raises `MalformedTensor` if the dtype is unknown or quantized, a dimension is negative, the count of
    numbers does not match the shape, a number does not fit the dtype, or the message has unknown fields.
    """
    if data.is_quantized or (field := _FIELDS.get(data.dtype)) is None:
        raise MalformedTensor(f"dtype {data.dtype!r} is not supported")
    if any(dim < 0 for dim in data.shape.dims):
        raise MalformedTensor("a dimension is negative")
    if len(UnknownFieldSet(data)):
        raise MalformedTensor("a tensor holds fields that are unknown")
    name = f"contents_{data.dtype}"
    contents = getattr(data, name)
    if cut is not None and cut.field == data.DESCRIPTOR.fields_by_name[name].number:
        contents = [cut.contents]
    flat = _from_packed(contents, field) if field.packed else _from_numbers(contents, field)
    shape = tuple(data.shape.dims)
    if flat.size != math.prod(shape):
        raise MalformedTensor(f"{flat.size} numbers do not fill the shape {list(shape)}")
    try:
        return Tensor(data.dtype, flat.reshape(shape))
    except ValueError as error:  # more than 64 dimensions, or a size beyond the address space
        raise MalformedTensor(f"no array has the shape {list(shape)[:8]}") from error


def write_tensor(tensor: Tensor, data: pb.TensorData) -> Cut | None:
    """Fill an empty message with a tensor. Packed numbers are left out of the message and returned."""
    field = _FIELDS[tensor.dtype]
    data.dtype = tensor.dtype
    data.shape.dims.extend(tensor.shape)
    name = f"contents_{tensor.dtype}"
    if tensor.values.size == 0:
        return None
    if field.packed is None:
        getattr(data, name).extend(tensor.values.ravel().tolist())
        return None
    numbers = np.ascontiguousarray(tensor.values, field.packed).reshape(-1).view(np.uint8)
    return Cut(data.DESCRIPTOR.fields_by_name[name].number, numbers.data)


def _from_packed(chunks: Any, field: _Field) -> np.ndarray[Any, Any]:
    packed = np.dtype(field.packed)
    raw = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if len(raw) % packed.itemsize:
        raise MalformedTensor("packed numbers end in the middle of one")
    with np.errstate(over="ignore"):
        return np.frombuffer(raw, packed).astype(field.array, copy=False)


def _from_numbers(numbers: Any, field: _Field) -> np.ndarray[Any, Any]:
    try:
        return np.fromiter(numbers, dtype=field.array, count=len(numbers))
    except OverflowError as error:
        raise MalformedTensor(f"a number does not fit the dtype: {error}") from error


def _rounded_to_bfloat16(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Round to 8 significant bits, ties to even; infinities and NaN stay unchanged."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(values), rounded.view(np.float32), values).astype(np.float32)
