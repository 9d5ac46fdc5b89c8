"""Decides when a stopped node is woken on demand and when an idle node is stopped."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from orchestration.domain.entities import Model
from orchestration.domain.errors import Conflict, NotFound, Overtaken
from orchestration.domain.node import Node, NodeStatus
from orchestration.domain.ports import Clock, Models, Nodes

log = structlog.get_logger(__name__)

WAKING_INTERVAL = 86_400.0
"""Seconds between two wakes of a node; also how long no device wakes a node after its retirement."""


@dataclass(frozen=True, slots=True)
class Waker:
    """Wakes a stopped node on demand: for a device, or for a trained model that must be retrieved."""

    nodes: Nodes
    models: Models
    clock: Clock

    def may_wake(self, node: Node) -> bool:
        """Return whether a node is stopped, or failed a day ago, and was not woken within a day."""
        now = self.clock()
        failed_long_ago = node.status is NodeStatus.FAILED and now >= node.failed_at + WAKING_INTERVAL
        return (not node.should_run or failed_long_ago) and now >= node.wake_at

    def wake(self, node: Node, listed: Iterable[Model]) -> None:
        """Record that a node should run for the first of these models that needs it, on its owner's quota."""
        if not self.may_wake(node):
            return
        model = next(filter(self._needs_node, listed), None)
        if model is None:
            return
        now = self.clock()
        with suppress(Overtaken):  # another device was first
            self.nodes.wake(node, now, model.owner, now + WAKING_INTERVAL)
            log.info("node.woken", node_id=node.node_id, dataset_id=node.dataset_id)

    def _needs_node(self, listed: Model) -> bool:
        """Read a model again: the index that has listed it may lag. One that can't be read needs no node."""
        with suppress(NotFound, Conflict):
            model = self.models.get(listed.model_id)
            return model.is_training or model.awaits_retrieval
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleTimeout:
    """Stops nodes that were not needed for some time.

    `timeout` is how long an unneeded node keeps running, `stale_after` how long a model without progress
    keeps its node running; both in seconds.
    """

    nodes: Nodes
    models: Models
    clock: Clock
    timeout: float
    stale_after: float

    def has_expired(self, node: Node) -> bool:
        """Return whether a node has been idle for the whole time-out."""
        return node.idle_since > 0 and self.clock() - node.idle_since >= self.timeout

    def check(self, node: Node) -> None:
        """Start or reset the time-out, or record that the node should stop. Raises Overtaken.

        The time-out does not start before this generation was ready: no model could use the node before that.
        """
        if not node.was_ready:
            return
        now = self.clock()
        if self._is_needed(node.dataset_id, now):
            if node.idle_since:
                self.nodes.change(node, {"idle_since": 0.0})
        elif not node.idle_since:
            self.nodes.change(node, {"idle_since": now})
        elif self.has_expired(node):
            self.nodes.let_go(node)
            log.info("node.let_go", node_id=node.node_id, dataset_id=node.dataset_id)

    def _is_needed(self, dataset_id: str, now: float) -> bool:
        """Return whether a model needs the node and is not stale, or is complete and awaits its retrieval."""
        models = self.models.on_dataset(dataset_id)
        if any(model.needs_node and not model.is_stale(now, self.stale_after) for model in models):
            return True
        return any(model.awaits_retrieval for model in self.models.to_retrieve(dataset_id))
