"""Downloads: models and plans for workers in a cycle, samples, checkpoints for the orchestrator."""

from collections.abc import Callable, Mapping

from pygrid_node.entities import Cycle
from pygrid_node.errors import (
    CheckpointNotFound,
    CycleNotFound,
    InvalidRequest,
    ModelNotFound,
    NodeError,
    PlanNotFound,
    ProtocolNotFound,
)
from pygrid_node.storage.blobs import Blob
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.models import FORMS, ModelStore
from pygrid_node.training import with_key
from pygrid_wire import has_torchscript

Query = Mapping[str, str]

_NO_TORCHSCRIPT = "This plan has no TorchScript; ask for its operations as 'list' or 'tfjs'."
_LARGEST_ID = 2**31 - 1


class Downloads:
    """Each method takes a query and returns the body of the answer. All may block on the database."""

    def __init__(self, models: ModelStore, cycles: CycleStore) -> None:
        """Read these stores."""
        self._models = models
        self._cycles = cycles

    def model(self, query: Query) -> Blob:
        """Return the checkpoint that the worker's cycle starts from.

        Raises `CheckpointNotFound`, `CycleNotFound`, `WorkerNotFound`, `InvalidRequestKey`.
        """
        model_id = _number(query, "model_id", CheckpointNotFound)
        try:
            model = self._models.get(model_id)
        except ModelNotFound as error:
            raise CheckpointNotFound from error
        cycle = self._cycle_of_worker(query, model.id)
        return self._models.checkpoint(model.id, cycle.number)

    def plan(self, query: Query) -> bytes:
        """Return the training plan in the form `receive_operations_as`; any other value means `list`.

        Raises `PlanNotFound`, also for a plan that does not have the form, and the errors of `model` about
        the worker.
        """
        wanted = query.get("receive_operations_as", "")
        form = wanted if wanted in FORMS else "list"
        model_id, body = self._models.plan(_number(query, "plan_id", PlanNotFound), form)
        self._cycle_of_worker(query, model_id)
        if form == "torchscript" and not has_torchscript(body):
            raise PlanNotFound(_NO_TORCHSCRIPT)
        return body

    def protocol(self, _query: Query) -> bytes:
        """Raise `ProtocolNotFound`: uploads with protocols are refused."""
        raise ProtocolNotFound

    def checkpoint(self, query: Query) -> Blob:
        """Return checkpoint `checkpoint` of a model by name; absent or `latest` is the newest.

        Raises `ModelNotFound`, `CheckpointNotFound`.
        """
        model = self._models.find(query.get("name"), query.get("version"))
        if query.get("checkpoint", "latest") == "latest":
            return self._models.checkpoint(model.id)
        return self._models.checkpoint(model.id, _number(query, "checkpoint", CheckpointNotFound))

    def measuring_worker(self, query: Query) -> str:
        """Return the id of a worker that asks for a sample to measure its speed.

        Raises `WorkerNotFound`, and `InvalidRequest` without an id or if its model requires no speed.
        """
        for key in ("worker_id", "random"):
            if key not in query:
                raise InvalidRequest(f"{key!r} is required")
        worker = self._cycles.worker(query["worker_id"])
        if not self._models.get(worker.model_id).server_config.requires_speed_test:
            raise InvalidRequest("The model of this worker requires no speed test.")
        return worker.id

    def _cycle_of_worker(self, query: Query, model_id: int) -> Cycle:
        """Return the model's open cycle, if the worker is assigned to it and has the key."""
        if (cycle := self._cycles.open_cycle(model_id)) is None:
            raise CycleNotFound
        assignments = self._cycles.assignments(query.get("worker_id"))
        in_cycle = [assignment for assignment in assignments if assignment.cycle_id == cycle.id]
        if not in_cycle:
            raise CycleNotFound
        with_key(in_cycle, query.get("request_key"))
        return cycle


def _number(query: Query, key: str, not_found: Callable[[], NodeError]) -> int:
    """Return a number from the query; anything that cannot be an id raises `not_found`."""
    text = query.get(key, "")
    is_id = text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST_ID))
    if not is_id or int(text) > _LARGEST_ID:
        raise not_found()
    return int(text)
