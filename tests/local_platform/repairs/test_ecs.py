import pytest

from local_platform.containers import Ecs

pytestmark = pytest.mark.moto


@pytest.fixture
def services(aws):
    """Return the wanted services of one node stack, by the stack's name."""
    ecs = Ecs.of(aws)
    return lambda stack: [service for service in ecs.wanted() if stack in service.arn]


def test_service_leads_to_the_balancer_of_its_stack(aws, node_stack, services):
    """Stock moto drops the template's balancers, and the agent could not tell where to listen."""
    stack, address = node_stack("leads")
    (service,) = services(stack)

    assert Ecs.of(aws).address(service) == address


@pytest.mark.parametrize("spot", [False, True], ids=["on demand", "spot"])
def test_service_is_wanted_on_whichever_capacity(aws, node_stack, services, spot):
    """Its capacity provider says where it runs, no launch type; here that is this machine."""
    stack, _ = node_stack("capacity", spot=spot)
    (service,) = services(stack)
    container = Ecs.of(aws).container(service.definition)

    assert container.image == "artificien/pygrid-node:1"


def test_service_goes_with_its_stack(aws, node_stack, services):
    """Stock moto leaves it active for ever."""
    stack, _ = node_stack("goes")
    before = services(stack)
    aws.client("cloudformation").delete_stack(StackName=stack)

    assert len(before) == 1
    assert services(stack) == []


def test_stack_can_be_made_again_after_it_went(aws, node_stack, services):
    """A node comes up and goes down many times."""
    stack, _ = node_stack("again")
    aws.client("cloudformation").delete_stack(StackName=stack)
    node_stack("again")

    assert len(services(stack)) == 1
