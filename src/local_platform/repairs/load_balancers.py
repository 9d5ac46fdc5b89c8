"""Load balancers: moto's have a DNS name that resolves nowhere."""

import random
import socket
from collections.abc import Container
from typing import Any

from moto.elbv2.models import ELBv2Backend

NODE_PORT = 5000
"""Where the node's listener stands; clients add it to the name they are given."""
ATTEMPTS = 200


class NoAddressError(Exception):
    """No loopback address can be had."""


def give_own_addresses() -> None:
    """Make each balancer's DNS name an address of its own, so that `http://<name>:5000` reaches its node.

    Whatever runs a balancer's targets here binds to that address.
    """
    create = ELBv2Backend.create_load_balancer
    taken: set[str] = set()

    def create_load_balancer(self: Any, *args: Any, **kwargs: Any) -> Any:
        balancer = create(self, *args, **kwargs)
        balancer.dns_name = free_address(taken)
        taken.add(balancer.dns_name)
        return balancer

    ELBv2Backend.create_load_balancer = create_load_balancer


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
