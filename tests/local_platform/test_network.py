import ipaddress
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from local_platform import network
from local_platform.network import (
    NODE_PORT,
    NoAddressError,
    PortTakenError,
    answers,
    claim_port,
    direct,
    free_address,
)


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


def test_first_block_of_loopback_is_left_alone():
    """127.0.0.x is where everything else on a machine listens."""
    drawn = [ipaddress.ip_address(free_address(())) for _ in range(50)]

    assert all(address.is_loopback for address in drawn)
    assert not any(address in ipaddress.ip_network("127.0.0.0/24") for address in drawn)


def test_taken_addresses_are_not_drawn_again():
    """Two balancers of one AWS must differ even while neither has a node."""

    class All:
        def __contains__(self, _address):
            return True

    with pytest.raises(NoAddressError):
        free_address(All())


def test_address_in_use_is_not_drawn(monkeypatch):
    """Where somebody listens on 0.0.0.0:5000, no address is left, and the message says what to look for."""
    monkeypatch.setattr(network, "_is_free", lambda _address: False)

    with pytest.raises(NoAddressError, match=r"0\.0\.0\.0"):
        free_address(())


def test_port_in_use_is_noticed():
    """By trying it."""
    address = free_address(())
    with socket.create_server((address, NODE_PORT)):
        assert not network._is_free(address)
