"""Ports, loopback addresses and HTTP on this machine."""

import random
import socket
from collections.abc import Callable, Container

import requests

from local_platform import LocalPlatformError

LOOPBACK = "127.0.0.1"
NODE_PORT = 5000
"""Port of every node. Clients add it to the host name that `/create` and `/info` return."""
ATTEMPTS = 200


def available_port(port: int, option: str) -> int:
    """Return `port`, or a free one for 0.

    Raises LocalPlatformError if the port is in use; `option` is the command line's option that changes it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            message = f"Port {port} can't be used: {error.strerror}. Choose another one with {option}."
            raise LocalPlatformError(message) from error
        return int(probe.getsockname()[1])


def is_free(address: str) -> bool:
    """Return whether nothing listens on the nodes' port of this address."""
    with socket.socket() as probe:
        try:
            probe.bind((address, NODE_PORT))
        except OSError:
            return False
        return True


def free_address(used: Container[str], is_free: Callable[[str], bool] = is_free) -> str:
    """Return a loopback address for a node: not `used`, outside 127.0.0.0/24, with the nodes' port free.

    The address is random, because another platform on this machine may choose one at the same time.
    Raises LocalPlatformError if no address is found.
    """
    generator = random.SystemRandom()
    for _ in range(ATTEMPTS):
        octets = generator.randint(1, 254), generator.randint(0, 255), generator.randint(1, 254)
        address = "127.{}.{}.{}".format(*octets)
        if address not in used and is_free(address):
            return address
    raise LocalPlatformError(
        f"Port {NODE_PORT} is free on no loopback address. Does a program listen on 0.0.0.0:{NODE_PORT}?"
    )


def answers(url: str) -> bool:
    """Return whether a GET of `url` succeeds within two seconds."""
    with direct_session() as session:
        try:
            return session.get(url, timeout=2).ok
        except requests.RequestException:
            return False


def direct_session() -> requests.Session:
    """Return an HTTP session without the operator's proxies and .netrc: requests stay on this machine."""
    session = requests.Session()
    session.trust_env = False
    return session
