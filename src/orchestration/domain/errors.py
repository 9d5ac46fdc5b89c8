"""Errors whose message is shown to the caller; `api/errors.py` maps each class to a status."""


class OrchestrationError(Exception):
    """Base class of all errors whose message is written for the caller."""


class InvalidRequest(OrchestrationError):
    """The request is malformed. Sending it again doesn't help."""


class Unauthenticated(OrchestrationError):
    """The credential is missing or not valid."""


class AccessDenied(OrchestrationError):
    """The caller is known, and may not do this."""


class NotFound(OrchestrationError):
    """The dataset, model, user or node does not exist."""


class Conflict(OrchestrationError):
    """The request is valid, but not in the current state of the dataset, model or node."""


class QuotaExceeded(OrchestrationError):
    """No more nodes may run at once."""


class Overtaken(OrchestrationError):
    """A conditional write failed: another process has changed the item since it was read.

    To continue, read the item again and decide again.
    """

    def __init__(self, message: str = "Another request has changed this meanwhile. Try again.") -> None:
        super().__init__(message)


class Upstream(OrchestrationError):
    """AWS or a node did not answer, or its answer can't be used."""


class Unavailable(Upstream):
    """AWS is throttling or failing, or doesn't answer. The same call may succeed later."""


class DatabaseWaking(Upstream):
    """The nodes' database cluster was paused and is resuming, which takes about half a minute."""


class StackFailed(Upstream):
    """CloudFormation refused an operation on a stack."""


class NodeFailed(Upstream):
    """Several launches of a node failed. The message says why, and when to request it again."""


class NodeUnreachable(Upstream):
    """The node did not answer in time."""


class UnusableModel(Upstream):
    """The node's answer is not a checkpoint of the uploaded model."""
