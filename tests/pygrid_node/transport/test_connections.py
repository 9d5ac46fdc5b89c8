"""Connections: their number, and requests that are no HTTP, on a real node."""

import asyncio
import contextlib
import gzip
import json
import zlib

import pytest

from pygrid_node.transport.messages import AUTHENTICATE, REPORT
from tests.pygrid_node.transport import wire

pytestmark = pytest.mark.moto

BUSY = {"error": "The node is busy with other messages. Try again in a minute."}
ENCODED = {"error": "This node accepts no Content-Encoding: send the body as it is."}
BODY_ENDS = {"error": "The body of the request ends too early, or its chunks are malformed."}
OBJECT = b'{"worker_id": "x"}'


async def answer_to(address, *parts, half_closed=False):
    """Send the parts one after the other; return status, headers and JSON of the first answer."""
    async with wire.connected(address) as (reader, writer):
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.01)
        if half_closed:
            writer.write_eof()
        status, headers, body = await wire.response(reader)
        assert headers["Content-Type"] == "application/json"
        return status, headers, json.loads(body)


@pytest.fixture(scope="module")
def node(tmp_path_factory, running_node, orchestrator_of_module):
    """One node for all requests."""
    node = running_node(tmp_path_factory.mktemp("node"), orchestrator_of_module)
    yield node
    node.close()


def posted(body, *headers, kind=REPORT):
    return wire.head("POST", f"/{kind}", f"Content-Length: {len(body)}", *headers) + body


def chunked(body, kind=REPORT):
    return wire.head("POST", f"/{kind}", "Transfer-Encoding: chunked") + body


def compressed(name, body):
    return posted(body, f"Content-Encoding: {name}")


REFUSED = {
    "gzip": (compressed("gzip", gzip.compress(OBJECT)), 415, ENCODED),
    "gzip, in capitals": (compressed("GZIP", gzip.compress(OBJECT)), 415, ENCODED),
    "bad gzip": (compressed("gzip", b"\x1f\x8bxxxx"), 415, ENCODED),
    "truncated gzip": (compressed("gzip", gzip.compress(OBJECT)[:-9]), 415, ENCODED),
    "deflate": (compressed("deflate", zlib.compress(OBJECT)), 415, ENCODED),
    "br": (compressed("br", OBJECT), 415, ENCODED),
    "zstd": (compressed("zstd", OBJECT), 415, ENCODED),
    "unknown encoding": (compressed("rot13", OBJECT), 415, ENCODED),
    "identity and gzip": (compressed("identity, gzip", OBJECT), 415, ENCODED),
    "gzip without a body": (compressed("gzip", b""), 415, ENCODED),
    "gzip as transfer encoding": (
        wire.head("POST", f"/{REPORT}", "Transfer-Encoding: gzip, chunked")
        + wire.chunk(gzip.compress(OBJECT))
        + b"0\r\n\r\n",
        400,
        None,
    ),
    "chunk of no hexadecimal size": (chunked(b"ZZ\r\nabc\r\n0\r\n\r\n"), 400, None),
    "chunk of a negative size": (chunked(b"-1\r\nabc\r\n0\r\n\r\n"), 400, None),
    "chunk that is longer than it says": (chunked(b"2\r\nabcdef\r\n0\r\n\r\n"), 400, None),
    "chunk of an enormous size": (chunked(b"f" * 20 + b"\r\nabc"), 400, None),
    "long trailers": (chunked(b"0\r\n" + b"A: b\r\n" * 1000 + b"\r\n"), 400, None),
    "two lengths": (
        wire.head("POST", f"/{REPORT}", "Content-Length: 2", "Content-Length: 3") + b"{}",
        400,
        None,
    ),
    "length and chunks": (
        wire.head("POST", f"/{REPORT}", "Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        400,
        None,
    ),
    "negative length": (wire.head("POST", f"/{REPORT}", "Content-Length: -2") + b"{}", 400, None),
    "length that is no number": (wire.head("POST", f"/{REPORT}", "Content-Length: two") + b"{}", 400, None),
    "enormous length": (wire.head("POST", f"/{REPORT}", "Content-Length: " + "9" * 30) + b"{}", 400, None),
    "length above the limit": (
        wire.head("POST", f"/{REPORT}", "Content-Length: 999999999") + b"{}",
        413,
        None,
    ),
    "no length": (wire.head("POST", f"/{REPORT}"), 400, None),
    "not UTF-8": (posted(b'{"worker_id": "\xff"}'), 400, None),
    "half of a surrogate pair": (posted(b'{"worker_id": "\\ud800"}'), 400, None),
    "half of a surrogate pair, in bytes": (posted(b'{"worker_id": "\xed\xa0\x80"}'), 400, None),
    "not JSON": (posted(b"worker_id=x"), 400, None),
    "truncated JSON": (posted(OBJECT[:-3]), 400, None),
    "two objects": (posted(OBJECT * 2), 400, None),
    "list": (posted(b"[]"), 400, {"error": "A JSON object is expected"}),
    "number": (posted(b"1"), 400, {"error": "A JSON object is expected"}),
    "null": (posted(b"null"), 400, {"error": "A JSON object is expected"}),
    "number with many digits": (posted(b'{"a": ' + b"9" * 10_000 + b"}"), 400, None),
    "deep lists": (posted(b"[" * 60_000), 400, None),
    "deep objects": (posted(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), 400, None),
    "deep lists in a long body": (posted(b"[" * 400_000), 400, None),
    "long list": (posted(b"[" + b"[]," * 700_000 + b"[]]"), 413, None),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, None),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, None),
    "unknown version": (b"GET / HTTP/3.9\r\nHost: node\r\n\r\n", 400, None),
    "long header": (wire.head("GET", "/", "X: " + "y" * 10_000), 400, None),
    "many headers": (wire.head("GET", "/", *["X: y"] * 1000), 400, None),
    "long path": (wire.head("GET", "/" + "x" * 10_000), 400, None),
}


