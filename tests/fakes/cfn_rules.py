"""What CloudFormation refuses, with its messages."""

import re
from collections.abc import Iterable

from tests.fakes.cfn_stack import Stack

UPDATABLE = frozenset(
    {
        "CREATE_COMPLETE",
        "CREATE_FAILED",
        "UPDATE_COMPLETE",
        "UPDATE_FAILED",
        "UPDATE_ROLLBACK_COMPLETE",
        "IMPORT_COMPLETE",
        "IMPORT_ROLLBACK_COMPLETE",
    }
)
_NAME = "[a-zA-Z][-a-zA-Z0-9]*"
_LONGEST_NAME = 128
_DELETABLE_IN_PROGRESS = frozenset({"CREATE_IN_PROGRESS", "REVIEW_IN_PROGRESS", "DELETE_IN_PROGRESS"})


def name_refused(name: str) -> str:
    """Return why a stack's name is invalid, or an empty string."""
    at = f"1 validation error detected: Value '{name}' at 'stackName' failed to satisfy constraint"
    if not re.fullmatch(_NAME, name):
        return f"{at}: Member must satisfy regular expression pattern: {_NAME}"
    if len(name) > _LONGEST_NAME:
        return f"{at}: Member must have length less than or equal to {_LONGEST_NAME}"
    return ""


def deletion_refused(stack: Stack, retain: Iterable[str], *, force: bool) -> str:
    """Return why a deletion is refused, or an empty string."""
    status = stack.status
    if stack.protected:
        return f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled"
    if status.endswith("_IN_PROGRESS") and status not in _DELETABLE_IN_PROGRESS:
        return f"Stack [{stack.stack_id}] cannot be deleted while in status {status}"
    if force and status != "DELETE_FAILED":
        return "FORCE_DELETE_STACK cannot be executed on the stack which is not in DELETE_FAILED state"
    if retain and status != "DELETE_FAILED":
        return "The specified resources to retain are only taken for a stack in DELETE_FAILED state."
    if any(id_ not in stack.resources or stack.resources[id_].status == "DELETE_COMPLETE" for id_ in retain):
        return (
            "The specified resources to retain must be in a valid state. "
            "Do not specify resources that are in the DELETE_COMPLETE state."
        )
    return ""
