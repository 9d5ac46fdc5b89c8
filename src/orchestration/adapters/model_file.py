"""A trained model as files that are made while they are read: they are never in memory as a whole.

The libraries `safetensors` and `pickle` write complete files only. The tests compare these files with theirs.
"""

import io
import json
import pickle
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from orchestration.domain.entities import Model
from orchestration.domain.errors import UnusableModel
from orchestration.domain.ports import State
from pygrid_wire import EncodedTensor, MalformedState, MalformedTensor, parse_state

_DTYPES = {  # the order of tensors in a file
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "int32": "I32",
    "float16": "F16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_ORDER = list(_DTYPES)
_PIECE = 256 * 1024  # bytes


class StreamedFile(io.RawIOBase):
    """A file of `size` bytes that is never in memory as a whole: `pieces` produces it from the start."""

    def __init__(self, size: int, pieces: Callable[[], Iterable[memoryview]]) -> None:
        """Call `pieces` at the first read, and again after each seek."""
        self.size = size
        self._pieces = pieces
        self._position = 0
        self._unread: Iterator[memoryview] | None = None
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position and return it. botocore reads a file twice, for its checksum and to send it."""
        self._position = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        )
        self._unread = None
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the start of `buffer` and return the number of bytes, 0 at the end."""
        if self._unread is None:
            self._unread, self._piece = _from(self._position, self._pieces()), memoryview(b"")
        if not self._piece:
            self._piece = next(self._unread, self._piece)
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        self._position += count
        return count


def _from(position: int, pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    for piece in pieces:
        if position < len(piece):
            yield piece[position:]
        position = max(0, position - len(piece))


def state_file(state: State) -> StreamedFile:
    """Return the state as a file that does not copy it, as `io.BytesIO` would."""
    return StreamedFile(len(state), lambda: [memoryview(state)])


def pkl_file(state: State) -> StreamedFile:
    """Return the state as `torch.save(bytes)` of torch 1.4 writes it; later versions read it, too.

    It is a row of pickles: a magic number, the version of the format, the sizes of C's types, the bytes
    themselves, and the keys of the storages, of which there are none. Pickle's protocol 2 has no bytes: they
    are text in Latin-1 that is encoded again.
    """
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    head = b"".join(pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, system))
    length = sum(len(piece) for piece in _in_latin_1(state))
    start = head + b"\x80\x02c_codecs\nencode\nX" + length.to_bytes(4, "little")
    end = b"X\x06\x00\x00\x00latin1\x86R." + pickle.dumps([], protocol=2)
    return StreamedFile(
        len(start) + length + len(end),
        lambda: chain([memoryview(start)], _in_latin_1(state), [memoryview(end)]),
    )


def _in_latin_1(state: State) -> Iterator[memoryview]:
    """Yield the bytes as UTF-8 of the text that they are in Latin-1."""
    for position in range(0, len(state), _PIECE):
        piece = bytes(memoryview(state)[position : position + _PIECE])
        yield memoryview(piece.decode("latin-1").encode())


def safetensors_file(state: State, model: Model) -> StreamedFile:
    """Return a state as a safetensors file; its parameters, in order, are `param_000`, `param_001`, ...

    Every number is decoded once, to check it. Raises UnusableModel.
    """
    try:
        tensors = parse_state(state)
        for tensor in tensors:
            for _ in tensor.chunks():
                pass
    except (MalformedState, MalformedTensor) as error:
        raise UnusableModel(f"The trained model can't be read: {error}") from error
    named = {f"param_{position:03}": tensor for position, tensor in enumerate(tensors)}
    ordered = sorted(named, key=lambda name: (_ORDER.index(named[name].array_dtype.name), name))
    header = _header({name: named[name] for name in ordered}, model)
    size = len(header) + sum(tensor.nbytes for tensor in tensors)
    return StreamedFile(
        size, lambda: chain([memoryview(header)], *(_little_endian(named[name]) for name in ordered))
    )


def _header(tensors: dict[str, EncodedTensor], model: Model) -> bytes:
    """Return the size of the header, 8 bytes, and the header: JSON, padded to a multiple of 8."""
    entries: dict[str, object] = {"__metadata__": {"model_id": model.model_id, "version": model.version}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        dtype = _DTYPES[tensor.array_dtype.name]
        entries[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _little_endian(tensor: EncodedTensor) -> Iterator[memoryview]:
    for chunk in tensor.chunks():
        yield chunk.astype(chunk.dtype.newbyteorder("<"), copy=False).view("u1").data
