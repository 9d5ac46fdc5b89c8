"""`decide` as a table: every word of CloudFormation, every wish, every record that makes a difference."""

from itertools import pairwise

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.domain.decision import (
    LAUNCH_SETTLES,
    LONGEST_PAUSE,
    REPAIRS,
    Action,
    Budget,
    Rules,
    decide,
    is_at_rest,
    is_given_up,
    pause_after,
)
from orchestration.domain.node import ABSENT_STACK, NodeStack, NodeStatus, StackPhase, Wish
from orchestration.provisioning.cfn_status import phase_of
from tests.builders import NOON, a_node

DEADLINE = 600.0
BUDGET = Budget(attempts=3, cool_down=600.0)
RULES = Rules(DEADLINE, BUDGET)
ARN = "arn:stack:1"

FRESH = {"status": NodeStatus.DEPLOYING, "generation": 1, "launched_at": NOON - 10, "attempts": 1}
KNOWN = FRESH | {"stack_id": ARN}
LONG_AGO = {"launched_at": NOON - DEADLINE - 1}
READY = KNOWN | {
    "status": NodeStatus.READY,
    "launched_at": NOON - 5000,
    "ready_at": NOON - 4000,
    "attempts": 0,
}
SILENT = READY | {"status": NodeStatus.DEPLOYING, "silent_at": NOON - 10}
RETIRING = READY | {
    "status": NodeStatus.RETIRING,
    "deletions": 1,
    "deletion_at": NOON - 60,
    "next_at": NOON - 1,
}
GONE = READY | {"status": NodeStatus.ABSENT, "stack_id": None}
RECORDS = {
    "never launched": {"status": NodeStatus.ABSENT},
    "gone": GONE,
    "failed, to be launched again": GONE | {"attempts": 2, "next_at": NOON},
    "failed a moment ago": GONE | {"attempts": 2, "next_at": NOON + 1},
    "out of budget": GONE | {"attempts": 3},
    "given up, asked again": GONE | {"status": NodeStatus.FAILED, "attempts": 3},
    "claimed": FRESH,
    "claimed long ago": FRESH | LONG_AGO,
    "launched": KNOWN,
    "launched long ago": KNOWN | LONG_AGO,
    "ready": READY,
    "silent": SILENT,
    "silent for long": SILENT | {"silent_at": NOON - DEADLINE - 1},
    "retiring": RETIRING,
    "retiring, asked a moment ago": RETIRING | {"next_at": NOON + 1},
    "retiring, refused": RETIRING | {"is_refused": True},
}

A, W, D, F, L = Action.ASK, Action.WAIT, Action.DELETE, Action.FORGET, Action.LAUNCH
G, U, R, K = Action.GIVE_UP, Action.CANCEL_UPDATE, Action.ROLL_BACK, Action.CONTINUE_ROLLBACK
S = Action.LOOK_AGAIN

# One column a record, in the order of RECORDS; the first six know of no stack: any is a surprise, and goes.
ABSENT_UP = (L, L, L, W, G, L, L, F, F, F, F, F, F, F, F, F)
SERVING_UP = (D, D, D, D, D, D, A, D, A, D, A, A, D, D, W, A)
SERVING_BUSY_UP = (D, D, D, D, D, D, A, W, A, W, A, A, W, D, W, A)
CREATING_UP = (D, D, D, D, D, D, W, D, W, D, W, W, D, D, W, D)
WAIT = (W,) * 16
DELETE = (D,) * 14 + (W, D)
DELETING = (D,) * 13 + (W,) * 3

