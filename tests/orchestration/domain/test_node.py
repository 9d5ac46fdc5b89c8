"""`decide` as a table: every wish, every phase, every record that makes a difference."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.domain.node import (
    LAUNCH_SETTLES,
    Action,
    Node,
    NodeStack,
    NodeStatus,
    StackPhase,
    Wish,
    decide,
    node_id_of,
)
from tests.builders import NOON, a_node

DEADLINE = 600.0
ARN = "arn:stack:1"

FRESH = {"status": NodeStatus.DEPLOYING, "generation": 1, "launched_at": NOON - 10}
OVERDUE = FRESH | {"launched_at": NOON - DEADLINE - 1}
KNOWN = FRESH | {"stack_id": ARN}
READY = KNOWN | {"status": NodeStatus.READY, "launched_at": NOON - 5000, "ready_at": NOON - 4000}
SILENT = READY | {"status": NodeStatus.DEPLOYING}
RETIRING = KNOWN | {"status": NodeStatus.RETIRING}
NEVER = {"status": NodeStatus.ABSENT, "generation": 0}
GONE = READY | {"status": NodeStatus.ABSENT, "stack_id": None}
CLAIMED = FRESH
CLAIMED_LONG_AGO = OVERDUE
RECORDS = {
    "never launched": NEVER,
    "gone": GONE,
    "claimed": CLAIMED,
    "claimed long ago": CLAIMED_LONG_AGO,
    "launched": KNOWN,
    "overdue": KNOWN | {"launched_at": OVERDUE["launched_at"]},
    "ready": READY,
    "ready once, silent now": SILENT,
    "retiring": RETIRING,
}

L, A, W, D, F = Action.LAUNCH, Action.ASK, Action.WAIT, Action.DELETE, Action.FORGET

# One column a record, in the order of RECORDS.
UP = {
    StackPhase.ABSENT: (L, L, L, L, F, F, F, F, F),
    StackPhase.CREATING: (W, W, W, D, W, D, W, W, W),
    StackPhase.USABLE: (A, A, A, D, A, D, A, A, D),
    StackPhase.UPDATING: (A, A, A, D, A, D, A, A, D),
    StackPhase.FAILING: (W,) * 9,
    StackPhase.BROKEN: (D,) * 9,
    StackPhase.DELETING: (W,) * 9,
    StackPhase.UNDELETABLE: (D,) * 9,
    StackPhase.UNKNOWN: (W,) * 9,
}
DOWN = {
    StackPhase.ABSENT: (F, F, W, F, F, F, F, F, F),
    StackPhase.CREATING: (D,) * 9,
    StackPhase.USABLE: (D,) * 9,
    StackPhase.UPDATING: (W,) * 9,
    StackPhase.FAILING: (W,) * 9,
    StackPhase.BROKEN: (D,) * 9,
    StackPhase.DELETING: (W,) * 9,
    StackPhase.UNDELETABLE: (D,) * 9,
    StackPhase.UNKNOWN: (W,) * 9,
}
TABLE = {Wish.UP: UP, Wish.DOWN: DOWN}


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize(("wish", "phase"), list(product(Wish, StackPhase)))
def test_every_wish_phase_and_record_has_its_action(wish, phase, record):
    """The table is whole: a phase or a wish that is missing from it fails here."""
    expected = TABLE[wish][phase][list(RECORDS).index(record)]

    decision = decide(a_node(wish=wish, **RECORDS[record]), NodeStack(phase), NOON, DEADLINE)

    assert decision.action is expected
    assert decision.reason.endswith(".")


def test_a_deleted_stack_known_by_its_arn_is_cleaned_up_behind_before_the_next_launch():
    """A stack's last word comes under its ARN, also where the record has lost it."""
    node = a_node(wish=Wish.UP, **CLAIMED)

    decision = decide(node, NodeStack(StackPhase.ABSENT, stack_id=ARN), NOON, DEADLINE)

    assert decision.action is Action.FORGET


