"""Nodes report their progress."""

import hmac
from dataclasses import dataclass

import structlog
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from orchestration.domain.credentials import hash_of
from orchestration.domain.cycle import Progress, closes
from orchestration.domain.entities import Model
from orchestration.domain.errors import AccessDenied, Contended, NotFound, Unauthenticated
from orchestration.domain.node import Node, NodeStatus, node_id_of
from orchestration.domain.ports import Clock, Models, Nodes

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingService:
    """Use cases of a model in training."""

    models: Models
    nodes: Nodes
    clock: Clock

    def node(self, node_id: str, secret: str) -> Node:
        """Return the node that knows this secret. Raises Unauthenticated."""
        node = self.nodes.get(node_id)
        known = node.secret_hash if node and node.status is not NodeStatus.ABSENT else None
        if node is None or known is None or not hmac.compare_digest(known, hash_of(secret)):
            raise Unauthenticated("Only a node that this service has launched may report progress.")
        return node

    def hosted_model(self, model_id: str, version: str | None, *, node: Node) -> Model:
        """Return a model the node may host; version None matches any. Raises NotFound, AccessDenied."""
        model = self.models.get(model_id)
        if node_id_of(model.dataset_id) != node.node_id:
            raise AccessDenied("This model is on another node.")
        if version not in (None, model.version):
            raise NotFound(f"Model {model_id!r} has no such version.")
        return model

    @retry(retry=retry_if_exception_type(Contended), stop=stop_after_attempt(5), reraise=True)
    def record_progress(self, model_id: str, progress: Progress, *, node: Node) -> bool:
        """Close a cycle; False when the word is not news. Raises NotFound, AccessDenied, Contended."""
        model = self.hosted_model(model_id, progress.version, node=node)
        self.models.settle(model)
        if not self._is_news(model, progress):
            return False
        if not self.models.close_cycle(model, progress, self.clock()):
            raise Contended("Another call is closing this cycle. Send it again.")
        self.nodes.progress_seen(node, self.clock())
        log.info("cycle.closed", model_id=model.model_id, percent=progress.percent_complete)
        return True

    def _is_news(self, model: Model, progress: Progress) -> bool:
        return model.is_active and closes(
            progress, percent=model.percent_complete, closed_cycles=model.tally.cycle
        )
