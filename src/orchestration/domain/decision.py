"""What to do next about a node: a pure function of its record, its stack and the time."""

from dataclasses import dataclass
from enum import StrEnum

from orchestration.domain.node import WITH_STACK, Node, NodeStack, NodeStatus, StackPhase, Wish

LAUNCH_SETTLES = 120.0
"""Seconds from the last word before a launch until its stack, if there will be one, can be seen."""

PLAIN_DELETIONS = 2
"""How often a stack is simply asked to go; then what resists is left behind, then it goes by force."""

REPAIRS = 3
"""How often a stack is looked at again, or rolled back, before it is deleted."""

FIRST_PAUSE, LONGEST_PAUSE = 30.0, 3600.0
"""Seconds between two tries of what has failed."""

SKEW = 10.0
"""Seconds that CloudFormation's clock and ours may differ by."""

LEAVING = "The previous stack is going down first."


class Action(StrEnum):
    """What to do next about a node."""

    LAUNCH = "launch"
    ASK = "ask"  # ask the node itself whether it answers
    WAIT = "wait"
    DELETE = "delete"
    DELETE_RETAINING = "delete retaining"  # leave behind the resources that can't be deleted
    DELETE_BY_FORCE = "delete by force"
    QUARANTINE = "quarantine"  # leave the whole stack behind: the next generation starts beside it
    FORGET = "forget"  # the stack is gone: clean up behind it
    GIVE_UP = "give up"
    LOOK_AGAIN = "look again"
    CANCEL_UPDATE = "cancel update"
    ROLL_BACK = "roll back"
    CONTINUE_ROLLBACK = "continue rollback"


@dataclass(frozen=True, slots=True)
class Budget:
    """How many launches may fail before a node is given up, and for how long (seconds) it then stays so."""

    attempts: int
    cool_down: float


@dataclass(frozen=True, slots=True)
class Rules:
    """Within what bounds nodes are launched; `deadline`: seconds that a launch, or a silence, may take."""

    deadline: float
    budget: Budget


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do next, and a sentence that says why."""

    action: Action
    reason: str
    failure: str | None = None
    """This generation has come to nothing: what is to be kept of it, before what AWS says; else None."""
    alarm: bool = False
    """An operator should know."""
    attempt: int = 0
    """Of a deletion, which one it is of this generation; the same one again is the same call."""


def is_given_up(node: Node, budget: Budget) -> bool:
    """Whether its launches have failed too often, and nobody has asked since the cool-down was over."""
    return node.status is NodeStatus.FAILED and node.asked_at < node.failed_at + budget.cool_down


def is_at_rest(node: Node, budget: Budget) -> bool:
    """Whether nothing is to be done, whatever its stack says: nobody wants it, or it is given up."""
    return is_given_up(node, budget) or (node.wish is Wish.DOWN and node.status not in WITH_STACK)


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row: none at first, then doubling up to an hour."""
    return min(FIRST_PAUSE * 2.0 ** (failures - 1), LONGEST_PAUSE) if failures > 0 else 0.0


def decide(node: Node, stack: NodeStack, now: float, rules: Rules) -> Decision:
    """Say what brings the node nearer to its wish; `now` is in seconds since the epoch."""
    if node.wish is Wish.DOWN:
        return _take_down(node, stack, now)
    return _bring_up(node, stack, now, rules)


def _bring_up(node: Node, stack: NodeStack, now: float, rules: Rules) -> Decision:
    is_late = node.status is not NodeStatus.READY and now > _waits_since(node) + rules.deadline
    match stack.phase:
        case StackPhase.ABSENT:
            return _begin(node, stack, now, rules)
        case StackPhase.CREATING if _is_leaving(node):
            return _delete(node, now, LEAVING)
        case StackPhase.CREATING if is_late:
            late = f"The launch took longer than {rules.deadline:.0f} s."
            return _delete(node, now, late, failure=late)
        case StackPhase.CREATING:
            return Decision(Action.WAIT, "The node's stack is being created.")
        case StackPhase.USABLE | StackPhase.UPDATING | StackPhase.SETTLING | StackPhase.IMPORTED:
            return _make_ready(node, stack.phase, now, rules.deadline, is_late=is_late)
        case _:
            return _mend(node, stack, now)


