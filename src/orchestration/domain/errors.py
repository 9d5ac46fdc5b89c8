"""What can go wrong, in the words of the domain. `api/errors.py` turns each into a status and a JSON body."""


class OrchestrationError(Exception):
    """Base of every error that has a sentence for the caller."""


class InvalidRequest(OrchestrationError):
    """The request can't be understood; sending it again will not help."""


class Unauthenticated(OrchestrationError):
    """Nobody we know, or a credential that doesn't hold."""


class AccessDenied(OrchestrationError):
    """We know who it is, and it is not theirs."""


class NotFound(OrchestrationError):
    """There is no such dataset, model, user or node."""


class Conflict(OrchestrationError):
    """The request is fine, but not in the state things are in."""


class QuotaExceeded(OrchestrationError):
    """So many nodes are awake that no other may be launched."""


class Contended(OrchestrationError):
    """Somebody else kept changing the same thing; trying again later will help."""


class Upstream(OrchestrationError):
    """AWS or a node didn't answer, or answered something we can't use."""


class DatabaseWaking(Upstream):
    """The nodes' database was paused and is resuming; trying again in half a minute will help."""


class StackFailed(Upstream):
    """CloudFormation refused or failed to do what was asked."""


class NodeFailed(Upstream):
    """The node could not be launched, time and again; the sentence says why, and when to ask again."""


class NodeUnreachable(Upstream):
    """The node gave no answer in time."""


class UnusableModel(Upstream):
    """The node answered, but not with the model that was uploaded to it."""
