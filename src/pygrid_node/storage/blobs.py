"""Models, diffs and plans as they lie in the database: in parts of a size that memory does not notice.

A blob's first part is in its own row, the others in a table of parts. Each part says how it is packed. What
begins otherwise was kept by a version that packed nothing, and is read as it is: no protobuf message begins
with a zero.

Measured on 20 MB of float32, the share that is left and MB/s in and out. Trained weights: zlib 0.93 (32,
231), lz4 1.00, zstd 0.92 (847, 1272), zstd after a byte shuffle 0.84 (627, 3478). Diffs, as differences of
neighbouring float32 numbers: zstd 0.77, shuffled 0.63 (419, 1340). The shuffle puts the first bytes of all
numbers together, then the second ones: signs and exponents are alike, the rest is noise. It costs a network
that is mostly zeros a little (0.37 to 0.43), and text more, so plans and small blobs go without.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard

from pygrid_wire import Bytes

PART = 1024**2
"""Bytes of a blob, not yet packed, in one part."""

_HEAD = struct.Struct(">BQ")  # a zero; the blob's size in bytes
_LEVEL = 1
_SMALLEST = 1024  # bytes below which packing saves nothing worth a call
_SHUFFLED_FROM = 64 * 1024  # bytes; what is smaller has as much structure as numbers
_WORTH_IT = 0.9  # of the size that may be left
_RAW, _ZSTD, _SHUFFLED = 0, 1, 2
_LANES = 4  # bytes of a float32; two numbers of float64 or half a number make no difference to correctness


@dataclass(frozen=True, slots=True)
class Packed:
    """A blob that is ready to be kept: the part for its own row, and the others in order."""

    first: bytes
    others: tuple[bytes, ...]


class Blob:
    """A blob that is read part by part; may be iterated over again."""

    def __init__(self, first: bytes, other: Callable[[int], bytes | None]) -> None:
        """Read part `number` (from 1) with `other`, None if it has gone meanwhile."""
        self._is_packed = first[:1] == b"\0"
        self._first = first
        self._other = other
        self.size: int = _HEAD.unpack_from(first)[1] if self._is_packed else len(first)
        """Bytes in all."""

    def __iter__(self) -> Iterator[Bytes]:
        """The parts, unpacked; raises `Gone` where the blob was deleted while it was read."""
        if not self._is_packed:
            yield self._first
            return
        yield _unpacked(memoryview(self._first)[_HEAD.size :])
        for number in range(1, -(-self.size // PART)):
            if (part := self._other(number)) is None:
                raise Gone
            yield _unpacked(memoryview(part))

    def read(self) -> Bytes:
        """The whole of it, with no more than one part beside it in memory. Raises `Gone`."""
        if self.size <= PART:
            return b"".join(self)
        body = bytearray(self.size)
        end = 0
        for part in self:
            body[end : end + len(part)] = part
            end += len(part)
        return body


class Gone(Exception):
    """A blob was deleted while it was read."""


def pack(pieces: Iterable[Bytes]) -> Packed:
    """Pack a blob that comes in pieces of any size."""
    size, parts, packing = 0, [], _Packing(_SHUFFLED_FROM)
    for part in _parts(pieces):
        size += len(part)
        parts.append(packing.pack(part))
    first, *others = parts or [bytes([_RAW])]
    return Packed(_HEAD.pack(0, size) + first, tuple(others))


def pack_plan(body: bytes) -> bytes:
    """Pack what always fits into its own row."""
    return _HEAD.pack(0, len(body)) + _Packing(None).pack(body)


def unpack_plan(kept: bytes) -> bytes:
    """What `pack_plan` was given."""
    return bytes(_unpacked(memoryview(kept)[_HEAD.size :])) if kept[:1] == b"\0" else kept


class _Packing:
    """Packs the parts of one blob; once a large part gained nothing, it tries no longer."""

    def __init__(self, shuffled_from: int | None) -> None:
        self._shuffled_from = shuffled_from
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._pays = True

    def pack(self, part: Bytes) -> bytes:
        if self._pays and len(part) >= _SMALLEST:
            shuffled = self._shuffled_from is not None and len(part) >= self._shuffled_from
            kind, data = (_SHUFFLED, _shuffle(part)) if shuffled else (_ZSTD, part)
            packed: bytes = self._compressor.compress(data)
            if len(packed) <= _WORTH_IT * len(part):
                return bytes([kind]) + packed
            self._pays = False
        return bytes([_RAW]) + part


def _unpacked(part: memoryview) -> Bytes:
    kind, data = part[0], part[1:]
    if kind == _RAW:
        return data
    unpacked: bytes = zstandard.ZstdDecompressor().decompress(data)
    return _unshuffle(unpacked) if kind == _SHUFFLED else unpacked


def _parts(pieces: Iterable[Bytes]) -> Iterator[Bytes]:
    """The same bytes in pieces of `PART`, the last one shorter."""
    rest = b""
    for piece in pieces:
        view, start = memoryview(piece), 0
        while len(rest) + len(view) - start >= PART:
            end = start + PART - len(rest)
            yield b"".join((rest, view[start:end])) if rest else view[start:end]
            rest, start = b"", end
        rest = b"".join((rest, view[start:]))
    if rest:
        yield rest


def _shuffle(data: Bytes) -> bytes:
    lanes = np.frombuffer(data, np.uint8, len(data) // _LANES * _LANES).reshape(-1, _LANES)
    return lanes.T.tobytes() + bytes(memoryview(data)[lanes.size :])


def _unshuffle(data: bytes) -> bytes:
    lanes: np.ndarray[Any, Any] = np.frombuffer(data, np.uint8, len(data) // _LANES * _LANES)
    return lanes.reshape(_LANES, -1).T.tobytes() + data[lanes.size :]
