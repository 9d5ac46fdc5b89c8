"""Large WebSocket frames, each in one buffer.

A model comes as one frame of hexadecimal digits. aiohttp keeps the reads of a frame, joins them, copies that
to unmask it, and copies it once more: three times the frame, all at its end and on the event loop. Here a
large frame is unmasked into one buffer as it comes in; aiohttp sees a short one in its place.
"""

import secrets
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from aiohttp import web

from pygrid_node.errors import NodeError
from pygrid_node.longtext import Frame

if TYPE_CHECKING:
    from pygrid_wire import Bytes

LARGE = 1024**2
"""Bytes from which on a frame is large."""

_TEXT, _BINARY, _FIN, _MASKED = 1, 2, 0x80, 0x80
_LENGTHS = {126: struct.Struct(">H"), 127: struct.Struct(">Q")}
_MASK = 4  # bytes
_TILE = 65536  # masks in a row, to unmask with


class MessageTooLarge(NodeError):
    """A message of more bytes than the setting allows."""

    def __init__(self, limit: int) -> None:
        """Name the limit, in bytes."""
        super().__init__(f"A message to this node has at most {limit} bytes (its setting MAX_MESSAGE_BYTES).")


class Socket(web.WebSocketResponse[bool]):
    """aiohttp's, with large frames taken off before they reach its parser."""

    def __init__(self, *, max_frame: int, **options: Any) -> None:
        """Read over frames of more than `max_frame` bytes."""
        super().__init__(max_msg_size=max_frame, decode_text=False, **options)
        self._max_frame = max_frame
        self._intake: Intake | None = None

    def _post_start(self, request: web.BaseRequest, protocol: str | None, writer: Any) -> None:
        connection: Any = request.protocol
        # What came in behind the handshake has to pass the intake as well.
        early, connection._message_tail = connection._message_tail, b""
        super()._post_start(request, protocol, writer)
        self._intake = connection._payload_parser = Intake(connection._payload_parser, self._max_frame)
        self._intake.feed_data(early)

    def contents(self, data: bytes) -> Frame:
        """What a frame really held; raises `MessageTooLarge`. To be asked once."""
        assert self._intake is not None  # noqa: S101 - a frame comes after the start
        return self._intake.taken(data)


class Intake:
    """Parses frames as far as is needed to find the large ones; hands all others on as they are."""

    def __init__(self, reader: Any, limit: int) -> None:
        """Hand on to `reader`; keep at most `limit` bytes of a frame."""
        self._reader = reader
        self._limit = limit
        self._nonce = secrets.token_hex(16)
        self._frames: dict[bytes, bytearray | None] = {}
        self._count = 0
        self._head = b""
        self._left = 0  # bytes of the frame that comes in
        self._large: _Large | None = None

    def feed_eof(self) -> None:
        """The connection has ended."""
        self._reader.feed_eof()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes from the connection; aiohttp's way to say whether it has to end."""
        view = memoryview(bytes(data))
        failed, tail = False, b""
        while len(view) and not failed:
            passed: Bytes
            if not self._left:
                view, passed = self._begin(view)
            elif self._large is None:
                passed, view = view[: self._left], view[self._left :]
                self._left -= len(passed)
            else:
                view, passed = self._collect(view)
            if len(passed):
                failed, tail = self._reader.feed_data(bytes(passed))
        return failed, tail

    def taken(self, data: bytes) -> Frame:
        """See `Socket.contents`."""
        if data not in self._frames:
            return data
        if (body := self._frames.pop(data)) is None:
            raise MessageTooLarge(self._limit)
        return body

    def _begin(self, view: memoryview) -> tuple[memoryview, bytes]:
        """Add to the header of the frame that begins; the rest, and what is to be handed on."""
        missing = _header_size(self._head) - len(self._head)
        self._head, view = self._head + view[:missing], view[missing:]
        if len(self._head) < _header_size(self._head):
            return view, b""
        head, self._head = self._head, b""
        size = _payload_size(head)
        whole = head[0] & _FIN and head[0] & 0x7F in (_TEXT, _BINARY) and head[1] & _MASKED
        self._left = size
        if not whole or size < min(LARGE, self._limit):
            return view, head
        self._large = _Large(head[-_MASK:], is_kept=size <= self._limit)
        return view, b""

    def _collect(self, view: memoryview) -> tuple[memoryview, bytes]:
        """Take bytes of a large frame; the rest, and, after the last one, a frame that stands for it."""
        assert self._large is not None  # noqa: S101
        part, view = view[: self._left], view[self._left :]
        self._large.add(part)
        self._left -= len(part)
        if self._left:
            return view, b""
        self._count += 1
        name = f"{self._nonce}-{self._count}".encode()
        self._frames[name] = self._large.body
        self._large = None
        return view, bytes([_FIN | _TEXT, len(name)]) + name


class _Large:
    """A large frame that comes in."""

    def __init__(self, mask: bytes, *, is_kept: bool) -> None:
        self.body = bytearray() if is_kept else None
        self._tile = np.frombuffer(mask * _TILE, np.uint8)

    def add(self, part: memoryview) -> None:
        if self.body is None:
            return
        while len(part):
            shift = len(self.body) % _MASK
            piece = np.frombuffer(part[: self._tile.size - shift], np.uint8)
            self.body += (piece ^ self._tile[shift : shift + piece.size]).data
            part = part[piece.size :]


def _header_size(head: bytes) -> int:
    """Bytes of the header, as far as what there is of it says."""
    if len(head) < 2:
        return 2
    length = _LENGTHS.get(head[1] & 0x7F)
    return 2 + (length.size if length else 0) + (_MASK if head[1] & _MASKED else 0)


def _payload_size(head: bytes) -> int:
    if length := _LENGTHS.get(head[1] & 0x7F):
        size: int = length.unpack_from(head, 2)[0]
        return size
    return head[1] & 0x7F
