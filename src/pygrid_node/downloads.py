"""What is fetched by GET: plans and models by a worker in a cycle, checkpoints by anybody."""

from collections.abc import Callable, Mapping

from pygrid_node.entities import Cycle
from pygrid_node.errors import (
    CycleNotFound,
    ModelNotFound,
    NodeError,
    PlanNotFound,
    ProcessNotFound,
    ProtocolNotFound,
)
from pygrid_node.storage.blobs import Blob
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.models import FORMS, ProcessStore
from pygrid_node.training import matching

Query = Mapping[str, str]

_LARGEST_ID = 2**31 - 1


class Downloads:
    """Each takes a request's query and gives the bytes of the answer, those of a state part by part."""

    def __init__(self, processes: ProcessStore, cycles: CycleStore) -> None:
        """Read these stores."""
        self._processes = processes
        self._cycles = cycles

    def model(self, query: Query) -> Blob:
        """The state that the worker's cycle starts from.

        Raises `ModelNotFound`, `CycleNotFound`, `WorkerNotFound` or `InvalidRequestKey`.
        """
        process_id = _number(query, "model_id", ModelNotFound)
        try:
            process = self._processes.get(process_id)
        except ProcessNotFound as error:
            raise ModelNotFound from error
        cycle = self._cycle_of_worker(query, process.id)
        return self._processes.checkpoint(process.id, cycle.number)

    def plan(self, query: Query) -> bytes:
        """The training plan in the form of `receive_operations_as`; every other value means `list`.

        Raises `PlanNotFound`, and what `model` raises for the worker.
        """
        wanted = query.get("receive_operations_as", "")
        form = wanted if wanted in FORMS else "list"
        process_id, body = self._processes.plan(_number(query, "plan_id", PlanNotFound), form)
        self._cycle_of_worker(query, process_id)
        return body

    def protocol(self, _query: Query) -> bytes:
        """Always raises `ProtocolNotFound`: an upload with protocols is refused."""
        raise ProtocolNotFound

    def checkpoint(self, query: Query) -> Blob:
        """Checkpoint `checkpoint` of a model by name; absent or `latest` is the newest.

        Raises `ProcessNotFound` or `ModelNotFound`.
        """
        process = self._processes.find(query.get("name"), query.get("version"))
        if query.get("checkpoint", "latest") == "latest":
            return self._processes.checkpoint(process.id)
        return self._processes.checkpoint(process.id, _number(query, "checkpoint", ModelNotFound))

    def _cycle_of_worker(self, query: Query, process_id: int) -> Cycle:
        """The process's open cycle, if the worker is in it and has the key."""
        if (cycle := self._cycles.open_cycle(process_id)) is None:
            raise CycleNotFound
        worker = self._cycles.worker(query.get("worker_id"))
        places = [place for place in self._cycles.assignments(worker) if place.cycle_id == cycle.id]
        if not places:
            raise CycleNotFound
        matching(places, query.get("request_key"))
        return cycle


def _number(query: Query, key: str, absent: Callable[[], NodeError]) -> int:
    """A number from the query; what is none is answered as one that nobody has."""
    text = query.get(key, "")
    if (
        not (text.isascii() and text.isdigit())
        or len(text) > len(str(_LARGEST_ID))
        or int(text) > _LARGEST_ID
    ):
        raise absent()
    return int(text)