UP = {
    None: ABSENT_UP,
    "CREATE_IN_PROGRESS": CREATING_UP,
    "CREATE_FAILED": DELETE,
    "CREATE_COMPLETE": SERVING_UP,
    "ROLLBACK_IN_PROGRESS": WAIT,
    "ROLLBACK_FAILED": DELETE,
    "ROLLBACK_COMPLETE": DELETE,
    "DELETE_IN_PROGRESS": DELETING,
    "DELETE_FAILED": DELETE,
    "DELETE_COMPLETE": ABSENT_UP,
    "UPDATE_IN_PROGRESS": SERVING_BUSY_UP,
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": SERVING_BUSY_UP,
    "UPDATE_COMPLETE": SERVING_UP,
    "UPDATE_FAILED": (D, D, D, D, D, D, R, R, R, R, R, R, R, D, W, D),
    "UPDATE_ROLLBACK_IN_PROGRESS": SERVING_BUSY_UP,
    "UPDATE_ROLLBACK_FAILED": (D, D, D, D, D, D, K, K, K, K, K, K, K, D, W, D),
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": SERVING_BUSY_UP,
    "UPDATE_ROLLBACK_COMPLETE": SERVING_UP,
    "REVIEW_IN_PROGRESS": (D, D, D, D, D, D, S, S, S, S, S, S, S, D, W, D),
    "IMPORT_IN_PROGRESS": WAIT,
    "IMPORT_COMPLETE": SERVING_UP,
    "IMPORT_ROLLBACK_IN_PROGRESS": WAIT,
    "IMPORT_ROLLBACK_FAILED": DELETE,
    "IMPORT_ROLLBACK_COMPLETE": SERVING_UP,
    "A_WORD_OF_TOMORROW": WAIT,
}
ABSENT_DOWN = (F, F, F, F, F, F, W, F, F, F, F, F, F, F, F, F)
CANCEL = (U, U, U, W, U, U, U, U, U, U, U, U, U, U, W, U)
DOWN = {
    None: ABSENT_DOWN,
    "CREATE_IN_PROGRESS": DELETE,
    "CREATE_FAILED": DELETE,
    "CREATE_COMPLETE": DELETE,
    "ROLLBACK_IN_PROGRESS": WAIT,
    "ROLLBACK_FAILED": DELETE,
    "ROLLBACK_COMPLETE": DELETE,
    "DELETE_IN_PROGRESS": DELETING,
    "DELETE_FAILED": DELETE,
    "DELETE_COMPLETE": ABSENT_DOWN,
    "UPDATE_IN_PROGRESS": CANCEL,
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": WAIT,
    "UPDATE_COMPLETE": DELETE,
    "UPDATE_FAILED": DELETE,
    "UPDATE_ROLLBACK_IN_PROGRESS": WAIT,
    "UPDATE_ROLLBACK_FAILED": DELETE,
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": WAIT,
    "UPDATE_ROLLBACK_COMPLETE": DELETE,
    "REVIEW_IN_PROGRESS": DELETE,
    "IMPORT_IN_PROGRESS": WAIT,
    "IMPORT_COMPLETE": DELETE,
    "IMPORT_ROLLBACK_IN_PROGRESS": WAIT,
    "IMPORT_ROLLBACK_FAILED": DELETE,
    "IMPORT_ROLLBACK_COMPLETE": DELETE,
    "A_WORD_OF_TOMORROW": WAIT,
}
TABLE = {Wish.UP: UP, Wish.DOWN: DOWN}
CELLS = [(wish, word, record) for wish, rows in TABLE.items() for word in rows for record in RECORDS]


def stack_in(word, **more):
    """What is seen of a stack with this status."""
    return ABSENT_STACK if word is None else NodeStack(phase_of(word), **more)


@pytest.mark.parametrize(("wish", "word", "record"), CELLS)
def test_every_wish_word_and_record_has_its_action(wish, word, record):
    """One cell of the table; each action comes with a sentence."""
    expected = TABLE[wish][word][list(RECORDS).index(record)]

    decision = decide(a_node(**{"wish": wish} | RECORDS[record]), stack_in(word), NOON, RULES)

    assert decision.action is expected
    assert decision.reason.endswith(".") or decision.action is G


@pytest.mark.parametrize("wish", Wish)
def test_the_table_knows_every_word_of_cloudformation(wish):
    """A status that botocore's service model learns fails here until somebody has decided about it."""
    model = boto3.client("cloudformation", region_name="eu-west-1").meta.service_model
    words = set(model.shape_for("StackStatus").enum)

    assert len(words) >= 23
    assert words <= TABLE[wish].keys()
    assert all(len(row) == len(RECORDS) for row in TABLE[wish].values())


ALARMED = {
    Wish.UP: {
        "IMPORT_IN_PROGRESS",
        "IMPORT_ROLLBACK_IN_PROGRESS",
        "IMPORT_COMPLETE",
        "IMPORT_ROLLBACK_COMPLETE",
        "IMPORT_ROLLBACK_FAILED",
        "UPDATE_FAILED",
        "UPDATE_ROLLBACK_FAILED",
        "A_WORD_OF_TOMORROW",
    },
    Wish.DOWN: {"IMPORT_IN_PROGRESS", "IMPORT_ROLLBACK_IN_PROGRESS", "A_WORD_OF_TOMORROW"},
}


