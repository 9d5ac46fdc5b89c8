"""Progress of models: nodes report each closed cycle; a lost report is derived from a checkpoint."""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from orchestration.domain.credentials import hash_of
from orchestration.domain.cycle import Progress, closes
from orchestration.domain.entities import Model
from orchestration.domain.errors import AccessDenied, NotFound, Overtaken, Unauthenticated
from orchestration.domain.node import Node, NodeStatus, node_id_of
from orchestration.domain.ports import Clock, Models, Nodes

log = structlog.get_logger(__name__)

MOST_CYCLES = 1_000_000
MOST_DERIVED = 50
"""Above this many cycles no percentage is derived from the original node's reports. With more than 100
cycles, some of them repeat the percentage before them and are not counted."""

ENOUGH_REPORTS = 2
"""A single report may be counted for the wrong cycle if an earlier one was lost; two such reports
contradict each other."""


@dataclass(frozen=True, slots=True)
class ProgressService:
    """Records the progress of models, for nodes and for the reconciler."""

    models: Models
    nodes: Nodes
    clock: Clock

    def node(self, node_id: str, secret: str) -> Node:
        """Return the node with this id if the secret is valid for it. Raises Unauthenticated."""
        node = self.nodes.get(node_id)
        known = node.secret_hash if node and node.status is not NodeStatus.ABSENT else None
        if node is None or known is None or not hmac.compare_digest(known, hash_of(secret)):
            raise Unauthenticated("Only a node that this service has launched may report progress.")
        return node

    def hosted(self, model_id: str, version: str | None, *, node: Node) -> Model:
        """Return a model of a node's dataset by the name under which the node hosts it.

        `version` None matches any version. Raises NotFound, AccessDenied.
        """
        model = self.models.hosted(model_id)
        if node_id_of(model.dataset_id) != node.node_id:
            raise AccessDenied("This model is on another node.")
        if version not in (None, model.version):
            raise NotFound(f"Model {model_id!r} has no such version.")
        return model

    @retry(retry=retry_if_exception_type(Overtaken), stop=stop_after_attempt(5), reraise=True)
    def record(self, model_id: str, progress: Progress, *, node: Node) -> bool:
        """Close a cycle of a model; return False if the report is not new.

        Raises NotFound, AccessDenied; Overtaken if other reports of the same model got ahead five times.
        """
        model = self.hosted(model_id, progress.version, node=node)
        self.models.finish_closing(model)
        is_new = model.is_active and closes(
            progress, percent=model.percent_complete, closed_cycles=model.totals.cycle
        )
        if is_new:
            now = self.clock()
            self.models.close_cycle(model, progress, now)
            self.nodes.progress_seen(node, now)
            log.info("cycle.closed", model_id=model.model_id, percent=progress.percent_complete)
        return is_new


def possible_lengths(reports: Iterable[tuple[int, int]]) -> range:
    """Return how many cycles a model may have in all, given a node's reports `(cycle, per cent)`.

    The original node reports `floor(100 * cycle / cycles)`. Empty if the reports contradict each other.
    """
    least, most = 1, MOST_CYCLES
    for cycle, percent in reports:
        least = max(least, 100 * cycle // (percent + 1) + 1)
        if percent:
            most = min(most, 100 * cycle // percent)
    return range(least, most + 1)


def lost_progress(model: Model, checkpoint: int) -> Progress | None:
    """Return the progress that a node's newest checkpoint shows; None if it is known already.

    Checkpoint 1 is the upload, checkpoint `n + 1` the result of cycle `n`. If the node has not said how many
    cycles there are, the percentage is the least one that fits its earlier reports, so that no model is
    called complete that is not.
    """
    cycle = checkpoint - 1
    if cycle <= model.totals.cycle:
        return None
    percent, cycles = model.percent_complete, model.cycles or _most_cycles(model)
    if cycles is not None and cycle <= cycles:
        percent = max(percent, 100 * cycle // cycles)
    return Progress(percent, cycle)


def _most_cycles(model: Model) -> int | None:
    """Return how many cycles the model has at most, given the original node's reports; None if unknown."""
    reports, enough = _reliable([(closed.cycle, closed.percent_complete) for closed in model.history])
    lengths = possible_lengths(reports) if len(reports) >= enough else range(0)
    return lengths[-1] if lengths and lengths[-1] <= MOST_DERIVED else None


def _reliable(reports: Sequence[tuple[int, int]]) -> tuple[Sequence[tuple[int, int]], int]:
    """Return the reports that were certainly counted for their cycle, and how many are needed.

    A cycle that was derived from a checkpoint may repeat the percentage before it. Reports before such a
    cycle may be counted for the wrong one, reports after it are not.
    """
    before = [0, *(percent for _, percent in reports)]
    repeated = [index for index, (_, percent) in enumerate(reports) if percent == before[index]]
    return (reports[repeated[-1] + 1 :], 1) if repeated else (reports, ENOUGH_REPORTS)
