"""What to do next about a node: a pure function of its record, its stack and the time.

`decide` looks up the phase of the stack in one of two tables, one for nodes that should run, one for nodes
that should stop. The reconciler carries out the decision, and decides again at the next pass.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from orchestration.domain.node import WITH_STACK, Node, NodeStack, NodeStatus, StackPhase
from orchestration.domain.schedule import LONGEST_PAUSE

VISIBILITY_DELAY = 120.0
"""Seconds after a launch was last recorded in which its stack may still become visible."""

PLAIN_DELETIONS = 2
"""How often a plain deletion is attempted. After that, resources that can't be deleted are retained, then
the deletion is forced."""

REPAIRS = 3
"""How many repairs of a stack are attempted before it is deleted."""

SKEW = 10.0
"""Seconds by which the clocks of CloudFormation and of this process may differ."""

LEAVING = "The previous stack is going down first."
FOREIGN = "Another program has created a stack of this name."


def silence_since(silent_at: float) -> str:
    """Return why a node that served is not ready; `silent_at` is in seconds since the epoch."""
    since = f"{datetime.fromtimestamp(silent_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"The node served before, but it has not answered since {since}."


class Action(StrEnum):
    """What to do next about a node."""

    LAUNCH = "launch"
    PROBE = "probe"  # does the node answer?
    WAIT = "wait"
    DELETE = "delete"
    DELETE_RETAINING = "delete retaining"  # retain the resources that can't be deleted
    DELETE_BY_FORCE = "delete by force"
    QUARANTINE = "quarantine"  # leave the stack as it is: the next generation starts beside it
    FORGET = "forget"  # the stack is gone: clean up after it
    GIVE_UP = "give up"
    LOOK_AGAIN = "look again"
    CANCEL_UPDATE = "cancel update"
    ROLL_BACK = "roll back"
    CONTINUE_ROLLBACK = "continue rollback"


@dataclass(frozen=True, slots=True)
class Budget:
    """How many launches may fail before the service stops retrying, and for how many seconds it stops."""

    attempts: int
    cool_down: float


@dataclass(frozen=True, slots=True)
class Rules:
    """How long a launch or a silence may take (`deadline`, seconds), and how often a launch is retried."""

    deadline: float
    budget: Budget


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do next, and a sentence that says why."""

    action: Action
    reason: str
    has_failed: bool = False
    """Whether this generation has failed, so that the failure is recorded."""
    failure: str = ""
    """Why the generation failed, according to the record. AWS's message is added when it is recorded."""
    alarm: bool = False
    """Whether an operator should know."""
    attempt: int = 0
    """Which deletion of this generation it is. The same number again is the same call to CloudFormation."""


def is_given_up(node: Node, budget: Budget) -> bool:
    """Return whether the launches of a node failed, and it was not requested since the cool-down ended."""
    return node.status is NodeStatus.FAILED and node.requested_at < node.failed_at + budget.cool_down


def is_at_rest(node: Node, budget: Budget) -> bool:
    """Return whether nothing is to be done, whatever the stack: the node is stopped, or given up."""
    return is_given_up(node, budget) or (not node.should_run and node.status not in WITH_STACK)


def decide(node: Node, stack: NodeStack, now: float, rules: Rules) -> Decision:
    """Return what brings a node nearer to its desired state; `now` is in seconds since the epoch."""
    rows = RUNNING if node.should_run else STOPPED
    return rows[stack.phase](_Case(node, stack, now, rules))


@dataclass(frozen=True, slots=True)
class _Case:
    """The facts that a decision is based on."""

    node: Node
    stack: NodeStack
    now: float
    rules: Rules

    @property
    def is_paused(self) -> bool:
        """Whether the last attempt failed a short time ago."""
        return self.now < self.node.next_at

    @property
    def may_become_visible(self) -> bool:
        """Whether the stack of a launch may exist although CloudFormation does not show it yet."""
        return self.now - self.node.launched_at <= VISIBILITY_DELAY

    @property
    def is_late(self) -> bool:
        """Whether the launch, or the silence of a node that was ready, exceeds the deadline."""
        since = max(self.node.launched_at, self.node.silent_at)
        return self.node.status is not NodeStatus.READY and self.now > since + self.rules.deadline

    @property
    def is_leaving(self) -> bool:
        """Whether the stack is being deleted, or has come up without a record and knows no valid secret.

        The phase doesn't say so: what CloudFormation shows may be seconds old.
        """
        is_deleted = self.node.status is NodeStatus.RETIRING and not self.node.is_refused
        return is_deleted or self.node.status not in WITH_STACK


_Row = Callable[[_Case], Decision]


def _wait(reason: str, *, has_failed: bool = False, alarm: bool = False) -> _Row:
    return lambda _: Decision(Action.WAIT, reason, has_failed, alarm=alarm)


# Nodes that should run


