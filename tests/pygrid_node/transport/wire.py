"""Bytes that no well-behaved client sends, and a client that sends them."""

import asyncio
import base64
import contextlib
import struct

KEY = base64.b64encode(bytes(16)).decode()


@contextlib.asynccontextmanager
async def connected(address, data=b""):
    """Connect to `host:port` and send `data`."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def websocket(address, data=b""):
    """Connect, shake hands, and send `data`."""
    request = head("GET", "/", *handshake())
    async with connected(address, request + data) as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        yield reader, writer


def handshake():
    return (
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY}",
    )


def head(method, path, *headers):
    """Return the beginning of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: node", *headers, "", ""]).encode()


def frame(body, opcode=1, *, last=True):
    """Return a masked frame."""
    return frame_head(len(body), opcode, last=last) + body


def frame_head(size, opcode=1, *, last=True):
    """Return the beginning of a masked frame of `size` bytes; a mask of zeros changes nothing."""
    first = opcode | 0x80 * last
    if size < 126:
        return bytes([first, 0x80 | size]) + bytes(4)
    if size < 65536:
        return struct.pack(">BBH", first, 0xFE, size) + bytes(4)
    return struct.pack(">BBQ", first, 0xFF, size) + bytes(4)


def chunk(body):
    """Return a chunk of a body without a length."""
    return f"{len(body):x}\r\n".encode() + body + b"\r\n"


async def received(reader):
    """Return the first byte and the content of a frame of less than 64 KiB from the server."""
    first, size = await reader.readexactly(2)
    if size == 126:
        (size,) = struct.unpack(">H", await reader.readexactly(2))
    return first, await reader.readexactly(size)


async def close_frame(reader):
    """Skip frames until the server closes the connection; return the code and the reason."""
    while True:
        first, body = await received(reader)
        if first == 0x88:
            return struct.unpack(">H", body[:2])[0], body[2:].decode()


async def response(reader):
    """Return the status, the headers and the body of an answer."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    body = await reader.readexactly(int(headers["Content-Length"]))
    return int(lines[0].split()[1]), headers, body
