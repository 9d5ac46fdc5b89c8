import ipaddress
import socket

import pytest

from local_platform.ecs_agent import Ecs
from local_platform.network import NODE_PORT

pytestmark = pytest.mark.moto


@pytest.fixture
def services(aws):
    """Return the desired services of one node stack, by the stack's name."""
    ecs = Ecs.of(aws)
    return lambda stack: [service for service in ecs.desired_services() if stack in service.arn]


def test_each_load_balancer_has_its_own_address(node_stack):
    """Clients connect to `http://<output of the stack>:5000`; moto's own names don't resolve."""
    addresses = {node_stack(f"own{number}")[1] for number in range(3)}

    assert len(addresses) == 3
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses)


def test_node_can_listen_on_its_load_balancers_address(node_stack):
    _, address = node_stack("listen")
    server = socket.create_server((address, NODE_PORT))
    with server, socket.create_connection((address, NODE_PORT), timeout=5) as connection:
        assert connection.getpeername() == (address, NODE_PORT)


def test_service_has_the_load_balancer_of_its_stack(aws, node_stack, services):
    """moto drops the template's load balancers, and the agent would not know where to listen."""
    stack, address = node_stack("leads")
    (service,) = services(stack)

    assert Ecs.of(aws).address(service) == address


@pytest.mark.parametrize("spot", [False, True], ids=["on demand", "spot"])
def test_service_is_desired_on_any_capacity(aws, node_stack, services, spot):
    """A capacity provider, and no launch type, says where the service runs; here that is this machine."""
    stack, _ = node_stack("capacity", spot=spot)
    (service,) = services(stack)
    container = Ecs.of(aws).container(service.definition)

    assert container.image == "artificien/pygrid-node:1"


def test_service_is_deleted_with_its_stack(aws, node_stack, services):
    """moto leaves the service active."""
    stack, _ = node_stack("goes")
    before = services(stack)
    aws.client("cloudformation").delete_stack(StackName=stack)

    assert len(before) == 1
    assert services(stack) == []


def test_stack_can_be_created_again_after_its_deletion(aws, node_stack, services):
    """A node is launched and retired many times."""
    stack, _ = node_stack("again")
    aws.client("cloudformation").delete_stack(StackName=stack)
    node_stack("again")

    assert len(services(stack)) == 1
