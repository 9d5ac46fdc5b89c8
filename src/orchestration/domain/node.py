"""A node: its wish, its life and its stack. What to do next about it is in `decision.py`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

NODE_PORT = 5000
"""Every client of PyGrid calls a node on this port."""


class NodeStatus(StrEnum):
    """Where a node is, in our words."""

    ABSENT = "absent"
    DEPLOYING = "deploying"
    READY = "ready"
    RETIRING = "retiring"
    FAILED = "failed"


WITH_STACK = (NodeStatus.DEPLOYING, NodeStatus.READY, NodeStatus.RETIRING)
"""Where a generation is alive: it has a stack or is about to, and a secret."""


class DesiredState(StrEnum):
    """Whether a node should be up."""

    RUNNING = "up"  # as the node table has spelled it from the beginning
    STOPPED = "down"


class StackPhase(StrEnum):
    """What a stack's status means for us; `provisioning/cfn_status.py` maps CloudFormation's words."""

    ABSENT = "absent"
    UNSEEN = "unseen"  # launched, but CloudFormation doesn't show it (yet)
    CREATING = "creating"
    USABLE = "usable"
    FAILING = "failing"  # on its way to BROKEN
    BROKEN = "broken"
    DELETING = "deleting"
    UNDELETABLE = "undeletable"
    EMPTY = "empty"  # begun by a change set that nobody has carried out
    UPDATING = "updating"  # serves as it was; can be called back
    FINISHING = "finishing"  # serves; only time brings an update or its rollback to an end
    HALF_UPDATED = "half updated"  # can be rolled back
    STUCK = "stuck"  # its rollback failed, and can be continued
    IMPORTING = "importing"  # in an operator's hands
    IMPORTED = "imported"  # usable; an operator had it in hand
    LOST = "lost"  # an import failed, and its rollback too
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Node:
    """What we have written down about the node of one dataset.

    Times are seconds since the epoch, 0 for never. `generation` counts the lives of its stack: it is the
    suffix of the stack's name, part of the token of every call to CloudFormation, and named by every
    conditional write.
    """

    node_id: str
    dataset_id: str
    desired_state: DesiredState = DesiredState.STOPPED
    status: NodeStatus = NodeStatus.ABSENT
    generation: int = 0
    reason: str = ""
    """What is being waited for, for the data scientist who asked."""
    failure: str = ""
    """Why a launch came to nothing; kept until one succeeds."""
    failed_generation: int = 0
    """Whose failure that is."""
    stack_id: str | None = None
    address: str | None = None
    secret_hash: str | None = None
    requested_at: float = 0.0
    requested_by: str = ""
    """The data scientist who asked last, or whose model a device came for."""
    charged_to: str | None = None
    """On whose quota this generation counts."""
    launched_at: float = 0.0
    ready_at: float = 0.0
    """When it first answered in its last ready life."""
    silent_at: float = 0.0
    """When it fell silent after it had been ready."""
    took: float = 0.0
    """Seconds from launch to first answer, the last time that one succeeded."""
    attempts: int = 0
    """Launches since the node was last ready, or since its budget was last opened."""
    next_at: float = 0.0
    """What failed is not tried again before."""
    deletions: int = 0
    """How often this generation's stack was asked to go, each time a step further."""
    deletion_at: float = 0.0
    """When the last of these was noted, which is before it is asked."""
    is_refused: bool = False
    """CloudFormation would not begin the last of these deletions."""
    repairs: int = 0
    """How often something else was done about this generation's stack."""
    failed_at: float = 0.0
    """When it was given up."""
    idle_since: float = 0.0
    """Since when nothing has needed it; 0 while something does."""
    wake_at: float = 0.0
    """From when on a device may wake it (again)."""
    device_at: float = 0.0
    """When a device of the dataset last showed a valid key, to the minute."""
    progress_at: float = 0.0
    """When the node last closed a cycle."""

    @property
    def should_run(self) -> bool:
        """Whether the desired state is RUNNING."""
        return self.desired_state is DesiredState.RUNNING

    @property
    def was_ready(self) -> bool:
        """Whether this generation has ever answered."""
        return self.ready_at >= self.launched_at > 0


OF_A_GENERATION: Mapping[str, object] = {
    "reason": "The node is being launched.",
    "silent_at": 0.0,
    "next_at": 0.0,
    "deletions": 0,
    "deletion_at": 0.0,
    "is_refused": False,
    "repairs": 0,
}
"""What every generation begins with."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How many nodes may be awake at once: those that one buyer asked for, and all."""

    per_buyer: int
    in_all: int


@dataclass(frozen=True, slots=True)
class NodeStack:
    """What CloudFormation says about a node's stack."""

    phase: StackPhase
    stack_id: str | None = None
    address: str | None = None
    """The output with the load balancer's name, once the stack is complete."""
    deleted_at: float = 0.0
    """When its last deletion began, in seconds since the epoch; 0 for never, or unknown."""
    remark: str = ""
    """What the phase alone doesn't say."""


ABSENT_STACK = NodeStack(StackPhase.ABSENT)


@dataclass(frozen=True, slots=True)
class ListedStack:
    """A stack with our tag, as a list of all stacks shows it; `created_at` in seconds since the epoch."""

    node_id: str
    generation: int
    created_at: float
    stack: NodeStack


def node_id_of(dataset_id: str) -> str:
    """Name the node of a dataset: `n` and 20 hex digits.

    A dataset's id is free text; the node's name must be an unquoted SQL identifier that stays unique when the
    original image lower-cases it and drops its hyphens.
    """
    return "n" + hashlib.sha256(dataset_id.encode()).hexdigest()[:20]
