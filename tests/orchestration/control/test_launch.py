"""Launches and the node database, which is created before the stack and kept after it."""

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
def submitted(world):
    """Put a submitted model, so that a node can be requested."""
    world.put(a_submission())
    return world


def launch(world):
    """Request a node, let the reconciler take a step, and return the next answer."""
    request_node(a_node_service(world))
    attend(world)
    return request_node(a_node_service(world))


def test_paused_database_does_not_delay_the_answer(submitted):
    """The answer gives the reason, and no stack is launched before the database is available."""
    submitted.node_databases.trouble = DatabaseWaking("The nodes' database is waking up.")
    answer = launch(submitted)

    assert (answer.address, answer.reason) == (None, "The nodes' database is waking up.")
    assert submitted.nodes.get(NODE).status is NodeStatus.DEPLOYING
    assert submitted.stacks.launched == []


def test_launch_continues_once_the_database_is_available(submitted):
    """The reconciler continues the launch in the same generation, with the same secret."""
    submitted.node_databases.trouble = DatabaseWaking("The nodes' database is waking up.")
    launch(submitted)
    a_reconciler(submitted).run_pass()
    submitted.node_databases.trouble = None
    reconcile(submitted, passes=4)

    assert submitted.nodes.get(NODE).status is NodeStatus.READY
    assert submitted.stacks.launched == [(NODE, 1)]
    assert submitted.secrets.made == 1
    assert submitted.nodes.get(NODE).reason == ""


def test_failure_of_the_database_is_logged_and_answered(submitted, logs):
    """The operator reads the error in the log, the data scientist in the answer."""
    submitted.node_databases.trouble = Upstream("The nodes' database refused a call: InvalidSecretException.")
    answer = launch(submitted)

    assert answer.reason == "The nodes' database refused a call: InvalidSecretException."
    assert [entry["event"] for entry in logs] == ["node.database_not_ready"]


def test_deadline_restarts_when_the_stack_is_launched(submitted):
    """Time spent waiting for the database does not count against the deadline of the launch."""
    submitted.node_databases.trouble = DatabaseWaking("The nodes' database is waking up.")
    launch(submitted)
    submitted.clock.tick(DEADLINE - 1)
    submitted.node_databases.trouble = None
    launch(submitted)

    assert submitted.nodes.get(NODE).launched_at == submitted.clock.now


def test_launch_without_a_database_fails_after_the_deadline(submitted):
    """After the allowed attempts the node is FAILED, and neither quota nor secret is held."""
    submitted.node_databases.trouble = Upstream("The nodes' database refused a call: InvalidSecretException.")
    launch(submitted)
    reconcile(submitted, passes=int(BUDGET.attempts * (DEADLINE + 120) // PASS) + 5)
    node = submitted.nodes.get(NODE)

    assert node.status is NodeStatus.FAILED
    assert "InvalidSecretException" in node.failure
    assert (node.charged_to, submitted.secrets.passwords) == (None, {})


def test_database_is_created_before_the_stack(submitted):
    """A node without its database does not start, and its ECS deployment fails."""
    wire = Wire()
    launch(submitted.through(wire))
    order = [
        call for call in wire.calls if call in ("secrets.ensure", "node_databases.ensure", "stacks.launch")
    ]

    assert order == ["secrets.ensure", "node_databases.ensure", "stacks.launch"]


def test_database_is_kept_for_the_next_generation(submitted):
    """The next generation finds the unfinished models, and uses a new password."""
    launch(submitted)
    reconcile(submitted, passes=4)
    first = submitted.node_databases.logins[NODE]
    a_node_service(submitted).retire(DATASET, caller=DEVELOPER, force=True)
    reconcile(submitted, passes=6)
    kept = submitted.node_databases.logins[NODE]
    launch(submitted)
    second = submitted.node_databases.logins[NODE]

    assert kept == first
    assert second != first
    assert second[0] == 2
