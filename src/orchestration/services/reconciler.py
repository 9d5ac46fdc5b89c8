"""Looks at every node, again and again: retrieves what is due, takes down what nobody needs.

It holds no state of its own: all it knows is in the tables and in CloudFormation, so it may die anywhere and
any number of it may run.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from orchestration.domain.errors import OrchestrationError, Upstream
from orchestration.domain.node import Node, NodeStatus, Wish
from orchestration.domain.ports import Models, Nodes
from orchestration.services.lifecycle import Clock, Lifecycle
from orchestration.services.nodes import needed_for
from orchestration.services.retrieval import RetrievalService

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reconciler:
    """One pass over all nodes; `grace` is how long an unneeded node stays up, in seconds."""

    nodes: Nodes
    models: Models
    lifecycle: Lifecycle
    retrieval: RetrievalService
    clock: Clock
    grace: float

    def run(self, wait: Callable[[], bool]) -> None:
        """Pass after pass, until `wait` says that it is over."""
        while not wait():
            self.sweep()

    def sweep(self) -> None:
        """Look at every node once; trouble with one doesn't keep the others waiting."""
        try:
            for node in self.nodes.all():
                self._look_after(node)
        except Upstream as error:
            log.warning("sweep.interrupted", cause=str(error))

    def _look_after(self, node: Node) -> None:
        try:
            self.reconcile(node)
        except OrchestrationError as error:
            log.warning("node.not_reconciled", node_id=node.node_id, cause=str(error))
        except Exception:
            # The last resort: the next pass starts from the tables again.
            log.exception("node.not_reconciled", node_id=node.node_id)

    def reconcile(self, node: Node) -> None:
        """Bring one node nearer to what is wanted of it."""
        node = self.lifecycle.advance(node)
        if node.status is NodeStatus.READY and node.address:
            self.retrieval.retrieve_due(node.dataset_id, node.address)
        if node.wish is Wish.UP:
            self._consider_rest(node)

    def _consider_rest(self, node: Node) -> None:
        now = self.clock()
        if needed_for(self.models, node.dataset_id):
            if node.idle_since:
                self.nodes.change(node, {"idle_since": 0.0})
        elif not node.idle_since:
            self.nodes.change(node, {"idle_since": now})
        elif now - node.idle_since >= self.grace and self.nodes.let_go(node):
            log.info("node.let_go", node_id=node.node_id, dataset_id=node.dataset_id)