@pytest.mark.parametrize("wish", Wish)
def test_an_operator_is_told_of_what_only_operators_do(wish):
    """Imports, updates that got stuck, and words nobody has heard."""
    alarmed = {
        word for word in TABLE[wish] if decide(a_node(wish=wish, **KNOWN), stack_in(word), NOON, RULES).alarm
    }

    assert alarmed == ALARMED[wish]


@pytest.mark.parametrize(
    ("deletions", "up", "down"),
    [
        (0, Action.DELETE, Action.DELETE),
        (1, Action.DELETE, Action.DELETE),
        (2, Action.DELETE_RETAINING, Action.DELETE_RETAINING),
        (3, Action.DELETE_BY_FORCE, Action.DELETE_BY_FORCE),
        (4, Action.QUARANTINE, Action.DELETE_BY_FORCE),
        (9, Action.QUARANTINE, Action.DELETE_BY_FORCE),
    ],
)
def test_a_deletion_that_fails_goes_a_step_further_each_time(deletions, up, down):
    """While nobody waits for a new node, what stays is asked again; it is never called deleted."""
    record = RETIRING | {"deletions": deletions}
    stack = stack_in("DELETE_FAILED", stack_id=ARN)

    assert decide(a_node(wish=Wish.UP, **record), stack, NOON, RULES).action is up
    assert decide(a_node(wish=Wish.DOWN, **record), stack, NOON, RULES).action is down


@pytest.mark.parametrize(
    ("deleted_at", "action", "attempt"),
    [
        (0.0, Action.DELETE_RETAINING, 3),
        (NOON - 100, Action.DELETE_RETAINING, 3),
        (NOON - 105, Action.DELETE_RETAINING, 3),
        (NOON - 200, Action.DELETE, 2),
    ],
)
def test_a_deletion_that_was_noted_and_never_asked_is_not_taken_for_one_that_failed(
    deleted_at, action, attempt
):
    """The process died in between: nothing is left behind that a second try would have removed."""
    node = a_node(wish=Wish.DOWN, **RETIRING | {"deletions": 2, "deletion_at": NOON - 100})
    stack = stack_in("DELETE_FAILED", stack_id=ARN, deleted_at=deleted_at)

    decision = decide(node, stack, NOON, RULES)

    assert (decision.action, decision.attempt) == (action, attempt)


@pytest.mark.parametrize(
    ("word", "record", "attempt"),
    [
        ("CREATE_COMPLETE", READY, 1),
        ("CREATE_COMPLETE", RETIRING, 1),
        ("CREATE_COMPLETE", RETIRING | {"is_refused": True}, 2),
        ("DELETE_IN_PROGRESS", READY, 1),
        ("ROLLBACK_COMPLETE", KNOWN, 1),
    ],
)
def test_the_same_deletion_again_is_the_same_attempt(word, record, attempt):
    """Its call may have got lost, or CloudFormation's word be old; a refused one counts."""
    decision = decide(a_node(wish=Wish.DOWN, **record), stack_in(word), NOON, RULES)

    assert (decision.action, decision.attempt) == (D, attempt)


@pytest.mark.parametrize(
    ("deletions", "action"), [(1, Action.DELETE), (2, Action.DELETE), (3, Action.QUARANTINE)]
)
def test_a_broken_stack_that_cloudformation_refuses_to_delete_is_left_behind(deletions, action):
    """Termination protection makes a deletion fail without a change of status."""
    record = RETIRING | {"deletions": deletions, "is_refused": True}

    decision = decide(a_node(wish=Wish.UP, **record), stack_in("ROLLBACK_COMPLETE"), NOON, RULES)

    assert decision.action is action
    assert decision.alarm


@pytest.mark.parametrize(("seconds", "alarm"), [(3600, False), (3601, True)])
def test_an_operator_is_told_of_a_deletion_that_takes_for_ever(seconds, alarm):
    """CloudFormation gives up by itself, mostly; until then nothing else can be done."""
    record = RETIRING | {"deletion_at": NOON - seconds}

    decision = decide(a_node(wish=Wish.UP, **record), stack_in("DELETE_IN_PROGRESS"), NOON, RULES)

    assert (decision.action, decision.alarm) == (W, alarm)


