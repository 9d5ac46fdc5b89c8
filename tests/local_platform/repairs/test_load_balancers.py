import ipaddress
import socket

import pytest

from local_platform.network import NODE_PORT

pytestmark = pytest.mark.moto


def test_each_balancer_has_an_address_of_its_own(node_stack):
    """Clients dial `http://<output of the stack>:5000`; stock moto gives a name that resolves nowhere."""
    addresses = {node_stack(f"own{number}")[1] for number in range(3)}

    assert len(addresses) == 3
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses)


def test_a_server_can_listen_on_the_balancers_address(node_stack):
    """The node of the stack will."""
    _, address = node_stack("listen")
    server = socket.create_server((address, NODE_PORT))
    with server, socket.create_connection((address, NODE_PORT), timeout=5) as connection:
        assert connection.getpeername() == (address, NODE_PORT)
