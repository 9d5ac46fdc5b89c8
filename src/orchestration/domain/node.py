"""A node: its desired state, its generation and its stack. `decision.py` decides what to do next about it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

NODE_PORT = 5000
"""The port on which PyGrid clients call a node."""


class NodeStatus(StrEnum):
    """The state of a node."""

    ABSENT = "absent"
    DEPLOYING = "deploying"
    READY = "ready"
    RETIRING = "retiring"
    FAILED = "failed"


WITH_STACK = (NodeStatus.DEPLOYING, NodeStatus.READY, NodeStatus.RETIRING)
"""States of a node whose current generation has a stack, or is about to, and a secret."""


class DesiredState(StrEnum):
    """Whether a node should run."""

    RUNNING = "up"  # the node table's spelling
    STOPPED = "down"


class StackPhase(StrEnum):
    """What a stack's status means for a node; `provisioning/cfn_status.py` maps CloudFormation's statuses."""

    ABSENT = "absent"
    UNSEEN = "unseen"  # launched, but CloudFormation doesn't show it (yet)
    CREATING = "creating"
    USABLE = "usable"
    FAILING = "failing"  # becomes BROKEN
    BROKEN = "broken"
    DELETING = "deleting"
    UNDELETABLE = "undeletable"
    EMPTY = "empty"  # created by a change set that was not executed
    UPDATING = "updating"  # serves as before; the update can be cancelled
    FINISHING = "finishing"  # serves; an update or its rollback ends by itself
    HALF_UPDATED = "half updated"  # can be rolled back
    STUCK = "stuck"  # the rollback of an update failed, and can be continued
    IMPORTING = "importing"  # an operator imports resources into it
    IMPORTED = "imported"  # usable, after an import
    LOST = "lost"  # an import failed, and its rollback too
    FOREIGN = "foreign"  # its name is that of the next stack, but another program has created it
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Node:
    """The record of the node of one dataset.

    Times are seconds since the epoch, 0 for never. `generation` counts the node's stacks: it is the
    suffix of the stack's name, part of the token of every call to CloudFormation, and part of the condition
    of every conditional write.
    """

    node_id: str
    dataset_id: str
    desired_state: DesiredState = DesiredState.STOPPED
    status: NodeStatus = NodeStatus.ABSENT
    generation: int = 0
    reason: str = ""
    """Why the node is not ready yet, for the data scientist who requested it."""
    failure: str = ""
    """Why the last launch failed, or the node was replaced; kept until a launch succeeds."""
    failed_generation: int = 0
    """The generation whose launch failed."""
    stack_id: str | None = None
    address: str | None = None
    secret_hash: str | None = None
    requested_at: float = 0.0
    requested_by: str = ""
    """The data scientist who requested the node last, or for whose model it was woken."""
    charged_to: str | None = None
    """The data scientist on whose quota this generation counts."""
    launched_at: float = 0.0
    ready_at: float = 0.0
    """When the last generation that became ready answered first."""
    silent_at: float = 0.0
    """When the node stopped answering after it had been ready."""
    took: float = 0.0
    """Seconds from launch to first answer of the last launch that succeeded."""
    attempts: int = 0
    """Launches since the node was last ready, or since its budget was last reset."""
    next_at: float = 0.0
    """Time before which an operation that failed is not retried."""
    deletions: int = 0
    """How often deletion of this generation's stack was requested; each request is escalated."""
    deletion_at: float = 0.0
    """When the last deletion was recorded, which is before CloudFormation is called."""
    is_refused: bool = False
    """Whether CloudFormation refused the last deletion."""
    repairs: int = 0
    """How many repairs of this generation's stack were attempted."""
    failed_at: float = 0.0
    """When the service stopped retrying the launch."""
    idle_since: float = 0.0
    """Since when the node has been idle; 0 while it is needed."""
    wake_at: float = 0.0
    """Time from which a device may wake the node again."""
    device_at: float = 0.0
    """When a device of the dataset last showed a valid API key, to the minute."""
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
"""Fields that are reset when a generation starts."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How many nodes may run at the same time: for one data scientist, and in all."""

    per_buyer: int
    in_all: int


@dataclass(frozen=True, slots=True)
class NodeStack:
    """The state of a node's stack, as CloudFormation describes it."""

    phase: StackPhase
    stack_id: str | None = None
    address: str | None = None
    """The output with the load balancer's name, once the stack is complete."""
    deleted_at: float = 0.0
    """When its last deletion began, in seconds since the epoch; 0 for never, or unknown."""
    remark: str = ""
    """Details beyond the phase, for the record's reason."""


ABSENT_STACK = NodeStack(StackPhase.ABSENT)


@dataclass(frozen=True, slots=True)
class ListedStack:
    """A stack with the service's tag in a list of all stacks; `created_at` in seconds since the epoch."""

    node_id: str
    generation: int
    created_at: float
    stack: NodeStack


def node_id_of(dataset_id: str) -> str:
    """Return the id of a dataset's node: `n` and 20 hex digits.

    A dataset's id is free text; the node's id must be an unquoted SQL identifier that stays unique when the
    original image lower-cases it and drops its hyphens.
    """
    return "n" + hashlib.sha256(dataset_id.encode()).hexdigest()[:20]
