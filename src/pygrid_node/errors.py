"""Errors with a sentence for the caller, in PyGrid's own words where clients know them."""

from typing import ClassVar


class NodeError(Exception):
    """Base of every error that has a sentence for the caller."""

    sentence: ClassVar[str] = "Internal error of the node."

    def __init__(self, sentence: str | None = None) -> None:
        """Use `sentence`, or the default sentence of the class."""
        super().__init__(sentence or self.sentence)


class InternalError(NodeError):
    """The node failed; its log has the traceback."""


class InvalidRequest(NodeError):
    """The request is malformed; sending it again does not help."""


class MessageTooLarge(NodeError):
    """The message has more bytes than are allowed."""

    def __init__(self, limit: int, what: str = "A message of this kind", setting: str | None = None) -> None:
        """Name the limit, in bytes, what it limits, and the setting that it comes from."""
        source = f" (its setting {setting})" if setting else ""
        super().__init__(f"{what} has at most {limit} bytes{source}.")
        self.limit = limit


class EncodingNotAccepted(NodeError):
    """The body is compressed; inflating it could take any amount of memory."""

    sentence = "This node accepts no Content-Encoding: send the body as it is."


class MalformedBody(NodeError):
    """The body of the request ends too early, or its chunks are malformed."""

    sentence = "The body of the request ends too early, or its chunks are malformed."


class NodeBusy(NodeError):
    """The messages that are being handled leave no memory for this one."""

    sentence = "The node is busy with other messages. Try again in a minute."


class TooSlow(NodeError):
    """The client sends, or reads, too slowly for the memory that it holds."""

    sentence = "The message arrived too slowly."


class AlreadyExists(NodeError):
    """A model of this name and version is hosted already."""

    sentence = "FL Process already exists."


class UploadNotAllowed(NodeError):
    """The orchestrator does not know the uploaded model, or not from this uploader and for this dataset."""

    sentence = "This node does not accept the model: it was not submitted, in this version, for its dataset."


class TooManyRefusedUploads(NodeError):
    """The orchestrator has refused several uploads from the uploader's network within a minute."""

    sentence = "Too many refused uploads from this network. Try again in a minute."


class OrchestratorUnreachable(NodeError):
    """The orchestrator did not answer, or its answer says nothing about the model."""

    sentence = (
        "The orchestration service could not be asked whether it knows this model. Try again in a minute."
    )


class ModelNotFound(NodeError):
    """No model of this name and version is hosted here."""

    sentence = "Not found any process related with this cycle and worker ID."


class AuthenticationFailed(NodeError):
    """The model requires a token, and the worker's token is missing or invalid."""


class WorkerNotFound(NodeError):
    """No worker has this id."""

    sentence = "Worker ID not found!"


class CycleNotFound(NodeError):
    """No cycle is open, or the worker has no assignment in the open one."""

    sentence = "Cycle not found!"


class CycleOver(NodeError):
    """The diff arrived after its cycle had all diffs that it averages."""

    sentence = "The cycle is over; this report came too late to be counted."


class CheckpointNotFound(NodeError):
    """No model has this id, or the model has no checkpoint of this number."""

    sentence = "Model ID not found!"


class PlanNotFound(NodeError):
    """No training plan has this id."""

    sentence = "Plan ID not found!"


class ProtocolNotFound(NodeError):
    """No protocol has this id; this node hosts none."""

    sentence = "Protocol ID not found!"


class InvalidRequestKey(NodeError):
    """The request key is not the one the worker was given."""

    sentence = "Invalid request key!"
