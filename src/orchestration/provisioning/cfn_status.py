"""Translates CloudFormation's stack statuses into phases. No other file compares a stack status."""

from orchestration.domain.node import StackPhase

PHASES: dict[str, StackPhase] = {
    "CREATE_IN_PROGRESS": StackPhase.CREATING,
    "CREATE_COMPLETE": StackPhase.USABLE,
    "CREATE_FAILED": StackPhase.BROKEN,
    "ROLLBACK_IN_PROGRESS": StackPhase.FAILING,
    "ROLLBACK_COMPLETE": StackPhase.BROKEN,
    "ROLLBACK_FAILED": StackPhase.BROKEN,
    "DELETE_IN_PROGRESS": StackPhase.DELETING,
    "DELETE_COMPLETE": StackPhase.ABSENT,
    "DELETE_FAILED": StackPhase.UNDELETABLE,
    "REVIEW_IN_PROGRESS": StackPhase.EMPTY,
    # Only operators update stacks. The old resources serve meanwhile.
    "UPDATE_IN_PROGRESS": StackPhase.UPDATING,
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": StackPhase.FINISHING,
    "UPDATE_COMPLETE": StackPhase.USABLE,
    "UPDATE_FAILED": StackPhase.HALF_UPDATED,
    "UPDATE_ROLLBACK_IN_PROGRESS": StackPhase.FINISHING,
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": StackPhase.FINISHING,
    "UPDATE_ROLLBACK_COMPLETE": StackPhase.USABLE,
    "UPDATE_ROLLBACK_FAILED": StackPhase.STUCK,
    # Only operators import resources, and the service doesn't interfere.
    "IMPORT_IN_PROGRESS": StackPhase.IMPORTING,
    "IMPORT_ROLLBACK_IN_PROGRESS": StackPhase.IMPORTING,
    "IMPORT_COMPLETE": StackPhase.IMPORTED,
    "IMPORT_ROLLBACK_COMPLETE": StackPhase.IMPORTED,
    "IMPORT_ROLLBACK_FAILED": StackPhase.LOST,
}

_MOVING = frozenset(
    {
        StackPhase.CREATING,
        StackPhase.FAILING,
        StackPhase.DELETING,
        StackPhase.UPDATING,
        StackPhase.FINISHING,
        StackPhase.IMPORTING,
        StackPhase.UNKNOWN,
    }
)
_OPERATION_STARTS = frozenset(
    {"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"}
)


def phase_of(status: str) -> StackPhase:
    """Translate a stack status. An unknown one is UNKNOWN: the service waits until it changes."""
    return PHASES.get(status, StackPhase.UNKNOWN)


def is_stable(phase: StackPhase) -> bool:
    """Return whether CloudFormation has finished: the phase changes only with another operation."""
    return phase not in _MOVING


def is_failure(status: str) -> bool:
    """Return whether this status of a resource or a stack is a failure."""
    return status.endswith("_FAILED")


def starts_operation(status: str) -> bool:
    """Return whether a stack's event with this status is the first of a requested operation."""
    return status in _OPERATION_STARTS
