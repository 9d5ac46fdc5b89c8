"""`decide` as tables: every phase of a stack, both desired states, every record that makes a difference."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.domain.decision import (
    REPAIRS,
    VISIBILITY_DELAY,
    Action,
    Budget,
    Rules,
    decide,
    is_at_rest,
    is_given_up,
    silence_since,
)
from orchestration.domain.node import ABSENT_STACK, DesiredState, NodeStack, NodeStatus, StackPhase
from tests.builders import NOON, a_node

RUNNING, STOPPED = DesiredState

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
    "given up, requested again": GONE | {"status": NodeStatus.FAILED, "attempts": 3},
    "claimed": FRESH,
    "claimed long ago": FRESH | LONG_AGO,
    "launched": KNOWN,
    "launched long ago": KNOWN | LONG_AGO,
    "ready": READY,
    "silent": SILENT,
    "silent for long": SILENT | {"silent_at": NOON - DEADLINE - 1},
    "retiring": RETIRING,
    "retiring, a moment ago": RETIRING | {"next_at": NOON + 1},
    "retiring, refused": RETIRING | {"is_refused": True},
}

# The action for every record (rows) and phase (columns). The first six records name no stack: one that exists
# nevertheless is deleted. `test_cfn_status.py` has the phase of every status of CloudFormation.
WHEN_RUNNING = """
                              ABSENT   UNSEEN  CREATING  USABLE  UPDATING  FINISHING
never launched                LAUNCH   FORGET  DELETE    DELETE  DELETE    DELETE
gone                          LAUNCH   FORGET  DELETE    DELETE  DELETE    DELETE
failed, to be launched again  LAUNCH   FORGET  DELETE    DELETE  DELETE    DELETE
failed a moment ago           WAIT     FORGET  DELETE    DELETE  DELETE    DELETE
out of budget                 GIVE_UP  FORGET  DELETE    DELETE  DELETE    DELETE
given up, requested again      LAUNCH   FORGET  DELETE    DELETE  DELETE    DELETE
claimed                       LAUNCH   WAIT    WAIT      PROBE   PROBE     PROBE
claimed long ago              FORGET   FORGET  DELETE    DELETE  WAIT      WAIT
launched                      FORGET   WAIT    WAIT      PROBE   PROBE     PROBE
launched long ago             FORGET   FORGET  DELETE    DELETE  WAIT      WAIT
ready                         FORGET   FORGET  WAIT      PROBE   PROBE     PROBE
silent                        FORGET   FORGET  WAIT      PROBE   PROBE     PROBE
silent for long               FORGET   FORGET  DELETE    DELETE  WAIT      WAIT
retiring                      FORGET   FORGET  DELETE    DELETE  DELETE    DELETE
retiring, a moment ago         FORGET   FORGET  WAIT      WAIT    WAIT      WAIT
retiring, refused             FORGET   FORGET  DELETE    PROBE   PROBE     PROBE

                              IMPORTED  FAILING  BROKEN  LOST    EMPTY       HALF_UPDATED
never launched                DELETE    WAIT     DELETE  DELETE  DELETE      DELETE
gone                          DELETE    WAIT     DELETE  DELETE  DELETE      DELETE
failed, to be launched again  DELETE    WAIT     DELETE  DELETE  DELETE      DELETE
failed a moment ago           DELETE    WAIT     DELETE  DELETE  DELETE      DELETE
out of budget                 DELETE    WAIT     DELETE  DELETE  DELETE      DELETE
given up, requested again      DELETE    WAIT     DELETE  DELETE  DELETE      DELETE
claimed                       PROBE     WAIT     DELETE  DELETE  LOOK_AGAIN  ROLL_BACK
claimed long ago              DELETE    WAIT     DELETE  DELETE  LOOK_AGAIN  ROLL_BACK
launched                      PROBE     WAIT     DELETE  DELETE  LOOK_AGAIN  ROLL_BACK
launched long ago             DELETE    WAIT     DELETE  DELETE  LOOK_AGAIN  ROLL_BACK
ready                         PROBE     WAIT     DELETE  DELETE  LOOK_AGAIN  ROLL_BACK
silent                        PROBE     WAIT     DELETE  DELETE  LOOK_AGAIN  ROLL_BACK
silent for long               DELETE    WAIT     DELETE  DELETE  LOOK_AGAIN  ROLL_BACK
retiring                      DELETE    WAIT     DELETE  DELETE  DELETE      DELETE
retiring, a moment ago         WAIT      WAIT     WAIT    WAIT    WAIT        WAIT
retiring, refused             PROBE     WAIT     DELETE  DELETE  DELETE      DELETE

                              STUCK              DELETING  UNDELETABLE  IMPORTING  UNKNOWN  FOREIGN
