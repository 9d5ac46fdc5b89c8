import ipaddress
import socket

import pytest

from local_platform.repairs import load_balancers
from local_platform.repairs.load_balancers import NODE_PORT, NoAddressError, free_address


@pytest.mark.moto
def test_each_balancer_has_an_address_of_its_own(node_stack):
    """Clients dial `http://<output of the stack>:5000`; stock moto gives a name that resolves nowhere."""
    addresses = {node_stack(f"own{number}")[1] for number in range(3)}

    assert len(addresses) == 3
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses)


@pytest.mark.moto
def test_a_server_can_listen_on_the_balancers_address(node_stack):
    """The node of the stack will."""
    _, address = node_stack("listen")
    server = socket.create_server((address, NODE_PORT))
    with server, socket.create_connection((address, NODE_PORT), timeout=5) as connection:
        assert connection.getpeername() == (address, NODE_PORT)


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
    monkeypatch.setattr(load_balancers, "_is_free", lambda _address: False)

    with pytest.raises(NoAddressError, match=r"0\.0\.0\.0"):
        free_address(())


def test_port_in_use_is_noticed():
    """By trying it."""
    address = free_address(())
    with socket.create_server((address, NODE_PORT)):
        assert not load_balancers._is_free(address)