def _launch(case: _Case) -> Decision:
    node, budget = case.node, case.rules.budget
    if node.status is NodeStatus.RETIRING or case.stack.stack_id or node.stack_id:
        return Decision(Action.FORGET, "The previous stack is gone.")
    if node.status is NodeStatus.DEPLOYING and node.failed_generation == node.generation:
        return _launch_again(case)
    if node.status is NodeStatus.DEPLOYING and case.now > node.launched_at + case.rules.deadline:
        # The database did not wake, for example. Each attempt to create the stack restarts this time.
        failure = f"The launch could not begin within {case.rules.deadline:.0f} s. {node.reason}".strip()
        return Decision(Action.FORGET, failure, has_failed=True, failure=failure)
    if node.status is NodeStatus.ABSENT and node.attempts >= budget.attempts:
        return Decision(Action.GIVE_UP, node.failure)
    if node.status is NodeStatus.ABSENT and case.is_paused:
        return Decision(Action.WAIT, "The node is launched again soon.")
    return Decision(Action.LAUNCH, "The node is being launched.")


def _step_round(case: _Case) -> Decision:
    """Launch the next generation, whose stack has another name. A stranger's stack is not touched."""
    if case.node.status not in WITH_STACK:
        return _launch(case)
    return Decision(Action.QUARANTINE, case.stack.remark or FOREIGN, has_failed=True, alarm=True)


def _launch_again(case: _Case) -> Decision:
    """Retry a launch that was refused, in the same generation: another process's call may have succeeded."""
    refused = "CloudFormation refused the launch."
    if case.node.attempts < case.rules.budget.attempts:
        if case.is_paused:
            return Decision(Action.WAIT, refused)
        return Decision(Action.LAUNCH, "The node is being launched again.")
    return Decision(Action.WAIT if case.may_become_visible else Action.FORGET, refused)


def _await_creation(case: _Case) -> Decision:
    if case.is_leaving:
        return _delete(case, LEAVING)
    if case.is_late:
        return _delete_failed(case, f"The launch took longer than {case.rules.deadline:.0f} s.")
    return Decision(Action.WAIT, "The node's stack is being created.")


def _probe(case: _Case) -> Decision:
    """Probe a node whose stack is complete or being updated: it is ready once it answers."""
    alarm = case.stack.phase is StackPhase.IMPORTED
    if case.is_leaving:
        return _delete(case, LEAVING, alarm=alarm)
    if not case.is_late or case.node.status is NodeStatus.RETIRING:
        reason = "The stack is complete; the node itself doesn't answer yet."
        return Decision(Action.PROBE, reason, alarm=alarm)
    if case.stack.phase in (StackPhase.UPDATING, StackPhase.FINISHING):
        return Decision(Action.WAIT, "The stack is being updated, and the node doesn't answer.", alarm=True)
    if case.node.was_ready:
        return _delete_failed(case, silence_since(case.node.silent_at), alarm=alarm)
    return _delete_failed(case, f"The node gave no answer within {case.rules.deadline:.0f} s.", alarm=alarm)


def _repair(action: Action, reason: str, *, alarm: bool = True) -> _Row:
    """Attempt the action a few times, then delete the stack."""

    def row(case: _Case) -> Decision:
        is_in_use = case.node.status in (NodeStatus.READY, NodeStatus.DEPLOYING)
        if not is_in_use or case.node.repairs >= REPAIRS:
            return _delete_failed(case, reason)
        if case.is_paused:
            return Decision(Action.WAIT, reason)
        return Decision(action, reason, alarm=alarm)

    return row


# Nodes that should stop


def _forget_unless_launching(case: _Case) -> Decision:
    is_launching = case.node.status is NodeStatus.DEPLOYING and case.node.stack_id is None
    if is_launching and case.may_become_visible:
        # If the node were forgotten now, nothing would look for a stack that another process may create.
        return Decision(Action.WAIT, "A launch may be under way; it goes down after that.")
    return Decision(Action.FORGET, "The node is gone.")


def _cancel_update(case: _Case) -> Decision:
    if case.is_paused:
        return Decision(Action.WAIT, "The update of the stack is being cancelled.")
    return Decision(Action.CANCEL_UPDATE, "The update of the stack is cancelled first.")


# Either


def _delete_with(reason: str, *, has_failed: bool = False, alarm: bool = False) -> _Row:
    return lambda case: _delete(case, reason, has_failed=has_failed, alarm=alarm)


def _delete_failed(case: _Case, failure: str, *, alarm: bool = False) -> Decision:
    return _delete(case, failure, has_failed=True, failure=failure, alarm=alarm)


def _delete(
    case: _Case, reason: str, *, has_failed: bool = False, failure: str = "", alarm: bool = False
) -> Decision:
    """Delete a stack whose deletion hasn't begun: the first call, or one after it was refused or got lost.

    After a pause, if a deletion was attempted before. If deletion is refused again and again while the node
    should run (by termination protection, say), the next generation starts beside the stack.
    """
    node = case.node
    if node.deletions and case.is_paused:
        action, attempt = Action.WAIT, 0
    elif node.is_refused and node.deletions > PLAIN_DELETIONS and node.should_run:
        action, attempt, alarm = Action.QUARANTINE, 0, True
    else:
        is_same = node.status is NodeStatus.RETIRING and not node.is_refused
        action, attempt = Action.DELETE, max(node.deletions, 1) if is_same else node.deletions + 1
        alarm = alarm or node.is_refused
    return Decision(action, reason, has_failed, failure, alarm, attempt)


