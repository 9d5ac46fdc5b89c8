"""Looks at every node, again and again: retrieves what is due, takes down what nobody needs.

It holds nothing that would be missed: all it knows is in the tables and in CloudFormation, so it may die
anywhere and any number of it may run.
"""

import random
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from orchestration.control.collect import RetrievalService
from orchestration.control.healing import HealingService
from orchestration.control.lifecycle import Lifecycle
from orchestration.control.orphans import StrayService
from orchestration.control.rest import RestService
from orchestration.domain.decision import is_at_rest
from orchestration.domain.demand import Waker
from orchestration.domain.errors import OrchestrationError
from orchestration.domain.node import Node, NodeStack, NodeStatus, StackPhase, Wish
from orchestration.domain.ports import Clock, Models, Nodes, NodeStacks

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often what is looked at, in seconds, give or take a quarter."""

    interval: float
    """Between two passes over all nodes."""
    ready: float
    """Between two looks at a node that is ready and has nothing due."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Passes over all nodes; one list of all stacks serves a whole pass."""

    nodes: Nodes
    models: Models
    stacks: NodeStacks
    lifecycle: Lifecycle
    healing: HealingService
    retrieval: RetrievalService
    rest: RestService
    strays: StrayService
    waker: Waker
    clock: Clock
    rhythm: Rhythm
    next_look: dict[str, float] = field(default_factory=dict)
    """When each node that is ready is looked at again; forgotten, it is looked at once more."""

    def run(self, wait: Callable[[float], bool]) -> None:
        """Pass after pass, until `wait`, which is given the seconds, says that it is over."""
        while not wait(_jittered(self.rhythm.interval)):
            self.sweep()

    def sweep(self) -> None:
        """Look at every node once; trouble with one doesn't keep the others waiting, nor the next sweep."""
        try:
            self._sweep()
        except OrchestrationError as error:
            log.warning("sweep.interrupted", cause=str(error))
        except Exception:
            # The last resort: a process that ends here would end there again after its restart.
            log.exception("sweep.interrupted")

    def _sweep(self) -> None:
        due = self.models.datasets_due()
        nodes = list(self.nodes.all())
        awake = [node for node in nodes if not is_at_rest(node, self.lifecycle.rules.budget)]
        unlisted = {(node.node_id, node.generation): node for node in awake}
        for listed in self.stacks.all():
            node = unlisted.pop((listed.node_id, listed.generation), None)
            if node is None:
                with _troubles_kept(listed.node_id):
                    self.strays.look_after(listed)
            elif self._is_time_for(node, listed.stack, due):
                self._look_after(node, listed.stack)
        for node in unlisted.values():  # the list may lag behind: these are asked for one by one
            self._look_after(node, None)
        for sleeping in nodes:
            if sleeping.dataset_id in due and self.waker.may_wake(sleeping):
                self.waker.wake(sleeping, self.models.to_retrieve(sleeping.dataset_id))
        self.strays.look_after_secrets()
        for node_id in self.next_look.keys() - {node.node_id for node in awake}:
            del self.next_look[node_id]

    def _is_time_for(self, node: Node, stack: NodeStack, due: Collection[str]) -> bool:
        is_steady = node.status is NodeStatus.READY and node.wish is Wish.UP
        if not is_steady or stack.phase is not StackPhase.USABLE or node.dataset_id in due:
            return True
        if self.rest.is_over(node):
            return True
        return self.clock() >= self.next_look.get(node.node_id, 0.0)

    def _look_after(self, node: Node, stack: NodeStack | None) -> None:
        self.next_look[node.node_id] = self.clock() + _jittered(self.rhythm.ready)
        with _troubles_kept(node.node_id):
            now = self.nodes.get(node.node_id)  # since the list of all was begun, minutes may have gone by
            if now is None or now.generation != node.generation:
                return
            is_same = stack is not None and now.stack_id in (None, stack.stack_id)
            self.reconcile(now, stack if is_same else None)

    def reconcile(self, node: Node, stack: NodeStack | None = None) -> None:
        """Bring one node nearer to what is wanted of it; home comes first what its stack would take along."""
        if node.wish is Wish.DOWN:
            self._retrieve_due(node)
        node = self.lifecycle.advance(node, stack)
        if node.status is NodeStatus.READY and node.address:
            self.healing.heal(node, node.address)
        self._retrieve_due(node)
        if node.wish is Wish.UP:
            self.rest.consider(node)

    def _retrieve_due(self, node: Node) -> None:
        if node.status is NodeStatus.READY and node.address:
            self.retrieval.retrieve_due(node, node.address)


@contextmanager
def _troubles_kept(node_id: str) -> Iterator[None]:
    """What goes wrong with one node is logged, and the next one's turn comes."""
    try:
        yield
    except OrchestrationError as error:
        log.warning("node.not_reconciled", node_id=node_id, cause=str(error))
    except Exception:
        # The last resort: the next pass starts from the tables again.
        log.exception("node.not_reconciled", node_id=node_id)


def _jittered(seconds: float) -> float:
    """Replicas must not march in step."""
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
