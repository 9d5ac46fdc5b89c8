"""Load balancers: moto's have a DNS name that resolves nowhere."""

from typing import Any

from moto.elbv2.models import ELBv2Backend

from local_platform.network import free_address


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