never launched                DELETE             DELETE    DELETE       WAIT       WAIT     LAUNCH
gone                          DELETE             DELETE    DELETE       WAIT       WAIT     LAUNCH
failed, to be launched again  DELETE             DELETE    DELETE       WAIT       WAIT     LAUNCH
failed a moment ago           DELETE             DELETE    DELETE       WAIT       WAIT     WAIT
out of budget                 DELETE             DELETE    DELETE       WAIT       WAIT     GIVE_UP
given up, requested again      DELETE             DELETE    DELETE       WAIT       WAIT    LAUNCH
claimed                       CONTINUE_ROLLBACK  DELETE    DELETE       WAIT       WAIT     QUARANTINE
claimed long ago              CONTINUE_ROLLBACK  DELETE    DELETE       WAIT       WAIT     QUARANTINE
launched                      CONTINUE_ROLLBACK  DELETE    DELETE       WAIT       WAIT     QUARANTINE
launched long ago             CONTINUE_ROLLBACK  DELETE    DELETE       WAIT       WAIT     QUARANTINE
ready                         CONTINUE_ROLLBACK  DELETE    DELETE       WAIT       WAIT     QUARANTINE
silent                        CONTINUE_ROLLBACK  DELETE    DELETE       WAIT       WAIT     QUARANTINE
silent for long               CONTINUE_ROLLBACK  DELETE    DELETE       WAIT       WAIT     QUARANTINE
retiring                      DELETE             WAIT      DELETE       WAIT       WAIT     QUARANTINE
retiring, a moment ago         WAIT               WAIT      WAIT         WAIT       WAIT    QUARANTINE
retiring, refused             DELETE             WAIT      DELETE       WAIT       WAIT     QUARANTINE
"""
WHEN_STOPPED = """
                              ABSENT  UNSEEN  CREATING  USABLE  UPDATING       FINISHING
never launched                FORGET  FORGET  DELETE    DELETE  CANCEL_UPDATE  WAIT
gone                          FORGET  FORGET  DELETE    DELETE  CANCEL_UPDATE  WAIT
failed, to be launched again  FORGET  FORGET  DELETE    DELETE  CANCEL_UPDATE  WAIT
failed a moment ago           FORGET  FORGET  DELETE    DELETE  WAIT           WAIT
out of budget                 FORGET  FORGET  DELETE    DELETE  CANCEL_UPDATE  WAIT
given up, requested again      FORGET  FORGET  DELETE    DELETE  CANCEL_UPDATE  WAIT
claimed                       WAIT    WAIT    DELETE    DELETE  CANCEL_UPDATE  WAIT
claimed long ago              FORGET  FORGET  DELETE    DELETE  CANCEL_UPDATE  WAIT
launched                      FORGET  WAIT    DELETE    DELETE  CANCEL_UPDATE  WAIT
launched long ago             FORGET  FORGET  DELETE    DELETE  CANCEL_UPDATE  WAIT
ready                         FORGET  FORGET  DELETE    DELETE  CANCEL_UPDATE  WAIT
silent                        FORGET  FORGET  DELETE    DELETE  CANCEL_UPDATE  WAIT
silent for long               FORGET  FORGET  DELETE    DELETE  CANCEL_UPDATE  WAIT
retiring                      FORGET  FORGET  DELETE    DELETE  CANCEL_UPDATE  WAIT
retiring, a moment ago         FORGET  FORGET  WAIT      WAIT    WAIT           WAIT
retiring, refused             FORGET  FORGET  DELETE    DELETE  CANCEL_UPDATE  WAIT

                              IMPORTED  FAILING  BROKEN  LOST    EMPTY   HALF_UPDATED