@pytest.mark.parametrize("phase", [StackPhase.FAILING, StackPhase.BROKEN, StackPhase.UNDELETABLE])
def test_the_cause_of_a_failure_is_the_reason(phase):
    """A data scientist is told why, not that something failed."""
    stack = NodeStack(phase, ARN, reason="Service: no capacity.")

    decision = decide(a_node(wish=Wish.UP, **KNOWN), stack, NOON, DEADLINE)

    assert decision.reason == "Service: no capacity."


@pytest.mark.parametrize("phase", [StackPhase.CREATING, StackPhase.USABLE])
def test_a_launch_is_given_up_only_after_its_deadline(phase):
    """At the deadline it still waits; a moment later it doesn't, and the reason names the seconds."""
    node = a_node(wish=Wish.UP, **KNOWN)

    at = decide(node, NodeStack(phase, ARN), node.launched_at + DEADLINE, DEADLINE)
    after = decide(node, NodeStack(phase, ARN), node.launched_at + DEADLINE + 0.1, DEADLINE)

    assert at.action is not Action.DELETE
    assert after.action is Action.DELETE
    assert "600 s" in after.reason


def test_a_node_that_was_ready_in_this_life_is_never_overdue():
    """ECS starts a task again; a node that falls silent is asked, not thrown away with its models."""
    node = a_node(wish=Wish.UP, **SILENT)

    decision = decide(node, NodeStack(StackPhase.USABLE, ARN), NOON + 10**6, DEADLINE)

    assert decision.action is Action.ASK


def test_the_deadline_of_a_second_life_counts_from_its_own_launch():
    """A ready time of the life before doesn't excuse this one."""
    node = a_node(wish=Wish.UP, **OVERDUE | {"ready_at": NOON - DEADLINE - 100, "generation": 2})

    assert decide(node, NodeStack(StackPhase.USABLE, ARN), NOON, DEADLINE).action is Action.DELETE


@pytest.mark.parametrize(("seconds", "action"), [(0, W), (LAUNCH_SETTLES, W), (LAUNCH_SETTLES + 0.1, F)])
def test_a_launch_that_may_be_under_way_is_waited_for_before_its_node_is_forgotten(seconds, action):
    """Another process has claimed it and may launch any moment: forgotten now, its stack would live on."""
    node = a_node(wish=Wish.DOWN, **CLAIMED)

    decision = decide(node, NodeStack(StackPhase.ABSENT), node.launched_at + seconds, DEADLINE)

    assert decision.action is action


def test_deciding_leaves_the_record_as_it_is():
    """It is a pure function of frozen values."""
    node = a_node(wish=Wish.UP, **KNOWN)
    twice = {decide(node, NodeStack(StackPhase.CREATING), NOON, DEADLINE) for _ in range(2)}

    assert len(twice) == 1
    assert node == a_node(wish=Wish.UP, **KNOWN)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_node_id_is_an_unquoted_sql_identifier(dataset_id):
    """Lower-casing it and dropping hyphens, as the original image does, leaves it as it is."""
    node_id = node_id_of(dataset_id)

    assert re.fullmatch(r"n[0-9a-f]{20}", node_id)
    assert node_id.lower().replace("-", "") == node_id


@pytest.mark.parametrize(
    ("one", "other"), [("ds-main", "dsmain"), ("Heart", "heart"), ("a b", "ab"), ("é", "e"), ("é", "e\u0301")]
)
def test_datasets_that_differ_have_nodes_that_differ(one, other):
    """Else two datasets would share a database."""
    assert node_id_of(one) != node_id_of(other)


def test_a_node_id_is_the_first_20_digits_of_sha256():
    """Other programs derive it as well; it may not change."""
    assert node_id_of("heart-rate") == "n2620d9183f1b08318e0b"


def test_a_new_record_wishes_nothing_and_stands_for_nothing():
    """What a table without a row means."""
    node = Node("n1", "ds")

    assert (node.wish, node.status, node.generation) == (Wish.DOWN, NodeStatus.ABSENT, 0)
