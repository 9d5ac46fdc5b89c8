"""Malformed requests to the service, byte by byte over a socket of gunicorn: JSON, and no traceback."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.moto

ROOT = Path(__file__).parents[1]
HEAD = b"POST /model_loss HTTP/1.1\r\nHost: service.test\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LOSS = b'{"model_id": "m", "loss": 1}'


@dataclass(frozen=True)
class Service:
    """A gunicorn with the settings of production, without AWS; its log, with access log."""

    port: int
    log: Path

    def send(self, *parts: bytes) -> list[tuple[int, dict[str, str], bytes]]:
        """Send the parts, end the request's direction, and return the answers: status, headers, body."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while data := connection.recv(65536):
                received += data
        return list(answers_in(received))


def answers_in(received: bytes) -> Iterator[tuple[int, dict[str, str], bytes]]:
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers["content-length"])
        yield int(status.split()[1]), headers, rest[:length]
        received = rest[length:]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    lines = (ROOT / "docker" / "check.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    given |= {"BIND": f"127.0.0.1:{port}", "WEB_CONCURRENCY": "1", "ACCESS_LOG": "-"}
    log = tmp_path_factory.mktemp("service") / "service.log"
    command = [sys.executable, "-m", "gunicorn", "-c", "python:orchestration.gunicorn_conf"]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*command, "orchestration.wsgi:app"],
            env=os.environ | given,
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )
    service = Service(port, log)
    try:
        deadline = time.monotonic() + 60
        while not answers_at(service):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield service
    finally:
        process.terminate()
        process.wait(30)


def answers_at(service: Service) -> bool:
    try:
        return bool(service.send(b"GET / HTTP/1.1\r\nHost: service.test\r\nConnection: close\r\n\r\n"))
    except OSError:
        return False


def chunk(data: bytes, size: bytes | None = None) -> bytes:
    return (b"%x" % len(data) if size is None else size) + b"\r\n" + data + b"\r\n"


def with_length(length: bytes, body: bytes = LOSS, *headers: bytes) -> bytes:
    lines = [b"Content-Length: " + length, *headers]
    return HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


END = b"0\r\n\r\n"
BODIES = {
    "a chunk size that is not hexadecimal": CHUNKED + chunk(LOSS, b"xyz") + END,
    "a negative chunk size": CHUNKED + chunk(LOSS, b"-5") + END,
    "a chunk size with a sign": CHUNKED + chunk(LOSS, b"+1c") + END,
    "a chunk size with 0x": CHUNKED + chunk(LOSS, b"0x1c") + END,
    "a chunk size with an underscore": CHUNKED + chunk(LOSS, b"1_c") + END,
    "a chunk size with a space": CHUNKED + chunk(LOSS, b" 1c") + END,
    "no chunk size": CHUNKED + chunk(LOSS, b"") + END,
    "a chunk size of 10,000 digits": CHUNKED + chunk(LOSS, b"0" * 10_000) + END,
    "an endless chunk size": CHUNKED + b"1" * 100_000,
    "a bad chunk extension": CHUNKED + chunk(LOSS, b"1c;\x01=\x02") + END,
    "a chunk that is shorter than its size": CHUNKED + chunk(LOSS, b"ff") + END,
    "a chunk that is longer than its size": CHUNKED + chunk(LOSS, b"5") + END,
    "a huge chunk size": CHUNKED + chunk(LOSS, b"f" * 15),
    "no final chunk": CHUNKED + chunk(LOSS),
    "half a final chunk": CHUNKED + chunk(LOSS) + b"0\r\n",
    "a bare line feed": CHUNKED + b"1c\n" + LOSS + b"\n0\n\n",
    "a bad trailer": CHUNKED + chunk(LOSS) + b"0\r\nbad trailer\r\n\r\n",
    "no chunk at all": CHUNKED,
    "half a chunk size": CHUNKED + b"1",
    "a second chunk that is bad": CHUNKED + chunk(LOSS) + b"zz\r\n",
    "a body that is shorter than its length": with_length(b"100"),
    "no body": with_length(b"28", b""),
    "a negative length": with_length(b"-28"),
    "a length with a sign": with_length(b"+28"),
    "a length that is no number": with_length(b"many"),
    "a length in hexadecimal": with_length(b"0x1c"),
    "a length that is a fraction": with_length(b"28.0"),
    "a length of Arabic digits": with_length("٢٨".encode()),
    "a length of 5,000 digits": with_length(b"9" * 5000),
    "an empty length": with_length(b""),
    "two lengths": with_length(b"28", LOSS, b"Content-Length: 5"),
    "a list of lengths": with_length(b"28, 5"),
    "a length and chunks": with_length(b"28", chunk(LOSS) + END, b"Transfer-Encoding: chunked"),
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + chunk(LOSS) + END,
    "invalid UTF-8": with_length(b"4", b'"\xff"}'),
    "deep lists": with_length(b"200000", b"[" * 200_000),
    "a NUL outside of a string": with_length(b"3", b"{\0}"),
    "no JSON": with_length(b"5", b"hello"),
    "a space in a header's name": HEAD + b"Bad Name: x\r\n\r\n",
    "a header without a colon": HEAD + b"nothing\r\n\r\n",
    "a folded header": HEAD + b"X-A: 1\r\n 2\r\n\r\n",
    "a NUL in a header": HEAD + b"X-A: \0\r\n\r\n",
    "no method": b"/model_loss HTTP/1.1\r\n\r\n",
    "a version of HTTP that does not exist": b"POST /model_loss HTTP/9.9\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", BODIES.values(), ids=BODIES)