never launched                DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
gone                          DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
failed, to be launched again  DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
failed a moment ago           DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
out of budget                 DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
given up, requested again      DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
claimed                       DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
claimed long ago              DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
launched                      DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
launched long ago             DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
ready                         DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
silent                        DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
silent for long               DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
retiring                      DELETE    WAIT     DELETE  DELETE  DELETE  DELETE
retiring, a moment ago         WAIT      WAIT     WAIT    WAIT    WAIT    WAIT
retiring, refused             DELETE    WAIT     DELETE  DELETE  DELETE  DELETE

                              STUCK   DELETING  UNDELETABLE  IMPORTING  UNKNOWN  FOREIGN
never launched                DELETE  DELETE    DELETE       WAIT       WAIT     FORGET
gone                          DELETE  DELETE    DELETE       WAIT       WAIT     FORGET
failed, to be launched again  DELETE  DELETE    DELETE       WAIT       WAIT     FORGET
failed a moment ago           DELETE  DELETE    DELETE       WAIT       WAIT     FORGET
out of budget                 DELETE  DELETE    DELETE       WAIT       WAIT     FORGET
given up, requested again      DELETE  DELETE    DELETE       WAIT       WAIT    FORGET
claimed                       DELETE  DELETE    DELETE       WAIT       WAIT     WAIT
claimed long ago              DELETE  DELETE    DELETE       WAIT       WAIT     FORGET
launched                      DELETE  DELETE    DELETE       WAIT       WAIT     FORGET
launched long ago             DELETE  DELETE    DELETE       WAIT       WAIT     FORGET
ready                         DELETE  DELETE    DELETE       WAIT       WAIT     FORGET
silent                        DELETE  DELETE    DELETE       WAIT       WAIT     FORGET
silent for long               DELETE  DELETE    DELETE       WAIT       WAIT     FORGET
retiring                      DELETE  WAIT      DELETE       WAIT       WAIT     FORGET
retiring, a moment ago         WAIT    WAIT      WAIT         WAIT       WAIT    FORGET
retiring, refused             DELETE  WAIT      DELETE       WAIT       WAIT     FORGET
"""
TABLES = {RUNNING: WHEN_RUNNING, STOPPED: WHEN_STOPPED}


def cells(table):
    """Return `{(record, phase): action}` of a table above."""
    expected = {}
    for block in table.strip("\n").split("\n\n"):
        header, *rows = block.splitlines()
        phases = [StackPhase[name] for name in header.split()]
        for row in rows:
            actions = [Action[name] for name in row[30:].split()]
            expected |= {
                (row[:30].strip(), phase): action for phase, action in zip(phases, actions, strict=True)
            }
    return expected


CELLS = [
    (desired_state, *where, action)
    for desired_state, table in TABLES.items()
    for where, action in cells(table).items()
]


@pytest.mark.parametrize(("desired_state", "record", "phase", "action"), CELLS)
def test_action_for_record_and_phase(desired_state, record, phase, action):
    """The decision is that of the tables above, and its reason is a sentence."""
    decision = decide(
        a_node(**{"desired_state": desired_state} | RECORDS[record]), NodeStack(phase), NOON, RULES
    )

    assert decision.action is action
    assert decision.reason.endswith(".") or action is Action.GIVE_UP


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_tables_are_complete(table):
    """Each new phase needs a column, each new record a row."""
    assert cells(table).keys() == set(product(RECORDS, StackPhase))


@pytest.mark.parametrize(
    ("desired_state", "alarming"),
    [
        (RUNNING, {"IMPORTING", "IMPORTED", "LOST", "HALF_UPDATED", "STUCK", "FOREIGN", "UNKNOWN"}),
        (STOPPED, {"IMPORTING", "UNKNOWN"}),
    ],
)
def test_phases_that_raise_an_alarm(desired_state, alarming):
    """Imports, failed updates and unknown statuses need an operator."""
    node = a_node(desired_state=desired_state, **KNOWN)

    assert {p.name for p in StackPhase if decide(node, NodeStack(p), NOON, RULES).alarm} == alarming


@pytest.mark.parametrize(
    ("deletions", "running", "stopped"),
    [
        (0, Action.DELETE, Action.DELETE),
        (1, Action.DELETE, Action.DELETE),
        (2, Action.DELETE_RETAINING, Action.DELETE_RETAINING),
        (3, Action.DELETE_BY_FORCE, Action.DELETE_BY_FORCE),
        (4, Action.QUARANTINE, Action.DELETE_BY_FORCE),
        (9, Action.QUARANTINE, Action.DELETE_BY_FORCE),
    ],
)
def test_failing_deletion_is_escalated(deletions, running, stopped):
    """Only a node that should run is quarantined; otherwise deletion by force is repeated."""
    record = RETIRING | {"deletions": deletions}
    stack = NodeStack(StackPhase.UNDELETABLE, stack_id=ARN)

    assert decide(a_node(desired_state=RUNNING, **record), stack, NOON, RULES).action is running
    assert decide(a_node(desired_state=STOPPED, **record), stack, NOON, RULES).action is stopped


@pytest.mark.parametrize(
    ("deleted_at", "action", "attempt"),
    [
        (0.0, Action.DELETE_RETAINING, 3),
        (NOON - 100, Action.DELETE_RETAINING, 3),
        (NOON - 105, Action.DELETE_RETAINING, 3),
        (NOON - 200, Action.DELETE, 2),
    ],
)
def test_recorded_deletion_that_was_never_called_is_repeated(deleted_at, action, attempt):
    """If the process died before the call, the same deletion is attempted without escalation."""
    node = a_node(desired_state=STOPPED, **RETIRING | {"deletions": 2, "deletion_at": NOON - 100})
    stack = NodeStack(StackPhase.UNDELETABLE, stack_id=ARN, deleted_at=deleted_at)

    decision = decide(node, stack, NOON, RULES)

    assert (decision.action, decision.attempt) == (action, attempt)


@pytest.mark.parametrize(
    ("phase", "record", "attempt"),
    [
        (StackPhase.USABLE, READY, 1),
        (StackPhase.USABLE, RETIRING, 1),
        (StackPhase.USABLE, RETIRING | {"is_refused": True}, 2),
        (StackPhase.DELETING, READY, 1),
        (StackPhase.BROKEN, KNOWN, 1),
    ],
)
def test_repeated_deletion_is_the_same_attempt(phase, record, attempt):
    """The call may have been lost, or the described phase may be outdated; a refusal starts a new attempt."""
    decision = decide(a_node(desired_state=STOPPED, **record), NodeStack(phase), NOON, RULES)

    assert (decision.action, decision.attempt) == (Action.DELETE, attempt)


@pytest.mark.parametrize(
    ("deletions", "action"), [(1, Action.DELETE), (2, Action.DELETE), (3, Action.QUARANTINE)]
)
def test_broken_stack_whose_deletion_is_refused_is_quarantined(deletions, action):
    """With termination protection, CloudFormation refuses a deletion without a change of status."""
    record = RETIRING | {"deletions": deletions, "is_refused": True}

    decision = decide(a_node(desired_state=RUNNING, **record), NodeStack(StackPhase.BROKEN), NOON, RULES)

    assert decision.action is action
    assert decision.alarm


@pytest.mark.parametrize(("seconds", "alarm"), [(3600, False), (3601, True)])
def test_deletion_of_more_than_an_hour_raises_an_alarm(seconds, alarm):
    """The reconciler waits until CloudFormation ends the deletion."""
    record = RETIRING | {"deletion_at": NOON - seconds}

    decision = decide(a_node(desired_state=RUNNING, **record), NodeStack(StackPhase.DELETING), NOON, RULES)

    assert (decision.action, decision.alarm) == (Action.WAIT, alarm)


def test_usable_stack_whose_deletion_is_refused_is_used_again():
    """If the node should run again, the existing stack is probed instead of launching a second one."""
    record = RETIRING | {"deletions": 9, "is_refused": True, "next_at": NOON + 100}

    assert (
        decide(a_node(desired_state=RUNNING, **record), NodeStack(StackPhase.USABLE), NOON, RULES).action
        is Action.PROBE
    )


@pytest.mark.parametrize("phase", [StackPhase.EMPTY, StackPhase.HALF_UPDATED, StackPhase.STUCK])
def test_stack_is_deleted_after_a_few_failed_repairs(phase):
    """The failure is recorded with the reason of the repair."""
    decision = decide(
        a_node(desired_state=RUNNING, **READY | {"repairs": REPAIRS}),
        NodeStack(phase),
        NOON,
        RULES,
    )

    assert decision.action is Action.DELETE
    assert decision.has_failed
    assert decision.failure == decision.reason


@pytest.mark.parametrize("phase", StackPhase)
def test_phases_in_which_a_launch_has_failed(phase):
    """The failure reason is read from AWS, not from the record."""
    decision = decide(a_node(desired_state=RUNNING, **KNOWN), NodeStack(phase), NOON, RULES)

    assert decision.has_failed is (phase.name in ("FAILING", "BROKEN", "LOST", "FOREIGN"))
    assert decision.failure == ""


@pytest.mark.parametrize("phase", [StackPhase.CREATING, StackPhase.USABLE])
def test_launch_fails_only_after_its_deadline(phase):
    """At the deadline the stack is kept; after it the stack is deleted, and the failure names the seconds."""
    node = a_node(desired_state=RUNNING, **KNOWN)

    at = decide(node, NodeStack(phase), node.launched_at + DEADLINE, RULES)
    after = decide(node, NodeStack(phase), node.launched_at + DEADLINE + 0.1, RULES)

    assert at.action is not Action.DELETE
    assert after.action is Action.DELETE
    assert "600 s" in after.failure


def test_deadline_counts_from_the_launch_of_the_generation():
    """The ready time of an earlier generation does not extend the deadline."""
    late = {"ready_at": NOON - DEADLINE - 100, "generation": 2}

    assert (
        decide(
            a_node(desired_state=RUNNING, **KNOWN | LONG_AGO | late),
            NodeStack(StackPhase.USABLE),
            NOON,
            RULES,
        ).action
        is Action.DELETE
    )


def test_node_that_stays_silent_is_replaced():
    """ECS restarts a task, so a silent node gets as much time as a launch."""
    node = a_node(desired_state=RUNNING, **SILENT)

    decision = decide(node, NodeStack(StackPhase.USABLE), node.silent_at + DEADLINE + 1, RULES)

    assert decision.action is Action.DELETE
    assert decision.failure == silence_since(node.silent_at)


@pytest.mark.parametrize(
    ("desired_state", "seconds", "action"),
    [
        (STOPPED, 0, Action.WAIT),
        (STOPPED, VISIBILITY_DELAY, Action.WAIT),
        (STOPPED, VISIBILITY_DELAY + 0.1, Action.FORGET),
    ],
)
def test_possible_launch_is_waited_for(desired_state, seconds, action):
    """Another process may have claimed the generation; its stack would be left if the node were forgotten."""
    node = a_node(desired_state=desired_state, **FRESH)

    assert decide(node, ABSENT_STACK, node.launched_at + seconds, RULES).action is action


@pytest.mark.parametrize("desired_state", DesiredState)
@pytest.mark.parametrize(
    ("seconds", "action"), [(VISIBILITY_DELAY, Action.WAIT), (VISIBILITY_DELAY + 0.1, Action.FORGET)]
)
def test_unseen_stack_is_waited_for(desired_state, seconds, action):
    """DescribeStacks is eventually consistent."""
    node = a_node(desired_state=desired_state, **KNOWN)
    unseen = NodeStack(StackPhase.UNSEEN, ARN)

    assert decide(node, unseen, node.launched_at + seconds, RULES).action is action


@pytest.mark.parametrize("record", [READY, RETIRING])
def test_unseen_stack_of_an_earlier_launch_is_forgotten(record):
    """DescribeStacks lags for seconds only, so a stack it no longer shows is deleted."""
    unseen = NodeStack(StackPhase.UNSEEN, ARN)

    assert decide(a_node(desired_state=RUNNING, **record), unseen, NOON, RULES).action is Action.FORGET


@pytest.mark.parametrize(
    ("attempts", "next_at", "seconds", "action"),
    [
        (1, NOON, 0, Action.LAUNCH),
        (1, NOON + 1, 0, Action.WAIT),
        (3, NOON, 0, Action.WAIT),
        (3, NOON, VISIBILITY_DELAY + 1, Action.FORGET),
    ],
)
def test_refused_launch_is_retried_in_the_same_generation(attempts, next_at, seconds, action):
    """A call of another process may have succeeded, so the generation ends only after the budget."""
    refused = FRESH | {"failed_generation": 1, "attempts": attempts, "next_at": next_at, "launched_at": NOON}

    assert (
        decide(a_node(desired_state=RUNNING, **refused), ABSENT_STACK, NOON + seconds, RULES).action is action
    )


def test_deleted_stack_with_an_arn_is_forgotten_before_the_next_launch():
    """CloudFormation describes a deleted stack by its ARN, also if the record has no ARN."""
    decision = decide(
        a_node(desired_state=RUNNING, **FRESH),
        NodeStack(StackPhase.ABSENT, stack_id=ARN),
        NOON,
        RULES,
    )

    assert decision.action is Action.FORGET


@pytest.mark.parametrize(
    ("status", "desired_state", "requested_at", "at_rest"),
    [
        (NodeStatus.ABSENT, STOPPED, NOON, True),
        (NodeStatus.FAILED, STOPPED, NOON, True),
        (NodeStatus.FAILED, RUNNING, NOON, True),
        (NodeStatus.FAILED, RUNNING, NOON + 600, False),
        (NodeStatus.ABSENT, RUNNING, NOON, False),
        (NodeStatus.READY, STOPPED, NOON, False),
        (NodeStatus.RETIRING, STOPPED, NOON, False),
    ],
)
def test_stopped_or_failed_node_is_at_rest(status, desired_state, requested_at, at_rest):
    """The first request after the cool-down starts a new budget."""
    node = a_node(status=status, desired_state=desired_state, failed_at=NOON, requested_at=requested_at)

    assert is_at_rest(node, BUDGET) is at_rest
    assert is_given_up(node, BUDGET) is (at_rest and status is NodeStatus.FAILED)


NODES = st.builds(
    a_node,
    desired_state=st.sampled_from(DesiredState),
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
def test_decision_is_a_pure_function(node, phase, stack_id, now):
    """Every record and phase has one decision, and no launch is decided while its own stack exists."""
    stack = NodeStack(phase, stack_id)
    decision = decide(node, stack, now, RULES)

    assert decision == decide(node, stack, now, RULES)
    if decision.action is Action.LAUNCH:
        assert node.should_run
        assert phase in (StackPhase.ABSENT, StackPhase.FOREIGN)
    if decision.action is Action.FORGET:
        assert phase in (StackPhase.ABSENT, StackPhase.UNSEEN, StackPhase.FOREIGN)
    if decision.action in (Action.QUARANTINE, Action.PROBE):
        assert node.should_run
