"""Inconsistencies that `artificien audit` finds, and their repair."""

from dataclasses import replace

import pytest

from orchestration.control.orphans import Inspection, SupersededStacks
from orchestration.domain.node import DesiredState, NodeStatus, StackPhase, node_id_of
from tests.builders import DATASET, DEVELOPER, a_node, a_submission
from tests.processes import a_lifecycle, a_node_service, reconcile, request_node

RUNNING, STOPPED = DesiredState

NODE = node_id_of(DATASET)


@pytest.fixture
def ready(world):
    """Launch a node, and return the world."""
    world.put(a_submission())
    request_node(a_node_service(world))
    reconcile(world, passes=4)
    return world


class Resources:
    """Resources are named like their stack. `left` are those of stacks that are gone, one list per call."""

    def __init__(self, stacks):
        self._stacks = stacks
        self.left = []

    def all(self):
        standing = {f"{listed.node_id}/{listed.generation}" for listed in self._stacks.all()}
        return standing | set(self.left.pop(0) if self.left else ())

    def outside(self, arns, stacks):
        return set(arns) - {f"{listed.node_id}/{listed.generation}" for listed in stacks}


@pytest.fixture
def resources(ready):
    return Resources(ready.stacks)


@pytest.fixture
def inspect(ready, resources):
    """Return a function that maps each finding's kind and problem to whether it can be repaired.

    With `repair`, the function also carries out the repairs.
    """

    def findings(*, repair=False):
        lifecycle = a_lifecycle(ready)
        superseded = SupersededStacks(
            records=lifecycle.records, stacks=ready.stacks, secrets=ready.secrets, clock=ready.clock
        )
        inspection = Inspection(
            nodes=ready.nodes,
            datasets=ready.datasets,
            stacks=ready.stacks,
            resources=resources,
            node_databases=ready.node_databases,
            lifecycle=lifecycle,
            superseded=superseded,
            clock=ready.clock,
        )
        found = list(inspection.findings())
        for finding in found:
            if repair and finding.repair:
                finding.repair()
        return {(finding.kind, finding.problem): finding.repair is not None for finding in found}

    return findings


def test_consistent_node_has_no_findings(inspect):
    """Stack, record, secret and database of a ready node are consistent."""
    assert inspect() == {}


def test_resource_that_cloudformation_has_left_behind_is_found(inspect, resources):
    """Its stack is gone, so nothing else names it. Whether it may be deleted is an operator's decision."""
    resources.left = [["n1/1"], ["n1/1"]]

    assert inspect() == {("resource", "left behind: its stack is gone"): False}


def test_resource_that_goes_with_its_stack_is_not_found(inspect, resources):
    """The stack's deletion ended between two lists."""
    resources.left = [["n1/1"], []]

    assert inspect() == {}


def test_retired_node_leaves_only_its_database(ready, inspect):
    """The database keeps the unfinished models for the next generation."""
    a_node_service(ready).retire(DATASET, caller=DEVELOPER, force=True)
    reconcile(ready)

    assert inspect() == {}
    assert list(ready.node_databases.all()) == [NODE]


def test_superseded_stack_and_secret_are_repaired(ready, inspect):
    """Stack and secret of a past generation are found and deleted."""
    past = {
        "generation": 2,
        "status": NodeStatus.ABSENT,
        "desired_state": STOPPED,
        "stack_id": None,
    }
    ready.put(replace(ready.nodes.get(NODE), **past))
    found = inspect(repair=True)
    reconcile(ready, passes=3)

    assert found == {
        ("stack", "of past generation 1 (usable)"): True,
        ("secret", "of a past generation"): True,
    }
    assert inspect() == {}


def test_orphans_are_only_reported(ready, inspect):
    """A missing record may be due to a table restored from a backup, so an operator must decide."""
    ready.remove("node_table")

    assert inspect(repair=True) == {
        ("stack", "no record of its node"): False,
        ("secret", "no record of its node"): False,
        ("database", "no record of its node"): False,
    }
    assert len(ready.stacks.standing(NODE)) == 1


@pytest.mark.parametrize("known", [True, False])
def test_record_without_a_stack_is_repaired(ready, inspect, known):
    """The record is corrected, whether or not it holds the ARN of the deleted stack."""
    ready.stacks.stacks[NODE, 1].phase = StackPhase.ABSENT
    if not known:
        ready.put(replace(ready.nodes.get(NODE), stack_id=None))
    found = inspect(repair=True)

    assert found == {("record", "ready, but its stack is gone"): True}
    assert ready.nodes.get(NODE).status is not NodeStatus.READY


def test_launch_under_way_is_no_finding(ready, inspect):
    """The stack of a node that is deploying may not exist yet."""
    ready.put(a_node("another", desired_state=RUNNING, status=NodeStatus.DEPLOYING, generation=1))

    assert inspect() == {}


def test_node_retired_during_the_inspection_is_no_finding(ready, inspect, monkeypatch):
    """Each record is read again before it is reported."""
    ready.stacks.stacks[NODE, 1].phase = StackPhase.ABSENT
    old = [ready.nodes.get(NODE)]
    ready.put(replace(old[0], status=NodeStatus.ABSENT))
    ready.secrets.passwords.clear()
    monkeypatch.setattr(type(ready.nodes), "all", lambda _: old)

    assert inspect() == {}


def test_undeletable_stack_is_reported(ready, inspect):
    """The stack costs money while the reconciler keeps trying to delete it."""
    ready.stacks.undeletable = True
    a_node_service(ready).retire(DATASET, caller=DEVELOPER, force=True)
    reconcile(ready, passes=4)

    assert inspect() == {("stack", "can't be deleted; the reconciler goes on trying"): False}


def test_database_of_a_deleted_dataset_is_repaired(ready, inspect):
    """The database of a stopped node is dropped once its dataset is deleted."""
    a_node_service(ready).retire(DATASET, caller=DEVELOPER, force=True)
    reconcile(ready)
    ready.remove("dataset_table", DATASET)
    found = inspect(repair=True)

    assert found == {("database", f"its dataset {DATASET!r} is deleted"): True}
    assert list(ready.node_databases.all()) == []