def _mend(node: Node, stack: NodeStack, now: float) -> Decision:
    match stack.phase:
        case StackPhase.FAILING:
            return Decision(Action.WAIT, "The launch failed; it is being rolled back.", failure="")
        case StackPhase.BROKEN:
            return _delete(node, now, "The launch failed; what is left of it is removed.", failure="")
        case StackPhase.LOST:
            return _delete(node, now, "An import into the stack failed.", failure="", alarm=True)
        case StackPhase.EMPTY:
            return _repair(node, now, Action.LOOK_AGAIN, "The stack has no resources yet.")
        case StackPhase.HALF_UPDATED:
            return _repair(node, now, Action.ROLL_BACK, "An update of the stack failed.")
        case StackPhase.STUCK:
            return _repair(node, now, Action.CONTINUE_ROLLBACK, "The rollback of an update failed.")
        case _:
            return _either_way(node, stack, now)


def _take_down(node: Node, stack: NodeStack, now: float) -> Decision:
    may_be_launching = node.status is NodeStatus.DEPLOYING and node.stack_id is None
    match stack.phase:
        case StackPhase.ABSENT if may_be_launching and _may_be_settling(node, now):
            # Forgotten now, a stack that another process is about to launch would never be looked at again.
            return Decision(Action.WAIT, "A launch may be under way; it goes down after that.")
        case StackPhase.ABSENT:
            return Decision(Action.FORGET, "The node is gone.")
        case StackPhase.FAILING | StackPhase.SETTLING:
            return Decision(Action.WAIT, "The stack is busy; it goes down after that.")
        case StackPhase.UPDATING if now < node.next_at:
            return Decision(Action.WAIT, "The update of the stack is being called back.")
        case StackPhase.UPDATING:
            return Decision(Action.CANCEL_UPDATE, "The update of the stack is called back first.")
        case (
            StackPhase.UNSEEN
            | StackPhase.DELETING
            | StackPhase.UNDELETABLE
            | StackPhase.IMPORTING
            | StackPhase.UNKNOWN
        ):
            return _either_way(node, stack, now)
        case _:
            return _delete(node, now, "Nothing is left to train.")


def _either_way(node: Node, stack: NodeStack, now: float) -> Decision:
    """What is done about a stack in these phases whatever the wish is."""
    match stack.phase:
        case StackPhase.UNSEEN if node.status is NodeStatus.DEPLOYING and _may_be_settling(node, now):
            # DescribeStacks lags behind. Taken for gone, the new stack would be forgotten and live on.
            return Decision(Action.WAIT, "CloudFormation doesn't show the stack yet.")
        case StackPhase.UNSEEN:
            return Decision(Action.FORGET, "The previous stack is gone.")
        case StackPhase.DELETING if node.status is not NodeStatus.RETIRING:
            # Somebody else has it deleted: nobody may be sent there any more.
            return Decision(Action.DELETE, "The stack is going down.", attempt=node.deletions + 1)
        case StackPhase.DELETING if now - node.deletion_at > LONGEST_PAUSE:
            return Decision(Action.WAIT, "The previous stack has been going down for too long.", alarm=True)
        case StackPhase.DELETING:
            return Decision(Action.WAIT, LEAVING)
        case StackPhase.UNDELETABLE:
            return _delete_again(node, stack, now)
        case StackPhase.IMPORTING:
            return Decision(Action.WAIT, "An operator is importing into the stack.", alarm=True)
        case _:
            return Decision(Action.WAIT, stack.remark or "CloudFormation is busy with the stack.", alarm=True)


def _may_be_settling(node: Node, now: float) -> bool:
    return now - node.launched_at <= LAUNCH_SETTLES


def _waits_since(node: Node) -> float:
    return max(node.launched_at, node.silent_at)


def _begin(node: Node, stack: NodeStack, now: float, rules: Rules) -> Decision:
    budget = rules.budget
    if node.status is NodeStatus.RETIRING or (stack.stack_id or node.stack_id):
        return Decision(Action.FORGET, "The previous stack is gone.")
    if node.status is NodeStatus.DEPLOYING and node.failed_generation == node.generation:
        return _begin_again(node, now, budget)
    if node.status is NodeStatus.DEPLOYING and now > node.launched_at + rules.deadline:
        # Its database, say, never woke; each try of the launch itself begins this time anew.
        failure = f"The launch could not begin within {rules.deadline:.0f} s. {node.reason}".strip()
        return Decision(Action.FORGET, failure, failure)
    if node.status is NodeStatus.ABSENT and node.attempts >= budget.attempts:
        return Decision(Action.GIVE_UP, node.failure)
    if node.status is NodeStatus.ABSENT and now < node.next_at:
        return Decision(Action.WAIT, "The node is launched again soon.")
    return Decision(Action.LAUNCH, "The node is being launched.")


