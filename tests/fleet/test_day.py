"""A small fleet through a few hours: what `bench/fleet.py` plays for a thousand datasets."""

from dataclasses import replace

import pytest

from orchestration.domain.node import node_id_of
from tests.builders import DATASET, MODEL, SCIENTIST, a_model
from tests.cloud import PREFIX, a_cloud
from tests.fakes import Deletion, Fate
from tests.fakes.fate import ALL_WELL
from tests.fleet import Day, Plan
from tests.fleet.network import WINDOW
from tests.fleet.reckoning import leftovers, resisting
from tests.processes import GRACE, a_node_service, a_request, settle

SMALL = Plan(datasets=40, hours=5.0, failing=0.6, reconcilers=2, seed=3)


@pytest.fixture(scope="module")
def figures():
    return Day(SMALL).play()


def test_nothing_is_left_when_two_launches_of_three_come_to_harm(figures):
    """No stack, no secret, no place in the quota; no second stack of a node; no model lost."""
    assert not figures.left, dict(figures.left.rows())
    assert figures.troubled >= 5
    assert figures.models_home >= 3


def test_people_get_their_nodes_also_after_failures(figures):
    """Or are told why not."""
    waits = figures.waits

    assert len(waits.well) >= 3
    assert waits.badly
    assert min(waits.badly) > min(waits.well) > 60.0


def test_one_list_of_all_costs_less_than_asking_one_by_one(figures):
    """Even in a fleet this small, where one node in three needs to be asked for."""
    assert figures.describe_ratio > 1.5
    assert figures.peaks["cloudformation"] * WINDOW >= 1


def test_every_figure_is_printed(figures):
    """Each on a line of its own."""
    rows = dict(figures.rows())

    assert len(rows) == len(list(figures.rows()))
    assert rows["duplicates"] == "0"
    assert "one by one" in rows["DescribeStacks"]
    assert "a node and hour" in rows["nodes.get"]


def test_the_same_seed_is_the_same_day():
    """What went wrong can be looked at again."""
    plan = replace(SMALL, datasets=20, hours=2.0)
    first = Day(plan).play()

    assert first.troubled
    assert Day(plan).play() == first


def test_a_stack_that_nothing_deletes_is_told_apart_from_a_leak():
    """It was asked to go; the next generation comes up beside it."""
    figures = Day(replace(SMALL, datasets=30, hours=3.0, failing=0.7, hopeless=1.0)).play()

    assert figures.resisting >= 1
    assert not figures.left, dict(figures.left.rows())


def a_ready_cloud(fate: Fate = ALL_WELL):
    world = a_cloud(fate=fate)
    a_node_service(world).request(a_request(), caller=SCIENTIST)
    world.clock.tick(300.0)
    return settle(world, 3)


def test_what_stands_is_named():
    """A reckoning that finds nothing wrong would be worth nothing if it couldn't find anything."""
    world = a_ready_cloud()
    left = leftovers(world, crashes=1)

    assert left
    assert [name.split()[0] for name in left.stacks] == [f"{PREFIX}-{node_id_of(DATASET)}-1"]
    assert left.secrets == [f"{node_id_of(DATASET)}-1"]
    assert left.charged == [node_id_of(DATASET)]
    assert (left.untold, left.duplicates, left.lost, left.crashes) == ([], [], [], 1)


def test_a_lost_model_is_named():
    """Complete, not taken back, and its file nowhere."""
    world = a_cloud()
    world.put(a_model(percent_complete=100, is_active=False))

    assert leftovers(world, crashes=0).lost == [MODEL]


def test_two_living_stacks_of_one_node_are_named():
    """Whatever the record says by now."""
    world = a_ready_cloud()
    node = world.nodes.get(node_id_of(DATASET))
    world.stacks.launch(replace(node, generation=2), "arn:secret")

    assert leftovers(world, crashes=0).duplicates == [f"{node.node_id} CREATE_COMPLETE"]


def test_what_a_stack_left_behind_must_be_in_the_audit_log():
    """Nobody would ever look for it."""
    world = a_ready_cloud(Fate(deletion=Deletion.NEEDS_RETAIN))
    a_node_service(world).withdraw(MODEL, caller=SCIENTIST)
    settle(world, int(GRACE + 2000) // 30)
    told = leftovers(world, crashes=0)
    world.dynamodb.tables["audit_table"].items.clear()

    assert told.untold == []
    assert leftovers(world, crashes=0).untold == [f"{PREFIX}-{node_id_of(DATASET)}-1"]


def test_a_stack_that_was_never_asked_to_go_resists_nothing():
    """Its fate is no excuse."""
    world = a_ready_cloud(Fate(deletion=Deletion.NEVER))

    assert [resisting(stack) for stack in world.census.of_node(node_id_of(DATASET))] == [False]
    assert leftovers(world, crashes=0).stacks
