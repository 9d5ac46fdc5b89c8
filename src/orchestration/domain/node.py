"""A node, its wish and its life; and what to do next, as a pure function."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

LAUNCH_SETTLES = 120.0
"""Seconds from the claim of a generation until its stack, if there will be one, is there and can be seen."""


class NodeStatus(StrEnum):
    """Where a node is, in our words."""

    ABSENT = "absent"
    DEPLOYING = "deploying"
    READY = "ready"
    RETIRING = "retiring"
    FAILED = "failed"


class Wish(StrEnum):
    """What we want of a node."""

    UP = "up"
    DOWN = "down"


class StackPhase(StrEnum):
    """What a stack's status means for us; `provisioning/cfn_status.py` maps CloudFormation's words."""

    ABSENT = "absent"
    CREATING = "creating"
    USABLE = "usable"
    FAILING = "failing"  # on its way to BROKEN; nothing can be done before it is there
    BROKEN = "broken"
    DELETING = "deleting"
    UNDELETABLE = "undeletable"
    UPDATING = "updating"  # usable, but can't be deleted before it is done
    UNKNOWN = "unknown"


class Action(StrEnum):
    """What to do next about a node."""

    LAUNCH = "launch"
    ASK = "ask"  # ask the node itself whether it answers
    WAIT = "wait"
    DELETE = "delete"
    FORGET = "forget"  # the stack is gone: clean up behind it


@dataclass(frozen=True, slots=True)
class Node:
    """What we have written down about the node of one dataset.

    Times are seconds since the epoch. `generation` counts the lives of its stack; it is the stack name's
    suffix, and every conditional write names it.
    """

    node_id: str
    dataset_id: str
    wish: Wish = Wish.DOWN
    status: NodeStatus = NodeStatus.ABSENT
    generation: int = 0
    reason: str = ""
    """What is being waited for, for the data scientist who asked."""
    failure: str = ""
    """Why the launch before this one came to nothing; kept until a launch succeeds."""
    stack_id: str | None = None
    address: str | None = None
    secret_hash: str | None = None
    asked_at: float = 0.0
    asked_by: str = ""
    """The data scientist who asked last."""
    charged_to: str | None = None
    """On whose quota this generation counts."""
    launched_at: float = 0.0
    ready_at: float = 0.0
    attempts: int = 0
    """Launches since the node was last ready, or since its budget was last opened."""
    failed_at: float = 0.0
    """When a launch last came to nothing."""
    idle_since: float = 0.0
    """Since when nothing has needed it; 0 while something does."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How many nodes may be awake at once: those that one buyer asked for, and all."""

    per_buyer: int
    in_all: int


@dataclass(frozen=True, slots=True)
class Budget:
    """How many launches may fail before a node is given up, and for how long (seconds) it then stays so."""

    attempts: int
    cool_down: float


@dataclass(frozen=True, slots=True)
class NodeStack:
    """What CloudFormation says about a node's stack."""

    phase: StackPhase
    stack_id: str | None = None
    address: str | None = None
    """The output with the load balancer's name, once the stack is complete."""
    reason: str = ""
    """The first failure among the stack's events, or CloudFormation's own words."""


ABSENT_STACK = NodeStack(StackPhase.ABSENT)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do next, and a sentence that says why."""

    action: Action
    reason: str


def node_id_of(dataset_id: str) -> str:
    """Name the node of a dataset: `n` and 20 hex digits.

    A dataset's id is free text; the node's name must be an unquoted SQL identifier that stays unique when the
    original image lower-cases it and drops its hyphens.
    """
    return "n" + hashlib.sha256(dataset_id.encode()).hexdigest()[:20]


def is_given_up(node: Node, budget: Budget) -> bool:
    """Whether its launches have failed too often, and nobody has asked since the cool-down was over."""
    return node.status is NodeStatus.FAILED and node.asked_at < node.failed_at + budget.cool_down


def decide(node: Node, stack: NodeStack, now: float, deadline: float) -> Decision:
    """Say what brings the node nearer to its wish.

    `now` and `deadline` are in seconds; `deadline` is how long a launch may take before it is given up.
    """
    if node.wish is Wish.DOWN:
        return _take_down(node, stack, now)
    return _bring_up(node, stack, now, deadline)


def _bring_up(node: Node, stack: NodeStack, now: float, deadline: float) -> Decision:
    overdue = node.ready_at < node.launched_at < now - deadline
    match stack.phase:
        case StackPhase.ABSENT if node.status is NodeStatus.RETIRING or (stack.stack_id or node.stack_id):
            return Decision(Action.FORGET, "The previous stack is gone.")
        case StackPhase.ABSENT:
            return Decision(Action.LAUNCH, "The node is being launched.")
        case StackPhase.CREATING if overdue:
            return Decision(Action.DELETE, f"The launch took longer than {deadline:.0f} s and was given up.")
        case StackPhase.CREATING:
            return Decision(Action.WAIT, "The node's stack is being created.")
        case StackPhase.USABLE | StackPhase.UPDATING:
            return _make_ready(node, deadline, overdue=overdue)
        case StackPhase.FAILING:
            return Decision(Action.WAIT, stack.reason or "The launch failed; its stack is being rolled back.")
        case StackPhase.BROKEN | StackPhase.UNDELETABLE:
            return Decision(Action.DELETE, stack.reason or "The launch failed; its stack is being removed.")
        case StackPhase.DELETING:
            return Decision(Action.WAIT, "The previous stack is going down first.")
        case _:
            return Decision(Action.WAIT, stack.reason or "CloudFormation is busy with the stack.")


def _make_ready(node: Node, deadline: float, *, overdue: bool) -> Decision:
    if node.status is NodeStatus.RETIRING:
        # CloudFormation's word may be seconds old: its deletion has begun.
        return Decision(Action.DELETE, "The previous stack is going down first.")
    if overdue:
        return Decision(Action.DELETE, f"The node gave no answer within {deadline:.0f} s and was given up.")
    return Decision(Action.ASK, "The stack is complete; the node itself doesn't answer yet.")


def _take_down(node: Node, stack: NodeStack, now: float) -> Decision:
    may_be_launching = node.status is NodeStatus.DEPLOYING and node.stack_id is None
    match stack.phase:
        case StackPhase.ABSENT if may_be_launching and now - node.launched_at <= LAUNCH_SETTLES:
            # Forgotten now, a stack that another process is about to launch would never be looked at again.
            return Decision(Action.WAIT, "A launch may be under way; it goes down after that.")
        case StackPhase.ABSENT:
            return Decision(Action.FORGET, "The node is gone.")
        case StackPhase.DELETING:
            return Decision(Action.WAIT, "The stack is going down.")
        case StackPhase.FAILING | StackPhase.UPDATING | StackPhase.UNKNOWN:
            return Decision(Action.WAIT, stack.reason or "The stack is busy; it goes down after that.")
        case _:
            return Decision(Action.DELETE, "Nothing is left to train.")
