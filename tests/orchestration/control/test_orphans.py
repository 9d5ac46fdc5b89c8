"""What an operator is told to be astray, and how it is put right."""

from dataclasses import replace

import pytest

from orchestration.control.orphans import Inspection, SupersededStacks
from orchestration.domain.node import DesiredState, NodeStatus, StackPhase, node_id_of
from tests.builders import DATASET, DEVELOPER, a_node, a_submission
from tests.processes import a_lifecycle, a_node_service, reconcile, request_node

RUNNING, STOPPED = DesiredState

NODE = node_id_of(DATASET)


@pytest.fixture
def awake(world):
    """A node that is up; all is well."""
    world.put(a_submission())
    request_node(a_node_service(world))
    reconcile(world, passes=4)
    return world


@pytest.fixture
def inspected(awake):
    """Returns what is astray, each as kind and trouble; puts it right where it can if it is asked to."""

    def inspect(*, repair=False):
        lifecycle = a_lifecycle(awake)
        superseded = SupersededStacks(
            records=lifecycle.records, stacks=awake.stacks, secrets=awake.secrets, clock=awake.clock
        )
        inspection = Inspection(
            nodes=awake.nodes,
            datasets=awake.datasets,
            stacks=awake.stacks,
            node_databases=awake.node_databases,
            lifecycle=lifecycle,
            superseded=superseded,
            clock=awake.clock,
        )
        found = list(inspection.findings())
        for finding in found:
            if repair and finding.repair:
                finding.repair()
        return {(finding.kind, finding.problem): finding.repair is not None for finding in found}

    return inspect


def test_nothing_is_astray_where_all_is_well(inspected):
    """Stack, record, secret and database of a node that is up belong together."""
    assert inspected() == {}


def test_a_retired_node_leaves_its_database_and_nothing_else(awake, inspected):
    """Unfinished models wait in there for the next life."""
    a_node_service(awake).retire(DATASET, caller=DEVELOPER, force=True)
    reconcile(awake)

    assert inspected() == {}
    assert list(awake.node_databases.all()) == [NODE]


def test_what_is_left_of_a_life_that_is_over_is_found_and_mended(awake, inspected):
    """Its stack and its secret."""
    gone = {
        "generation": 2,
        "status": NodeStatus.ABSENT,
        "desired_state": STOPPED,
        "stack_id": None,
    }
    awake.put(replace(awake.nodes.get(NODE), **gone))
    found = inspected(repair=True)
    reconcile(awake, passes=3)

    assert found == {
        ("stack", "of past generation 1 (usable)"): True,
        ("secret", "of a past generation"): True,
    }
    assert inspected() == {}


def test_what_no_record_knows_is_a_human_s_to_judge(awake, inspected):
    """A table restored from a backup, say."""
    awake.remove("node_table")

    assert inspected(repair=True) == {
        ("stack", "no record of its node"): False,
        ("secret", "no record of its node"): False,
        ("database", "no record of its node"): False,
    }
    assert len(awake.stacks.standing(NODE)) == 1


@pytest.mark.parametrize("known", [True, False])
def test_a_record_whose_stack_is_gone_is_found_and_mended(awake, inspected, known):
    """Whether CloudFormation still remembers the stack or not."""
    awake.stacks.stacks[NODE, 1].phase = StackPhase.ABSENT
    if not known:
        awake.put(replace(awake.nodes.get(NODE), stack_id=None))
    found = inspected(repair=True)

    assert found == {("record", "ready, but its stack is gone"): True}
    assert awake.nodes.get(NODE).status is not NodeStatus.READY


def test_a_launch_that_is_under_way_is_not_astray(awake, inspected):
    """Its stack is to come."""
    awake.put(a_node("another", desired_state=RUNNING, status=NodeStatus.DEPLOYING, generation=1))

    assert inspected() == {}


def test_a_node_that_goes_meanwhile_is_not_astray(awake, inspected, monkeypatch):
    """What the list of records said is looked up anew."""
    awake.stacks.stacks[NODE, 1].phase = StackPhase.ABSENT
    old = [awake.nodes.get(NODE)]
    awake.put(replace(old[0], status=NodeStatus.ABSENT))
    awake.secrets.passwords.clear()
    monkeypatch.setattr(type(awake.nodes), "all", lambda _: old)

    assert inspected() == {}


def test_a_stack_that_can_not_be_deleted_is_told_about(awake, inspected):
    """The reconciler goes on trying; it costs money meanwhile."""
    awake.stacks.undeletable = True
    a_node_service(awake).retire(DATASET, caller=DEVELOPER, force=True)
    reconcile(awake, passes=4)

    assert inspected() == {("stack", "can't be deleted; the reconciler goes on trying"): False}


def test_the_database_of_a_dataset_that_is_gone_goes_too(awake, inspected):
    """Nothing will ever be trained on it again."""
    a_node_service(awake).retire(DATASET, caller=DEVELOPER, force=True)
    reconcile(awake)
    awake.remove("dataset_table", DATASET)
    found = inspected(repair=True)

    assert found == {("database", f"its dataset {DATASET!r} is deleted"): True}
    assert list(awake.node_databases.all()) == []