def _delete_again(case: _Case) -> Decision:
    """Escalate a deletion that failed. The stack counts as deleted only when CloudFormation says so."""
    node = case.node
    reason = "The previous stack could not be deleted yet."
    if node.deletions and case.is_paused:
        return Decision(Action.WAIT, reason)
    # If the process died between recording the last deletion and calling for it, that one is still due.
    was_called = not 0 < case.stack.deleted_at < node.deletion_at - SKEW
    attempt = node.deletions + 1 if was_called else max(node.deletions, 1)
    if attempt <= PLAIN_DELETIONS:
        return Decision(Action.DELETE, reason, attempt=attempt)
    if attempt == PLAIN_DELETIONS + 1:
        return Decision(Action.DELETE_RETAINING, reason, alarm=True, attempt=attempt)
    if attempt > PLAIN_DELETIONS + 2 and node.should_run:
        return Decision(Action.QUARANTINE, reason, alarm=True)
    return Decision(Action.DELETE_BY_FORCE, reason, alarm=True, attempt=attempt)


def _await_deletion(case: _Case) -> Decision:
    node = case.node
    if node.status is not NodeStatus.RETIRING:
        # An operator deletes the stack: record it, so that no device is sent to the node any more.
        return Decision(Action.DELETE, "The stack is going down.", attempt=node.deletions + 1)
    if case.now - node.deletion_at > LONGEST_PAUSE:
        return Decision(Action.WAIT, "The previous stack has been going down for too long.", alarm=True)
    return Decision(Action.WAIT, LEAVING)


def _await_visibility(case: _Case) -> Decision:
    if case.node.status is NodeStatus.DEPLOYING and case.may_become_visible:
        # DescribeStacks is eventually consistent. If the new stack were considered deleted, it would leak.
        return Decision(Action.WAIT, "CloudFormation doesn't show the stack yet.")
    return Decision(Action.FORGET, "The previous stack is gone.")


def _await_operator(case: _Case) -> Decision:
    return Decision(Action.WAIT, case.stack.remark or "CloudFormation is busy with the stack.", alarm=True)


_IN_BOTH: Mapping[StackPhase, _Row] = {
    StackPhase.UNSEEN: _await_visibility,
    StackPhase.DELETING: _await_deletion,
    StackPhase.UNDELETABLE: _delete_again,
    StackPhase.IMPORTING: _wait("An operator is importing into the stack.", alarm=True),
    StackPhase.UNKNOWN: _await_operator,
}

RUNNING: Mapping[StackPhase, _Row] = {
    **_IN_BOTH,
    StackPhase.ABSENT: _launch,
    StackPhase.CREATING: _await_creation,
    StackPhase.USABLE: _probe,
    StackPhase.UPDATING: _probe,
    StackPhase.FINISHING: _probe,
    StackPhase.IMPORTED: _probe,
    StackPhase.FAILING: _wait("The launch failed; it is being rolled back.", has_failed=True),
    StackPhase.BROKEN: _delete_with("The launch failed; what is left of it is removed.", has_failed=True),
    StackPhase.LOST: _delete_with("An import into the stack failed.", has_failed=True, alarm=True),
    StackPhase.EMPTY: _repair(Action.LOOK_AGAIN, "The stack has no resources yet.", alarm=False),
    StackPhase.HALF_UPDATED: _repair(Action.ROLL_BACK, "An update of the stack failed."),
    StackPhase.STUCK: _repair(Action.CONTINUE_ROLLBACK, "The rollback of an update failed."),
    StackPhase.FOREIGN: _step_round,
}
"""What to do about a node that should run, by the phase of its stack."""

_UNNEEDED = _delete_with("Nothing is left to train.")

STOPPED: Mapping[StackPhase, _Row] = {
    **_IN_BOTH,
    StackPhase.ABSENT: _forget_unless_launching,
    StackPhase.CREATING: _UNNEEDED,
    StackPhase.USABLE: _UNNEEDED,
    StackPhase.UPDATING: _cancel_update,
    StackPhase.FINISHING: _wait("The stack is busy; it goes down after that."),
    StackPhase.IMPORTED: _UNNEEDED,
    StackPhase.FAILING: _wait("The stack is busy; it goes down after that."),
    StackPhase.BROKEN: _UNNEEDED,
    StackPhase.LOST: _UNNEEDED,
    StackPhase.EMPTY: _UNNEEDED,
    StackPhase.HALF_UPDATED: _UNNEEDED,
    StackPhase.STUCK: _UNNEEDED,
    StackPhase.FOREIGN: _forget_unless_launching,
}
"""What to do about a node that should stop, by the phase of its stack."""
