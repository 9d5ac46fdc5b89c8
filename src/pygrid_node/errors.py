"""What can go wrong, in the words that PyGrid's clients know. `transport` turns each into an answer."""

from typing import Any, ClassVar


class NodeError(Exception):
    """Base of every error that has a sentence for the caller."""

    sentence: ClassVar[str] = "The node cannot do this."

    def __init__(self, sentence: str | None = None) -> None:
        """Keep `sentence`, or else the class's own."""
        super().__init__(sentence or self.sentence)


class InvalidRequest(NodeError):
    """The request can't be understood; sending it again will not help."""


class AlreadyExists(NodeError):
    """There is a process of this name and version."""

    sentence = "FL Process already exists."


class UnknownModel(NodeError):
    """The orchestration node does not know what was uploaded, or not for this node's dataset."""

    sentence = "This node takes no such model: nobody has submitted it, in this version, for its dataset."


class MasterAway(NodeError):
    """The orchestration node could not be asked."""

    sentence = "The orchestration node could not be asked whether it knows this model. Try again in a minute."


class ProcessNotFound(NodeError):
    """No model of this name and version is hosted here."""

    sentence = "Not found any process related with this cycle and worker ID."


class AuthenticationFailed(NodeError):
    """The process wants a token, and this is none of its tokens."""


class WorkerNotFound(NodeError):
    """No worker has this id."""

    sentence = "Worker ID not found!"


class CycleNotFound(NodeError):
    """The worker is not in the open cycle, or none is open."""

    sentence = "Cycle not found!"


class CycleOver(NodeError):
    """A diff came when its cycle had all that it averages; it is not in the model, and never will be."""

    sentence = "The cycle is over; this report came too late to be counted."


class ModelNotFound(NodeError):
    """There is no model, or no checkpoint, of this number."""

    sentence = "Model ID not found!"


class PlanNotFound(NodeError):
    """There is no training plan of this number."""

    sentence = "Plan ID not found!"


class ProtocolNotFound(NodeError):
    """There is no protocol of this number: this node hosts none."""

    sentence = "Protocol ID not found!"


class InvalidRequestKey(NodeError):
    """The key is not the one that this worker was given."""

    sentence = "Invalid request key!"


class CycleFull(NodeError):
    """The cycle is due and is being averaged; the next one opens in a moment."""

    sentence = "The cycle is being averaged."

    def __init__(self, cycle_id: int, rejection: dict[str, Any]) -> None:
        """Name the cycle, and the answer for a worker that can't wait."""
        super().__init__()
        self.cycle_id = cycle_id
        self.rejection = rejection
