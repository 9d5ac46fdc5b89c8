import ipaddress
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from local_platform import LocalPlatformError
from local_platform.network import NODE_PORT, answers, available_port, direct_session, free_address, is_free


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


def test_available_port_stays_free():
    """The port is only probed."""
    port = available_port(0, "--port")

    assert port > 0
    assert available_port(port, "--port") == port


def test_port_in_use_is_refused_with_the_option_to_change_it():
    """Another program may use the default port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        with pytest.raises(LocalPlatformError, match=f"Port {port} can't be used.*--aws-port"):
            available_port(port, "--aws-port")


def test_success_is_an_answer(url):
    assert answers(url)


def test_server_error_is_no_answer(url):
    """The server listens, but it can't be used yet."""
    assert not answers(f"{url}/broken")


def test_refused_connection_is_no_answer():
    assert not answers(f"http://127.0.0.1:{available_port(0, '--port')}")


def test_operators_proxy_is_not_used(url, monkeypatch):
    """Requests stay on this machine."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with direct_session() as session:
        assert session.get(url, timeout=5).ok


def test_free_address_is_outside_the_first_block_of_loopback():
    """Other programs listen on 127.0.0.x."""
    found = [ipaddress.ip_address(free_address(())) for _ in range(50)]

    assert all(address.is_loopback for address in found)
    assert not any(address in ipaddress.ip_network("127.0.0.0/24") for address in found)


def test_used_address_is_not_returned_again():
    """Two load balancers get different addresses even before their nodes run."""

    class Everything:
        def __contains__(self, _address):
            return True

    with pytest.raises(LocalPlatformError):
        free_address(Everything())


def test_no_free_address_is_an_error():
    """A program that listens on 0.0.0.0:5000 occupies every address."""
    with pytest.raises(LocalPlatformError, match=r"0\.0\.0\.0"):
        free_address((), is_free=lambda _address: False)


def test_address_in_use_is_not_free():
    address = free_address(())
    with socket.create_server((address, NODE_PORT)):
        assert not is_free(address)
