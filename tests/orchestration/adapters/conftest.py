"""Fixtures for the adapters' tests: a small HTTP server, and AWS clients without a server."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest

from tests.conftest import REGION


class Request(BaseHTTPRequestHandler):
    """A request; `answer` sends a complete response."""

    def do_GET(self) -> None:
        try:
            self.server.handle_one(self)  # type: ignore[attr-defined]
        except OSError:
            self.close_connection = True  # the client has closed the connection

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.begin(status, **{"Content-Length": str(len(body))} | headers)
        self.wfile.write(body)

    def begin(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Request], None]], str]]:
    """Serve HTTP on a free port of 127.0.0.1 until the test is over; returns the URL."""
    servers = []

    def start(handle: Callable[[Request], None]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
        server.handle_one = handle
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def session() -> boto3.Session:
    """A session whose clients need a Stubber, because no server answers them."""
    return boto3.Session("testing", "testing", region_name=REGION)
