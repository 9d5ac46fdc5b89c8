"""The real `CloudFormationNodeStacks` and `CfnHelper`, unchanged, on the fake CloudFormation."""

from dataclasses import replace

import pytest

from orchestration.domain.errors import NodeUnreachable, StackFailed, Upstream
from orchestration.domain.node import ABSENT_STACK, Node, NodeStatus, StackPhase, node_id_of
from orchestration.domain.ports import NodeCredential
from orchestration.provisioning.cfn_helper import CfnHelper
from orchestration.provisioning.ecs_tasks import EcsTasks
from orchestration.provisioning.node_shape import NodeShape
from orchestration.provisioning.orchestration_helper import CloudFormationNodeStacks
from tests.builders import a_model
from tests.fakes import Census, Creation, FakeEcs, FakeNodeServer, Fate, Operator

NODE = Node(node_id_of("heart-rate"), "heart-rate", generation=1)
CREDENTIAL = NodeCredential("n1", "the node's password")
SECRET = "arn:aws:secretsmanager:us-east-1:000000000000:secret:artificien/node/n1-AbCdEf"


@pytest.fixture
def aws(account, clock):
    """Return a function that creates the client and the port on it."""

    def make(fate=None, **settings):
        client = account(fate, **settings)
        stacks = CloudFormationNodeStacks(
            client,
            EcsTasks(FakeEcs(client)),
            prefix="artificien-node",
            cluster_stack="artificien-cluster",
            shape=NodeShape("node:1"),
            clock=clock,
            sleep=clock.tick,
        )
        return client, stacks

    return make


def test_node_is_launched_answers_and_is_deleted(aws, clock):
    """Its stack is absent by name and by ARN, and no resource is left."""
    client, stacks = aws()
    server = FakeNodeServer(client)
    before = stacks.describe(NODE)
    arn = stacks.launch(NODE, SECRET)
    node = replace(NODE, stack_id=arn)
    creating = stacks.describe(node)
    clock.tick(150)
    up = stacks.describe(node)
    answered = server.answers(up.address, node.node_id), server.answers(up.address, "another")
    client.delete_stack(StackName=arn)
    deleting = stacks.describe(node)
    still_answers = server.answers(up.address, node.node_id)
    clock.tick(60)

    assert before == ABSENT_STACK
    assert (creating.phase, creating.address) == (StackPhase.CREATING, None)
    assert (up.phase, up.stack_id, answered) == (StackPhase.USABLE, arn, (True, False))
    assert (deleting.phase, still_answers) == (StackPhase.DELETING, False)
    assert stacks.describe(NODE) == ABSENT_STACK
    assert stacks.describe(node).phase is StackPhase.ABSENT
    assert (Census(client.account).of_node(node.node_id), Census(client.account).leaks()) == ([], [])


def test_node_returns_its_model_while_it_answers(aws, clock):
    """A silent node is unreachable."""
    client, stacks = aws()
    server = FakeNodeServer(client)
    node = Node(node_id_of(a_model().dataset_id), a_model().dataset_id, generation=1)
    stacks.launch(node, SECRET)
    clock.tick(150)
    address = stacks.describe(node).address

    assert server.trained_model(address, a_model(), CREDENTIAL) == server.state
    server.silent = True
    with pytest.raises(NodeUnreachable):
        server.trained_model(address, a_model(), CREDENTIAL)


def test_each_generation_has_another_address(aws, clock):
    """The former address reaches no node."""
    _, stacks = aws()
    for generation in (1, 2):
        stacks.launch(replace(NODE, generation=generation), SECRET)
    clock.tick(150)

    first, second = (stacks.describe(replace(NODE, generation=n)).address for n in (1, 2))
    assert first != second


def test_launch_is_idempotent(aws):
    """Its token identifies it; a launch with another secret finds the stack."""
    client, stacks = aws()
    arn = stacks.launch(NODE, SECRET)

    assert stacks.launch(NODE, SECRET) == arn
    assert stacks.launch(NODE, f"{SECRET}-another") is None
    assert Census(client.account).most_at_once(NODE.node_id) == 1


def test_failed_launch_has_its_first_failure(aws, clock):
    """Cancelled resources are consequences."""
    client, stacks = aws(Fate(creation=Creation.FAILS, fails_at="Target", reason="No more target groups"))
    arn = stacks.launch(NODE, SECRET)
    clock.tick(30)
    failing = stacks.describe(NODE)
    clock.tick(60)

    assert failing.phase is StackPhase.FAILING
    assert stacks.describe(NODE).phase is StackPhase.BROKEN
    assert CfnHelper(client).first_failure(arn) == "Target3191CF44: No more target groups"


def test_lagging_description_is_not_absence(aws, clock):
    """A launched stack may become visible ten seconds later."""
    _, stacks = aws(lag=lambda: 10.0)
    with pytest.raises(StackFailed, match="absent: deploy it first"):  # the cluster isn't seen yet, either
        stacks.launch(NODE, SECRET)
    clock.tick(10)
    deploying = replace(NODE, stack_id=stacks.launch(NODE, SECRET), status=NodeStatus.DEPLOYING)
    unseen = stacks.describe(deploying).phase
    clock.tick(10)

    assert unseen is not StackPhase.ABSENT
    assert stacks.describe(deploying).phase is StackPhase.CREATING


def test_new_status_is_unknown(aws):
    """CloudFormation may add statuses."""
    client, stacks = aws()
    stacks.launch(NODE, SECRET)
    Operator(client).put(client.account.all[-1].name, "WHAT_NEXT")

    assert stacks.describe(NODE).phase is StackPhase.UNKNOWN


def test_throttling_is_upstream(aws):
    """It doesn't count as a failed launch."""
    client, stacks = aws()
    client.throttle = lambda operation: operation == "create_stack"

    with pytest.raises(Upstream, match="Rate exceeded") as caught:
        stacks.launch(NODE, SECRET)
    assert not isinstance(caught.value, StackFailed)


def test_helper_waits_on_the_fake_clock(aws, clock):
    """`CfnHelper.wait` sleeps by advancing the clock."""
    client, stacks = aws()
    arn = stacks.launch(NODE, SECRET)
    began = clock()

    stack = CfnHelper(client, clock=clock, sleep=clock.tick).wait(arn, deadline=600, pause=7)
    assert (stack.status, clock() - began) == ("CREATE_COMPLETE", 154)
