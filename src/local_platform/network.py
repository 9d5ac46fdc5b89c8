"""Ports and answers on this machine."""

import socket

import requests

LOOPBACK = "127.0.0.1"


class PortTakenError(Exception):
    """Somebody else listens there."""


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