def test_a_sound_stack_that_cloudformation_refuses_to_delete_serves_again():
    """Rather than a second node beside it: the wish is up again, and it still stands."""
    record = RETIRING | {"deletions": 9, "is_refused": True, "next_at": NOON + 100}

    assert decide(a_node(wish=Wish.UP, **record), stack_in("CREATE_COMPLETE"), NOON, RULES).action is A


@pytest.mark.parametrize("word", ["REVIEW_IN_PROGRESS", "UPDATE_FAILED", "UPDATE_ROLLBACK_FAILED"])
def test_what_can_not_be_mended_in_a_few_tries_is_deleted(word):
    """And its cause is kept, for the next generation's data scientist."""
    decision = decide(a_node(wish=Wish.UP, **READY | {"repairs": REPAIRS}), stack_in(word), NOON, RULES)

    assert decision.action is D
    assert decision.failure == decision.reason


@pytest.mark.parametrize(
    ("word", "failure"),
    [
        ("ROLLBACK_IN_PROGRESS", ""),
        ("ROLLBACK_COMPLETE", ""),
        ("ROLLBACK_FAILED", ""),
        ("CREATE_FAILED", ""),
        ("IMPORT_ROLLBACK_FAILED", ""),
        ("CREATE_IN_PROGRESS", None),
        ("CREATE_COMPLETE", None),
        ("DELETE_IN_PROGRESS", None),
        ("A_WORD_OF_TOMORROW", None),
    ],
)
def test_the_cause_of_a_failure_is_asked_for_where_there_is_one(word, failure):
    """CloudFormation knows the cause of a rollback; nothing has failed where it just isn't ready."""
    assert decide(a_node(wish=Wish.UP, **KNOWN), stack_in(word), NOON, RULES).failure == failure