def _begin_again(node: Node, now: float, budget: Budget) -> Decision:
    """Refused, it is tried again in the same generation: another call for it may have gone through."""
    if node.attempts < budget.attempts and now >= node.next_at:
        return Decision(Action.LAUNCH, "The node is being launched again.")
    if node.attempts < budget.attempts or _may_be_settling(node, now):
        return Decision(Action.WAIT, "CloudFormation refused the launch.")
    return Decision(Action.FORGET, "CloudFormation refused the launch.")


def _make_ready(node: Node, phase: StackPhase, now: float, deadline: float, *, is_late: bool) -> Decision:
    odd = phase is StackPhase.IMPORTED
    if _is_leaving(node):
        return _delete(node, now, LEAVING, alarm=odd)
    if not is_late or node.status is NodeStatus.RETIRING:
        return Decision(Action.ASK, "The stack is complete; the node itself doesn't answer yet.", alarm=odd)
    if phase in (StackPhase.UPDATING, StackPhase.SETTLING):
        return Decision(Action.WAIT, "The stack is being updated, and the node doesn't answer.", alarm=True)
    reason = f"The node gave no answer within {deadline:.0f} s."
    return _delete(node, now, reason, failure=reason, alarm=odd)


def _is_leaving(node: Node) -> bool:
    """Whether its deletion has begun, or its stack came up behind our back and knows no valid secret.

    CloudFormation's word, which may be seconds old, needn't say so.
    """
    return (node.status is NodeStatus.RETIRING and not node.is_refused) or node.status not in WITH_STACK


def _repair(node: Node, now: float, action: Action, reason: str) -> Decision:
    if node.status not in (NodeStatus.READY, NodeStatus.DEPLOYING) or node.repairs >= REPAIRS:
        return _delete(node, now, reason, failure=reason)
    if now < node.next_at:
        return Decision(Action.WAIT, reason)
    return Decision(action, reason, alarm=action is not Action.LOOK_AGAIN)


def _delete(
    node: Node, now: float, reason: str, *, failure: str | None = None, alarm: bool = False
) -> Decision:
    """A deletion that hasn't begun: the first, or one that was refused, or whose call got lost."""
    if node.deletions and now < node.next_at:
        return Decision(Action.WAIT, reason, failure, alarm)
    if node.is_refused and node.deletions > PLAIN_DELETIONS and node.wish is Wish.UP:
        return Decision(Action.QUARANTINE, reason, failure, alarm=True)
    is_the_same = node.status is NodeStatus.RETIRING and not node.is_refused
    attempt = max(node.deletions, 1) if is_the_same else node.deletions + 1
    return Decision(Action.DELETE, reason, failure, alarm or node.is_refused, attempt)


def _delete_again(node: Node, stack: NodeStack, now: float) -> Decision:
    """A deletion that failed: each time a step further. What stays is never called deleted."""
    reason = "The previous stack could not be deleted yet."
    if node.deletions and now < node.next_at:
        return Decision(Action.WAIT, reason)
    # Noted, and the process died before it asked? Then it is the last attempt's turn still.
    was_asked = not 0 < stack.deleted_at < node.deletion_at - SKEW
    attempt = node.deletions + 1 if was_asked else max(node.deletions, 1)
    if attempt <= PLAIN_DELETIONS:
        return Decision(Action.DELETE, reason, attempt=attempt)
    if attempt == PLAIN_DELETIONS + 1:
        return Decision(Action.DELETE_RETAINING, reason, alarm=True, attempt=attempt)
    if attempt > PLAIN_DELETIONS + 2 and node.wish is Wish.UP:
        return Decision(Action.QUARANTINE, reason, alarm=True)
    return Decision(Action.DELETE_BY_FORCE, reason, alarm=True, attempt=attempt)
