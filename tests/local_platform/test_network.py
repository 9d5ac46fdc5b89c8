import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from local_platform.network import PortTakenError, answers, claim_port, direct


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_free_port_is_itself():
    """Claiming only looks, so it stays free."""
    port = claim_port(0, "--port")

    assert port > 0
    assert claim_port(port, "--port") == port


def test_port_in_use_is_refused_with_the_way_out():
    """One line, for somebody who has another program there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        with pytest.raises(PortTakenError, match=f"Port {port} can't be used.*--aws-port"):
            claim_port(port, "--aws-port")


def test_good_answer_counts(url):
    """The server is up."""
    assert answers(url)


def test_bad_answer_does_not_count(url):
    """It listens, but isn't well."""
    assert not answers(f"{url}/broken")


def test_silence_does_not_count():
    """Nobody listens there."""
    assert not answers(f"http://127.0.0.1:{claim_port(0, '--port')}")


def test_operators_proxy_is_not_used(url, monkeypatch):
    """Requests to this machine must not leave it."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with direct() as session:
        assert session.get(url, timeout=5).ok
