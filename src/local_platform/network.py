"""Ports, addresses and answers on this machine."""

import random
import socket
from collections.abc import Container

import requests

LOOPBACK = "127.0.0.1"
NODE_PORT = 5000
"""Where a node's load balancer listens; clients add it to the name they are given."""
ATTEMPTS = 200


class PortTakenError(Exception):
    """Somebody else listens there."""


class NoAddressError(Exception):
    """No loopback address can be had for a node."""


def claim_port(port: int, option: str) -> int:
    """Return `port`, or any free one for 0. Raises PortTakenError, naming the option that changes it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise PortTakenError(
                f"Port {port} can't be used: {error.strerror}. Choose another with {option}."
            ) from error
        return int(probe.getsockname()[1])


def free_address(taken: Container[str]) -> str:
    """Return a loopback address on which port 5000 is free now, outside 127.0.0.0/24 and `taken`.

    It is drawn at random among 16 million, since another platform on this machine draws as well.
    Raises NoAddressError.
    """
    draw = random.SystemRandom()
    for _ in range(ATTEMPTS):
        address = f"127.{draw.randint(1, 254)}.{draw.randint(0, 255)}.{draw.randint(1, 254)}"
        if address not in taken and _is_free(address):
            return address
    raise NoAddressError(
        f"Port {NODE_PORT} is free on no address of 127.0.0.0/8; does something listen on 0.0.0.0?"
    )


def _is_free(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, NODE_PORT))
        except OSError:
            return False
        return True


def answers(url: str) -> bool:
    """Whether somebody answers at `url` with a good status, within two seconds."""
    with direct() as session:
        try:
            return session.get(url, timeout=2).ok
        except requests.RequestException:
            return False


def direct() -> requests.Session:
    """Return an HTTP session without the operator's proxies and .netrc: nothing here leaves the machine."""
    session = requests.Session()
    session.trust_env = False
    return session
