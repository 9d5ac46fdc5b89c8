"""WebSocket frames: what RFC 6455 requires of a server, and what it forbids to a client."""

import asyncio
import json

import aiohttp
import pytest

from pygrid_node.transport.messages import REPORT
from tests.pygrid_node.transport import wire

PING = json.dumps({"type": "socket-ping"}).encode()
PONG = b'{"alive": "True"}'


def address(client):
    return f"{client.host}:{client.port}"


def answers_to(serve, data, count=1):
    """Return what the server sends after the handshake when it receives `data`, until it closes."""

    async def story():
        async with serve() as client, wire.websocket(address(client), data) as (reader, _):
            return await reader.readexactly(count)

    return asyncio.run(story())


VIOLATIONS = {
    "no mask": b"\x81\x02{}",
    "reserved bit": b"\xc1\x80" + bytes(4),
    "unknown opcode": wire.frame(b"{}", 3),
    "unknown control opcode": wire.frame(b"", 11),
    "continuation of nothing": wire.frame(b"{}", 0),
    "new message in a message": wire.frame(b"{", last=False) + wire.frame(b"}"),
    "new binary message in an empty one": wire.frame(b"", last=False) + wire.frame(b"{}", 2),
    "ping in fragments": wire.frame(b"", 9, last=False),
    "long ping": wire.frame(b"x" * 126, 9),
    "not a frame": b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
}


@pytest.mark.parametrize("data", VIOLATIONS.values(), ids=VIOLATIONS)
def test_violation_closes_the_connection(serve, data):
    """The close code is 1002."""

    async def story():
        async with serve() as client, wire.websocket(address(client), data) as (reader, writer):
            code = await wire.close_frame(reader)
            writer.write_eof()
            return code, await reader.read()

    assert asyncio.run(story()) == ((aiohttp.WSCloseCode.PROTOCOL_ERROR, ""), b"")


def test_message_may_be_fragmented_with_pings_in_between(serve):
    """Fragments may be empty; each ping is answered at once, with its content."""
    data = [
        wire.frame(b"", last=False),
        wire.frame(b"one", 9),
        wire.frame(PING[:5], 0, last=False),
        wire.frame(b"", 10),
        wire.frame(b"x" * 125, 9),
        wire.frame(PING[5:], 0),
    ]
    expected = b"\x8a\x03one" + b"\x8a\x7d" + b"x" * 125 + bytes([0x81, len(PONG)]) + PONG

    assert answers_to(serve, b"".join(data), len(expected)) == expected


@pytest.mark.parametrize("opcode", [1, 2])
@pytest.mark.parametrize("pause", [1, 3, 7])
def test_frame_may_arrive_byte_by_byte(serve, opcode, pause):
    """With a real mask, in text and binary frames."""
    mask = b"\x01\x82\x43\xff"
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(PING))
    data = bytes([0x80 | opcode, 0x80 | len(PING)]) + mask + masked

    async def story():
        async with serve() as client, wire.websocket(address(client)) as (reader, writer):
            for start in range(0, len(data), pause):
                writer.write(data[start : start + pause])
                await writer.drain()
                await asyncio.sleep(0.001)
            return (await reader.readexactly(2 + len(PONG)))[2:]

    assert asyncio.run(story()) == PONG


def test_frame_may_follow_the_handshake_in_one_packet(serve):
    """Clients need not wait for the node's side of the handshake."""

    async def story():
        async with serve() as client:
            request = wire.head("GET", "/", *wire.handshake()) + wire.frame(PING)
            async with wire.connected(address(client), request) as (reader, _):
                await reader.readuntil(b"\r\n\r\n")
                return (await reader.readexactly(2 + len(PONG)))[2:]

    assert asyncio.run(story()) == PONG


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 32 * 1024 + 1, 300_001])
def test_message_of_any_size_is_unmasked(serve, recorder, size):
    """aiohttp's client uses a random mask; the answer tells lengths in each of three forms."""
    text = "".join(chr(33 + number % 90) for number in range(size)).replace('"', "-").replace("\\", "-")

    async def story():
        async with serve() as client, client.ws_connect("/") as socket:
            await socket.send_json({"type": REPORT, "data": {"diff": text, "refuse": "r" * size}})
            return (await socket.receive_json())["data"]

    answer = asyncio.run(story())
    diff = recorder.messages[0][1]["diff"]

    assert answer == {"error": "r" * size or "Internal error of the node."}
    assert len(diff) == size
    assert not isinstance(diff, str) or diff == text


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [(b"", b"\x88\x00"), (b"\x03\xe8bye", b"\x88\x02\x03\xe8"), (b"\x0f\xa0", b"\x88\x02\x0f\xa0")],
)
def test_close_is_answered_with_its_code(serve, sent, echoed):
    """Then the node disconnects."""

    async def story():
        async with (
            serve() as client,
            wire.websocket(address(client), wire.frame(sent, 8) + wire.frame(PING)) as (reader, _),
        ):
            return await reader.read()

    assert asyncio.run(story()) == echoed


HANDSHAKES = {
    "no key": ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"],
    "short key": [*wire.handshake()[:3], "Sec-WebSocket-Key: AAAA"],
    "key that is not base64": [*wire.handshake()[:3], "Sec-WebSocket-Key: !"],
    "unknown version": ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {wire.KEY}"],
    "no connection header": [wire.handshake()[0], *wire.handshake()[2:]],
    "body": [*wire.handshake(), "Content-Length: 1", "", "x"],
}


@pytest.mark.parametrize("headers", HANDSHAKES.values(), ids=HANDSHAKES)
def test_request_that_is_no_handshake_is_refused(serve, headers):
    """The answer is a 400 in JSON."""

    async def story():
        async with (
            serve() as client,
            wire.connected(address(client), wire.head("GET", "/", *headers)) as (reader, _),
        ):
            status, _, body = await wire.response(reader)
            return status, json.loads(body)

    assert asyncio.run(story()) == (400, {"error": "This is not the handshake of a WebSocket."})