@pytest.mark.parametrize(("request_", "status", "error"), REFUSED.values(), ids=REFUSED)
def test_request_that_is_refused_is_answered_in_json(node, request_, status, error):
    """It has the key `error` with a sentence, and the node goes on."""
    given, headers, answer = node.run(answer_to(node.address, request_))

    assert (given, list(answer)) == (status, ["error"])
    assert answer == error or (error is None and answer["error"])
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert node.http("GET", "/data-centric/status/").ok


@pytest.mark.parametrize("value", ["identity", "", "Identity", " identity ,identity"])
def test_body_that_is_not_encoded_is_accepted(node, value):
    """`identity` means so."""
    _, _, answer = node.run(answer_to(node.address, posted(OBJECT, f"Content-Encoding: {value}")))

    assert answer == {"error": "Worker ID not found!"}


INCOMPLETE = {
    "length": ([wire.head("POST", f"/{REPORT}", "Content-Length: 1000"), b'{"a": '], True),
    "small kind": ([wire.head("POST", f"/{AUTHENTICATE}", "Content-Length: 1000"), b'{"a": '], True),
    "whole chunk": ([chunked(b""), wire.chunk(b'{"a": ')], True),
    "part of a chunk": ([chunked(b""), b"f0\r\n{"], True),
    "bad chunk": ([chunked(wire.chunk(b'{"a": ')), b"ZZ\r\n"], False),
    "bad end of a chunk": ([chunked(b"2\r\n{}"), b"more"], False),
}


@pytest.mark.parametrize(("parts", "half_closed"), INCOMPLETE.values(), ids=INCOMPLETE)
def test_body_that_ends_in_the_middle_is_refused(node, parts, half_closed):
    """In one packet with the request, or when its handler waits already."""
    at_once, _, _ = node.run(answer_to(node.address, b"".join(parts), half_closed=half_closed))
    later, headers, answer = node.run(answer_to(node.address, *parts, half_closed=half_closed))

    assert (at_once, later, headers["Connection"], answer) == (400, 400, "close", BODY_ENDS)