def test_malformed_request_is_refused_in_json(service: Service, request_bytes: bytes):
    """With status 400 and the key `error`; the service logs no traceback and goes on."""
    before = service.log.stat().st_size
    answers = service.send(request_bytes)

    assert [status for status, *_ in answers] == [400]
    for _, headers, body in answers:
        assert headers["content-type"] == "application/json"
        assert json.loads(body).keys() == {"error"}
    assert_no_traceback(service, before)
    assert answers_at(service)


def assert_no_traceback(service: Service, start: int = 0) -> None:
    with service.log.open("rb") as log:
        log.seek(start)
        assert not re.search(rb"Traceback|request\.crashed|\[ERROR\]|exc_info", log.read())


OTHERS = {
    "an unknown coding": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + LOSS, {400}),
    "an unknown coding after chunks": (HEAD + b"Transfer-Encoding: chunked, x\r\n\r\n" + END, {501}),
    "a long request line": (b"POST /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", {414}),
    "a long header": (HEAD + b"X-A: " + b"x" * 10_000 + b"\r\n\r\n", {431}),
    "too many headers": (HEAD + b"X-A: x\r\n" * 200 + b"\r\n", {431}),
    "an unknown expectation": (with_length(b"28", LOSS, b"Expect: a miracle"), {417}),
    "a large body": (with_length(b"300000", b"x" * 300_000), {413}),
    "a large body in one chunk": (CHUNKED + chunk(b"x" * 300_000) + END, {413}),
    "a large body in many chunks": (CHUNKED + chunk(b"{" + b" " * 999) * 300 + END, {413}),
    "a JSON object with a large end": (CHUNKED + chunk(LOSS + b" " * 300_000) + END, {413}),
    "a compressed body": (with_length(b"28", LOSS, b"Content-Encoding: gzip"), {415}),
    "a body compressed by Brotli": (with_length(b"28", LOSS, b"content-encoding: BR, identity"), {415}),
    "malformed chunks without a credential": (
        b"POST /create HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        {401},
    ),
}


@pytest.mark.parametrize(("request_bytes", "statuses"), OTHERS.values(), ids=OTHERS)
def test_other_refusals_are_json(service: Service, request_bytes: bytes, statuses: set[int]):
    """Also where gunicorn refuses the request, or the body was not read."""
    before = service.log.stat().st_size
    first, *others = service.send(request_bytes)

    assert first[0] in statuses
    assert {status for status, *_ in others} <= {400}
    for _, headers, body in (first, *others):
        assert headers["content-type"] == "application/json"
        assert json.loads(body).keys() == {"error"}
    assert_no_traceback(service, before)


ACCEPTED = {
    "one chunk": CHUNKED + chunk(b"[1]") + END,
    "many chunks": CHUNKED + b"".join(chunk(b"%c" % letter) for letter in b"[1]") + END,
    "a chunk extension": CHUNKED + chunk(b"[1]", b"3;a=b") + END,
    "a trailer": CHUNKED + chunk(b"[1]") + b"0\r\nX-A: 1\r\n\r\n",
    "a length": with_length(b"3", b"[1]"),
    "the identity coding": with_length(b"3", b"[1]", b"Content-Encoding: identity"),
}


@pytest.mark.parametrize("request_bytes", ACCEPTED.values(), ids=ACCEPTED)
def test_well_formed_body_is_read(service: Service, request_bytes: bytes):
    """The refusal is about its content."""
    ((status, _, body),) = service.send(request_bytes.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    assert (status, json.loads(body)["error"]) == (400, "body: Input should be an object.")


def test_bytes_after_a_malformed_body_are_no_request(service: Service):
    """Where the next request begins is unknown; taking it for one would let a caller smuggle requests."""
    smuggled = CHUNKED + chunk(LOSS, b"zz") + b"GET / HTTP/1.1\r\nHost: service.test\r\n\r\n"

    assert [status for status, *_ in service.send(smuggled)] == [400]


def test_body_that_breaks_off_is_no_error_of_the_service(service: Service):
    """A phone may lose its connection at any time."""
    before = service.log.stat().st_size
    for request_bytes in (CHUNKED + b"1c\r\n{", with_length(b"28", b"{")):
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(request_bytes)
            time.sleep(0.2)
    assert answers_at(service)
    assert_no_traceback(service, before)
