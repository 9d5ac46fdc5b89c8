"""The node's side of a WebSocket (RFC 6455), without extensions.

aiohttp reads a whole message, and the beginning of the next ones, before the application learns of it. Here
the application asks for a message, and its bytes are read when the budget has room for them: until then, the
transport is paused. aiohttp still does the handshake's HTTP and carries the bytes.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import struct
from dataclasses import dataclass

import numpy as np
from aiohttp import StreamReader, web

from pygrid_node.transport.intake import Incoming
from pygrid_wire import Bytes

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSIONS = frozenset({"7", "8", "13"})  # their frames are the same
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_OPCODES = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG})
_LAST, _RESERVED, _OPCODE, _MASKED, _LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F
_LONGEST_CONTROL = 125  # bytes
_MASK = 4  # bytes
_BUFFER = 32 * 1024  # bytes that are read at once; the transport is paused when twice as many wait
_NO_CODE = 1005  # of a close frame without a code


class Closed(Exception):
    """The client has closed the connection, or is gone."""


class ProtocolViolation(Exception):
    """The client sends what is no frame of a client."""


@dataclass(frozen=True, slots=True)
class _Header:
    opcode: int
    is_last: bool
    size: int
    mask: bytes


class WebSocket:
    """An open connection."""

    def __init__(self, request: web.Request, response: web.StreamResponse, stream: StreamReader) -> None:
        """Use `accept` instead."""
        self._request = request
        self.response = response
        self._stream = stream
        self.is_closing = False
        """Whether nothing more may be sent."""

    @classmethod
    async def accept(cls, request: web.Request) -> "WebSocket":
        """Shake hands. Raises `HTTPBadRequest` if the request is not the handshake of a WebSocket."""
        headers = {
            "Upgrade": "websocket",
            "Connection": "upgrade",
            "Sec-WebSocket-Accept": _accepted(request),
        }
        response = web.StreamResponse(status=101, headers=headers)
        response.force_close()
        await response.prepare(request)
        stream = StreamReader(request.protocol, _BUFFER, loop=asyncio.get_running_loop())
        request.protocol.keep_alive(False)
        request.protocol.set_parser(_Feed(stream))  # type: ignore[arg-type]
        return cls(request, response, stream)

    async def receive(self, message: Incoming) -> None:
        """Receive the next message into `message`; answer pings meanwhile.

        Raises `Closed`, `ProtocolViolation`, and the errors of `Incoming`.
        """
        while True:
            async with message.in_time():
                header = await self._header()
            if header.opcode & _CLOSE:
                await self._control(header)
                continue
            if message.has_begun is not (header.opcode == _CONTINUATION):
                raise ProtocolViolation
            await message.expect(header.size)
            await self._payload(message, header)
            if header.is_last:
                return

    async def send(self, text: str) -> None:
        """Send a message, unless the connection is being closed. Raises `Closed`."""
        if not self.is_closing:
            await self._write(_TEXT, text.encode())

    async def start_close(self, code: int, reason: str = "") -> None:
        """Ask the client to close the connection; nothing else is sent after that."""
        if not self.is_closing:
            self.is_closing = True
            payload = b"" if code == _NO_CODE else struct.pack(">H", code) + reason.encode()
            with contextlib.suppress(Closed):
                await self._write(_CLOSE, payload[:_LONGEST_CONTROL])

    async def discard(self) -> None:
        """Read and discard bytes until the client disconnects, so that it can read why it should."""
        while await self._stream.readany():
            pass

    def disconnect(self) -> None:
        """End the connection."""
        if self._request.transport is not None:
            self._request.transport.close()

    async def _header(self) -> _Header:
        first, second = await self._exactly(2)
        opcode, size = first & _OPCODE, second & _LENGTH
        is_last, is_control = bool(first & _LAST), bool(opcode & _CLOSE)
        if first & _RESERVED or opcode not in _OPCODES or not second & _MASKED:
            raise ProtocolViolation
        if is_control and (not is_last or size > _LONGEST_CONTROL):
            raise ProtocolViolation
        if size == 126:
            (size,) = struct.unpack(">H", await self._exactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self._exactly(8))
        return _Header(opcode, is_last, size, await self._exactly(_MASK))

    async def _payload(self, message: Incoming, header: _Header) -> None:
        done = 0
        while done < header.size:
            async with message.in_time():
                part = await self._stream.read(min(header.size - done, _BUFFER))
            if not part:
                raise Closed
            await message.add(_unmasked(part, header.mask, done))
            done += len(part)

    async def _control(self, header: _Header) -> None:
        payload = bytes(_unmasked(await self._exactly(header.size), header.mask, 0))
        if header.opcode == _PING and not self.is_closing:
            await self._write(_PONG, payload)
        elif header.opcode == _CLOSE:
            await self.start_close(struct.unpack_from(">H", payload)[0] if len(payload) >= 2 else _NO_CODE)
            raise Closed

    async def _exactly(self, count: int) -> bytes:
        try:
            return await self._stream.readexactly(count)
        except asyncio.IncompleteReadError as error:
            raise Closed from error

    async def _write(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        if size < 126:
            head = bytes([_LAST | opcode, size])
        elif size < 2**16:
            head = struct.pack(">BBH", _LAST | opcode, 126, size)
        else:
            head = struct.pack(">BBQ", _LAST | opcode, 127, size)
        try:
            await self.response.write(head + payload)
        except ConnectionError as error:
            raise Closed from error


class _Feed:
    """Passes what aiohttp receives to a stream, which pauses the transport."""

    def __init__(self, stream: StreamReader) -> None:
        self._stream = stream

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._stream.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        self._stream.feed_eof()


def _accepted(request: web.Request) -> str:
    """Return the proof that the handshake was understood. Raises `HTTPBadRequest`."""
    names = ",".join(request.headers.getall("Connection", [])).lower().split(",")
    key = request.headers.get("Sec-WebSocket-Key", "")
    try:
        is_key = len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        is_key = False
    has_version = request.headers.get("Sec-WebSocket-Version") in _VERSIONS
    is_upgrade = "upgrade" in (name.strip() for name in names) and not request.body_exists
    if not (is_key and has_version and is_upgrade):
        raise web.HTTPBadRequest(reason="This is not the handshake of a WebSocket.")
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()  # noqa: S324 - RFC 6455


def _unmasked(part: bytes, mask: bytes, position: int) -> Bytes:
    """Unmask a part of a frame that starts at `position`."""
    shift = position % _MASK
    tile = np.frombuffer(mask[shift:] + mask[:shift], np.uint8)
    return (np.frombuffer(part, np.uint8) ^ np.resize(tile, len(part))).data