@pytest.mark.parametrize("half_closed", [False, True], ids=["then garbage", "then nothing"])
def test_sample_of_a_speed_test_that_ends_in_the_middle_is_refused(node, recorded, half_closed):
    """It is discarded while it arrives, by a handler of its own."""
    node.upload(recorded(server_config__minimum_upload_speed=1))
    worker = node.worker("fixture-linear")
    path = f"/model-centric/speed-test?worker_id={worker.id}&random=1"
    parts = [wire.head("POST", path, "Transfer-Encoding: chunked"), wire.chunk(b"x" * 1000)]
    parts += [] if half_closed else [b"ZZ\r\n"]
    status, headers, answer = node.run(answer_to(node.address, *parts, half_closed=half_closed))

    assert (status, headers["Connection"], answer) == (400, "close", BODY_ENDS)


def test_complete_request_of_a_client_that_sends_nothing_more_is_answered(node):
    """It may close its side of the connection before it reads."""
    _, _, answer = node.run(answer_to(node.address, posted(OBJECT), half_closed=True))

    assert answer == {"error": "Worker ID not found!"}


def test_connection_above_the_limit_is_answered_503(start_node):
    """Health checks pass: a node that is full must not look dead. There is room when a client leaves."""
    node = start_node(max_connections=2)
    status = wire.head("GET", "/data-centric/status/")

    async def story():
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                _, last = await stack.enter_async_context(wire.websocket(node.address))
            report = await answer_to(node.address, posted(OBJECT))
            health, *_ = await answer_to(node.address, status)
            handshake, *_ = await answer_to(node.address, wire.head("GET", "/", *wire.handshake()))
            last.close()
            while (again := await answer_to(node.address, posted(OBJECT)))[0] == 503:
                await asyncio.sleep(0.01)
        return report, health, handshake, again[0]

    (refused, headers, answer), health, handshake, again = node.run(story())

    assert (refused, answer, headers["Retry-After"], headers["Connection"]) == (503, BUSY, "10", "close")
    assert (health, handshake, again) == (200, 503, 200)


def test_connection_far_above_the_limit_is_closed(start_node):
    """Without an answer, which costs memory."""
    node = start_node(max_connections=1)

    async def story():
        async with contextlib.AsyncExitStack() as stack:
            readers = []
            for _ in range(1 + 64 + 3):
                reader, _ = await stack.enter_async_context(wire.connected(node.address))
                readers.append(reader)
            return [await reader.read() for reader in readers[-3:]]

    assert node.run(story()) == [b""] * 3


def test_client_that_sends_many_requests_at_once_is_disconnected(node):
    """Their headers would be kept until each has its turn."""
    requests = 30 * wire.head("GET", "/data-centric/status/", *(f"X-{n}: {'y' * 1000}" for n in range(10)))

    async def story():
        async with wire.connected(node.address, requests) as (reader, _):
            with contextlib.suppress(ConnectionError):
                return await reader.read()
        return b""

    assert node.run(story()).count(b"HTTP/1.1 200") < 30
    assert node.http("GET", "/data-centric/status/").ok


def test_two_requests_at_once_are_answered_in_order(node):
    """HTTP allows to send them before the first answer."""
    paths = ["/data-centric/status/", "/data-centric/identity/"]

    async def story():
        data = b"".join(wire.head("GET", path) for path in paths)
        async with wire.connected(node.address, data) as (reader, _):
            return [json.loads((await wire.response(reader))[2]) for _ in paths]

    assert [list(answer)[1] for answer in node.run(story())] == ["status", "identity"]


def test_nothing_of_a_refused_request_is_logged_as_a_fault(node, capsys):
    """Anybody could fill the log."""
    for request, _, _ in REFUSED.values():
        node.run(answer_to(node.address, request))

    assert "failed" not in capsys.readouterr().out