@pytest.mark.parametrize("word", ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"])
def test_a_launch_is_given_up_only_after_its_deadline(word):
    """At the deadline it still waits; a moment later it doesn't, and the failure names the seconds."""
    node = a_node(wish=Wish.UP, **KNOWN)

    at = decide(node, stack_in(word), node.launched_at + DEADLINE, RULES)
    after = decide(node, stack_in(word), node.launched_at + DEADLINE + 0.1, RULES)

    assert at.action is not D
    assert after.action is D
    assert "600 s" in (after.failure or "")


def test_the_deadline_of_a_second_life_counts_from_its_own_launch():
    """A ready time of the life before doesn't excuse this one."""
    late = {"ready_at": NOON - DEADLINE - 100, "generation": 2}

    assert (
        decide(
            a_node(wish=Wish.UP, **KNOWN | LONG_AGO | late), stack_in("CREATE_COMPLETE"), NOON, RULES
        ).action
        is D
    )


def test_a_node_that_stays_silent_is_replaced():
    """ECS starts a task again, so it has as long as a launch; what it keeps is in the database."""
    node = a_node(wish=Wish.UP, **SILENT)

    decision = decide(node, stack_in("CREATE_COMPLETE"), node.silent_at + DEADLINE + 1, RULES)

    assert decision.action is D
    assert "no answer" in (decision.failure or "")


@pytest.mark.parametrize(
    ("wish", "seconds", "action"),
    [
        (Wish.DOWN, 0, W),
        (Wish.DOWN, LAUNCH_SETTLES, W),
        (Wish.DOWN, LAUNCH_SETTLES + 0.1, F),
    ],
)
def test_a_launch_that_may_be_under_way_is_waited_for_before_its_node_is_forgotten(wish, seconds, action):
    """Another process has claimed it and may launch any moment: forgotten now, its stack would live on."""
    node = a_node(wish=wish, **FRESH)

    assert decide(node, ABSENT_STACK, node.launched_at + seconds, RULES).action is action


@pytest.mark.parametrize("wish", Wish)
@pytest.mark.parametrize(("seconds", "action"), [(LAUNCH_SETTLES, W), (LAUNCH_SETTLES + 0.1, F)])
def test_a_stack_that_is_not_shown_yet_is_not_taken_for_gone(wish, seconds, action):
    """DescribeStacks lags behind for seconds."""
    node = a_node(wish=wish, **KNOWN)
    unseen = NodeStack(StackPhase.UNSEEN, ARN)

    assert decide(node, unseen, node.launched_at + seconds, RULES).action is action


@pytest.mark.parametrize("record", [READY, RETIRING])
def test_a_stack_that_was_there_and_is_not_shown_any_more_is_gone(record):
    """Staleness lasts for seconds, not for a node's life."""
    unseen = NodeStack(StackPhase.UNSEEN, ARN)

    assert decide(a_node(wish=Wish.UP, **record), unseen, NOON, RULES).action is F


@pytest.mark.parametrize(
    ("attempts", "next_at", "seconds", "action"),
    [
        (1, NOON, 0, L),
        (1, NOON + 1, 0, W),
        (3, NOON, 0, W),
        (3, NOON, LAUNCH_SETTLES + 1, F),
    ],
)
def test_a_launch_that_was_refused_is_tried_again_in_the_same_generation(attempts, next_at, seconds, action):
    """Until the budget is spent; another process's call for it may have gone through meanwhile."""
    refused = FRESH | {"failed_generation": 1, "attempts": attempts, "next_at": next_at, "launched_at": NOON}

    assert decide(a_node(wish=Wish.UP, **refused), ABSENT_STACK, NOON + seconds, RULES).action is action


def test_a_deleted_stack_known_by_its_arn_is_cleaned_up_behind_before_the_next_launch():
    """A stack's last word comes under its ARN, also where the record has lost it."""
    decision = decide(a_node(wish=Wish.UP, **FRESH), stack_in("DELETE_COMPLETE", stack_id=ARN), NOON, RULES)

    assert decision.action is F


@pytest.mark.parametrize(
    ("status", "wish", "asked_at", "at_rest"),
    [
        (NodeStatus.ABSENT, Wish.DOWN, NOON, True),
        (NodeStatus.FAILED, Wish.DOWN, NOON, True),
        (NodeStatus.FAILED, Wish.UP, NOON, True),
        (NodeStatus.FAILED, Wish.UP, NOON + 600, False),
        (NodeStatus.ABSENT, Wish.UP, NOON, False),
        (NodeStatus.READY, Wish.DOWN, NOON, False),
        (NodeStatus.RETIRING, Wish.DOWN, NOON, False),
    ],
)
def test_a_node_that_nobody_wants_or_that_was_given_up_costs_no_look(status, wish, asked_at, at_rest):
    """The first call after the cool-down opens a new budget."""
    node = a_node(status=status, wish=wish, failed_at=NOON, asked_at=asked_at)

    assert is_at_rest(node, BUDGET) is at_rest
    assert is_given_up(node, BUDGET) is (at_rest and status is NodeStatus.FAILED)


def test_pauses_grow_and_have_an_end():
    """None before the first failure; then twice as long each time, up to an hour."""
    pauses = [pause_after(n) for n in range(30)]

    assert pauses[:4] == [0, 30, 60, 120]
    assert all(later >= earlier for earlier, later in pairwise(pauses))
    assert pauses[-1] == LONGEST_PAUSE


NODES = st.builds(
    a_node,
    wish=st.sampled_from(Wish),
    status=st.sampled_from(NodeStatus),
    generation=st.integers(0, 3),
    stack_id=st.sampled_from([None, ARN]),
    failed_generation=st.integers(0, 3),
    attempts=st.integers(0, 4),
    deletions=st.integers(0, 6),
    repairs=st.integers(0, 5),
    is_refused=st.booleans(),
    **{name: st.floats(0, 2 * NOON) for name in ("launched_at", "ready_at", "silent_at", "next_at")},
)


@given(NODES, st.sampled_from(StackPhase), st.sampled_from([None, ARN]), st.floats(0, 2 * NOON))
def test_whatever_the_record_says_there_is_one_decision(node, phase, stack_id, now):
    """It is total, and a pure function of frozen values; nobody is asked to launch while a stack stands."""
    stack = NodeStack(phase, stack_id)
    decision = decide(node, stack, now, RULES)

    assert decision == decide(node, stack, now, RULES)
    if decision.action is L:
        assert node.wish is Wish.UP
        assert phase is StackPhase.ABSENT
    if decision.action is F:
        assert phase in (StackPhase.ABSENT, StackPhase.UNSEEN)
    if decision.action in (Action.QUARANTINE, A):
        assert node.wish is Wish.UP
