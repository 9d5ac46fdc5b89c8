"""Resources of nodes, listed without CloudFormation."""

import boto3
import pytest
from botocore.stub import Stubber

from orchestration.domain.errors import Upstream
from orchestration.domain.node import ListedStack, NodeStack, StackPhase
from orchestration.provisioning.node_resources import AwsNodeResources

N1, N2 = "n" + "1" * 20, "n" + "2" * 20
ELB = "arn:aws:elasticloadbalancing:us-east-1:1"
BALANCER = f"{ELB}:loadbalancer/app/artificien-node-0a1b2c3d-4e5f/50dc6c495c0c9188"
TARGETS = f"{ELB}:targetgroup/artificien-node-0a1b2c3d-4e5f/73e2d6bc24d8a067"
SERVICE = f"arn:aws:ecs:us-east-1:1:service/the-cluster/artificien-node-{N1}-3-ServiceD69D759B-519QED1H73KX"


def a_stack(node_id=N1, generation=3, uuid="0a1b2c3d-4e5f-11ee-8f0a-0e6f8a1b2c3d"):
    arn = f"arn:aws:cloudformation:us-east-1:1:stack/artificien-node-{node_id}-{generation}/{uuid}"
    return ListedStack(node_id, generation, 0.0, NodeStack(StackPhase.USABLE, arn))


@pytest.fixture
def clients():
    """Clients of ECS and ELB whose calls reach no server."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return [boto3.client(name, region_name="us-east-1", **keys) for name in ("ecs", "elbv2")]


@pytest.fixture
def resources(clients):
    return AwsNodeResources(*clients, "artificien-node")


def test_resource_of_a_listed_stack_is_not_outside(resources):
    """Load balancer and target group have digits of the stack's id in their name, the service its name."""
    assert resources.outside([BALANCER, TARGETS, SERVICE], [a_stack(N2, uuid="f-f"), a_stack()]) == set()


@pytest.mark.parametrize(
    ("stack", "outside"),
    [
        (a_stack(generation=33, uuid="f-f"), {BALANCER, TARGETS, SERVICE}),
        (a_stack(uuid="f-f"), {BALANCER, TARGETS}),
        (a_stack(node_id=N2), {SERVICE}),
    ],
    ids=["another generation", "a stack of the same name", "another node"],
)
def test_resource_of_no_listed_stack_is_outside(resources, stack, outside):
    assert resources.outside([BALANCER, TARGETS, SERVICE], [stack]) == outside


def test_all_pages_are_read_and_other_resources_left_out(resources, clients):
    """The operator's own, and those of the service, which have other names."""
    ecs, elb = (Stubber(client) for client in clients)
    other = BALANCER.replace("node-0a1b2c3d-4e5f", "orchestration")
    elb.add_response(
        "describe_load_balancers", {"LoadBalancers": [{"LoadBalancerArn": other}], "NextMarker": "2"}, {}
    )
    elb.add_response(
        "describe_load_balancers", {"LoadBalancers": [{"LoadBalancerArn": BALANCER}]}, {"Marker": "2"}
    )
    elb.add_response("describe_target_groups", {"TargetGroups": [{"TargetGroupArn": TARGETS}]}, {})
    ecs.add_response("list_clusters", {"clusterArns": ["a", "b"]}, {})
    ecs.add_response(
        "list_services", {"serviceArns": ["arn:aws:ecs:us-east-1:1:service/a/web"]}, {"cluster": "a"}
    )
    ecs.add_response("list_services", {"serviceArns": [SERVICE]}, {"cluster": "b"})
    with ecs, elb:
        assert resources.all() == {BALANCER, TARGETS, SERVICE}
        ecs.assert_no_pending_responses()
        elb.assert_no_pending_responses()


def test_refusal_is_upstream(resources, clients):
    """An operator without the permission reads one line."""
    with Stubber(clients[1]) as elb:
        elb.add_client_error("describe_load_balancers", "AccessDenied", "no")
        with pytest.raises(
            Upstream, match="would not list the nodes' load balancers and services: AccessDenied"
        ):
            resources.all()
