"""A few hours of a few nodes: a small version of what `bench/fleet.py` simulates."""

from dataclasses import replace

import pytest

from orchestration.domain.node import node_id_of
from tests.builders import DATASET, MODEL, SCIENTIST, a_model
from tests.cloud import PREFIX, a_cloud
from tests.fakes import Deletion, Fate
from tests.fakes.fate import ALL_WELL
from tests.fleet import Day, Plan
from tests.fleet.leftovers import is_undeletable, leftovers
from tests.fleet.network import WINDOW
from tests.processes import IDLE_TIMEOUT, a_model_service, a_node_service, attend, reconcile, request_node

pytestmark = pytest.mark.exhaustive

SMALL = Plan(datasets=40, hours=5.0, failing=0.6, reconcilers=2, seed=3)


@pytest.fixture(scope="module")
def figures():
    return Day(SMALL).run()


def test_nothing_is_left_when_most_launches_fail(figures):
    """No stack, secret or use of a quota, no second stack of a node, no lost model."""
    assert not figures.left, dict(figures.left.rows())
    assert figures.faults >= 5
    assert figures.models_retrieved >= 3


def test_scientists_get_their_nodes_after_failed_launches(figures):
    """Later than those whose first launch succeeds."""
    waits = figures.waits

    assert len(waits.first_launch) >= 3
    assert waits.later_launch
    assert min(waits.later_launch) > min(waits.first_launch) > 60.0


def test_one_list_of_stacks_takes_fewer_calls_than_one_call_per_node(figures):
    """Even with few nodes, a third of which need calls of their own."""
    assert figures.describe_ratio > 1.5
    assert figures.peaks["cloudformation"] * WINDOW >= 1


def test_every_figure_has_its_own_row(figures):
    rows = dict(figures.rows())

    assert len(rows) == len(list(figures.rows()))
    assert rows["duplicates"] == "0"
    assert "one by one" in rows["DescribeStacks"]
    assert "a node and hour" in rows["nodes.get"]


def test_same_seed_gives_the_same_day():
    """A failure can be reproduced."""
    plan = replace(SMALL, datasets=20, hours=2.0)
    first = Day(plan).run()

    assert first.faults
    assert Day(plan).run() == first


def test_undeletable_stack_is_not_a_leak():
    """Its deletion was requested, and the next generation is launched."""
    figures = Day(replace(SMALL, datasets=20, hours=2.0, failing=0.7, undeletable=1.0)).run()

    assert figures.undeletable >= 1
    assert not figures.left, dict(figures.left.rows())


def a_ready_cloud(fate: Fate = ALL_WELL):
    world = a_cloud(fate=fate)
    request_node(a_node_service(world))
    attend(world)
    world.clock.tick(300.0)
    return reconcile(world, 3)


def test_running_node_is_found():
    """Its stack, its secret and its use of the quota."""
    world = a_ready_cloud()
    left = leftovers(world, crashes=1)

    assert left
    assert [name.split()[0] for name in left.stacks] == [f"{PREFIX}-{node_id_of(DATASET)}-1"]
    assert left.secrets == [f"{node_id_of(DATASET)}-1"]
    assert left.charged == [node_id_of(DATASET)]
    assert (left.unreported, left.duplicates, left.lost, left.crashes) == ([], [], [], 1)


def test_lost_model_is_found():
    """It is complete and not withdrawn, and its file is not in the bucket."""
    world = a_cloud()
    world.put(a_model(percent_complete=100, is_active=False))

    assert leftovers(world, crashes=0).lost == [MODEL]


def test_two_stacks_of_one_node_are_found():
    """Whatever generation the record has."""
    world = a_ready_cloud()
    node = world.nodes.get(node_id_of(DATASET))
    world.stacks.launch(replace(node, generation=2), "arn:secret")

    assert leftovers(world, crashes=0).duplicates == [f"{node.node_id} CREATE_COMPLETE"]


def test_retained_resource_must_be_in_the_audit_log():
    """An operator finds it only there."""
    world = a_ready_cloud(Fate(deletion=Deletion.NEEDS_RETAIN))
    a_model_service(world).withdraw(MODEL, caller=SCIENTIST)
    reconcile(world, int(IDLE_TIMEOUT + 2000) // 30)
    reported = leftovers(world, crashes=0)
    world.dynamodb.tables["audit_table"].items.clear()

    assert reported.unreported == []
    assert leftovers(world, crashes=0).unreported == [f"{PREFIX}-{node_id_of(DATASET)}-1"]


def test_stack_is_undeletable_only_after_its_deletion_was_requested():
    """Otherwise it is a leftover."""
    world = a_ready_cloud(Fate(deletion=Deletion.NEVER))

    assert [is_undeletable(stack) for stack in world.census.of_node(node_id_of(DATASET))] == [False]
    assert leftovers(world, crashes=0).stacks
