"""A launch and the node's database: it comes first, may be asleep, and outlives its node."""

import pytest

from orchestration.domain.errors import DatabaseWaking, Upstream
from orchestration.domain.node import NodeStatus, node_id_of
from tests.builders import DATASET, DEVELOPER, a_submission
from tests.fakes import Wire
from tests.processes import (
    BUDGET,
    DEADLINE,
    PASS,
    a_node_service,
    a_reconciler,
    attend,
    reconcile,
    request_node,
)

NODE = node_id_of(DATASET)


@pytest.fixture
def asked(world):
    """A world whose data scientist can ask for a node."""
    world.put(a_submission())
    return world


def ask(world):
    """Request a node, let the reconciler take a step, and return the next answer."""
    request_node(a_node_service(world))
    attend(world)
    return request_node(a_node_service(world))


def test_a_database_that_sleeps_is_not_waited_for_in_a_request(asked):
    """The answer comes at once, with the reason; no stack is launched for a node that couldn't start."""
    asked.node_databases.trouble = DatabaseWaking("The nodes' database is waking up.")
    answer = ask(asked)

    assert (answer.address, answer.reason) == (None, "The nodes' database is waking up.")
    assert asked.nodes.get(NODE).status is NodeStatus.DEPLOYING
    assert asked.stacks.launched == []


def test_a_launch_goes_on_once_the_database_is_awake(asked):
    """In the same generation, with the same secret; the reconciler alone is enough."""
    asked.node_databases.trouble = DatabaseWaking("The nodes' database is waking up.")
    ask(asked)
    a_reconciler(asked).run_pass()
    asked.node_databases.trouble = None
    reconcile(asked, passes=4)

    assert asked.nodes.get(NODE).status is NodeStatus.READY
    assert asked.stacks.launched == [(NODE, 1)]
    assert asked.secrets.made == 1
    assert asked.nodes.get(NODE).reason == ""


def test_a_database_in_trouble_is_told_about_and_tried_again(asked, logs):
    """A wrong secret, say: the operator reads it in the log, the data scientist in the answer."""
    asked.node_databases.trouble = Upstream("The nodes' database refused a call: InvalidSecretException.")
    answer = ask(asked)

    assert answer.reason == "The nodes' database refused a call: InvalidSecretException."
    assert [entry["event"] for entry in logs] == ["node.database_not_ready"]


def test_a_launch_that_waited_for_the_database_has_its_whole_time_left(asked):
    """Its deadline, and the time in which its stack may not be seen yet, count from the stack's launch."""
    asked.node_databases.trouble = DatabaseWaking("The nodes' database is waking up.")
    ask(asked)
    asked.clock.tick(DEADLINE - 1)
    asked.node_databases.trouble = None
    ask(asked)

    assert asked.nodes.get(NODE).launched_at == asked.clock.now


def test_a_launch_whose_database_never_wakes_comes_to_an_end(asked):
    """Its deadline counts from its claim; after three, who asked is told, and nothing is held."""
    asked.node_databases.trouble = Upstream("The nodes' database refused a call: InvalidSecretException.")
    ask(asked)
    reconcile(asked, passes=int(BUDGET.attempts * (DEADLINE + 120) // PASS) + 5)
    node = asked.nodes.get(NODE)

    assert node.status is NodeStatus.FAILED
    assert "InvalidSecretException" in node.failure
    assert (node.charged_to, asked.secrets.passwords) == (None, {})


def test_the_database_is_there_before_the_stack(asked):
    """A node that finds no database doesn't start, and ECS gives it up."""
    wire = Wire()
    ask(asked.through(wire))
    order = [
        call for call in wire.calls if call in ("secrets.ensure", "node_databases.ensure", "stacks.launch")
    ]

    assert order == ["secrets.ensure", "node_databases.ensure", "stacks.launch"]


def test_the_database_outlives_its_node(asked):
    """A retired node's unfinished models are found by its next generation, under a new password."""
    ask(asked)
    reconcile(asked, passes=4)
    first = asked.node_databases.logins[NODE]
    a_node_service(asked).retire(DATASET, caller=DEVELOPER, force=True)
    reconcile(asked, passes=6)
    kept = asked.node_databases.logins[NODE]
    ask(asked)
    second = asked.node_databases.logins[NODE]

    assert kept == first
    assert second != first
    assert second[0] == 2
