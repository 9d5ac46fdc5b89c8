"""Lets a node go when nothing has needed it for a while; never in the middle of work."""

from dataclasses import dataclass

import structlog

from orchestration.domain.node import Node
from orchestration.domain.ports import Clock, Models, Nodes

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RestService:
    """`grace`: how long an unneeded node stays up; `stale_after`: how long a model may rest; in seconds."""

    nodes: Nodes
    models: Models
    clock: Clock
    grace: float
    stale_after: float

    def is_over(self, node: Node) -> bool:
        """Whether the countdown of a node has run out."""
        return node.idle_since > 0 and self.clock() - node.idle_since >= self.grace

    def consider(self, node: Node) -> None:
        """Begin, end or carry out the countdown. It never begins before the node was ready once."""
        if not node.was_ready:
            return
        now = self.clock()
        if self._is_needed(node.dataset_id, now):
            if node.idle_since:
                self.nodes.change(node, {"idle_since": 0.0})
        elif not node.idle_since:
            self.nodes.change(node, {"idle_since": now})
        elif self.is_over(node) and self.nodes.let_go(node):
            log.info("node.let_go", node_id=node.node_id, dataset_id=node.dataset_id)

    def _is_needed(self, dataset_id: str, now: float) -> bool:
        """Whether a model still trains and isn't stale, or is complete and not yet safe in the bucket."""
        models = self.models.on_dataset(dataset_id)
        if any(model.is_training and not model.is_stale(now, self.stale_after) for model in models):
            return True
        return bool(self.models.to_retrieve(dataset_id))
