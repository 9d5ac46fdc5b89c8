"""One step of a node towards its wish: look, decide, act. Walked by `/create` and by the reconciler alike.

Every step may be the last one this process takes: each is idempotent or conditional, and whoever comes next
finds out from the record and the stack what is left to do.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from orchestration.domain.entities import Model
from orchestration.domain.errors import NotFound, QuotaExceeded, StackFailed, Upstream
from orchestration.domain.node import (
    Action,
    Budget,
    Node,
    NodeStack,
    NodeStatus,
    Quota,
    StackPhase,
    Wish,
    decide,
    is_given_up,
)
from orchestration.domain.ports import (
    AuditEntry,
    AuditLog,
    Datasets,
    Models,
    Nodes,
    NodeSecret,
    NodeSecrets,
    NodeServer,
    NodeStacks,
    Tenants,
)

log = structlog.get_logger(__name__)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Carries out what `decide` says; `deadline` is in seconds."""

    nodes: Nodes
    stacks: NodeStacks
    secrets: NodeSecrets
    tenants: Tenants
    server: NodeServer
    datasets: Datasets
    models: Models
    clock: Clock
    deadline: float
    quota: Quota
    budget: Budget
    audit: AuditLog

    def advance(self, node: Node) -> Node:
        """Take one step and return the record as it is then. Raises QuotaExceeded, Upstream."""
        if is_given_up(node, self.budget) or (node.wish is Wish.DOWN and node.status is NodeStatus.ABSENT):
            return node
        stack = self.stacks.describe(node)
        decision = decide(node, stack, self.clock(), self.deadline)
        log.debug("node.decided", node_id=node.node_id, phase=stack.phase, action=decision.action)
        match decision.action:
            case Action.LAUNCH:
                return self._launch(node, decision.reason)
            case Action.ASK:
                return self._ask(node, stack, decision.reason)
            case Action.DELETE:
                return self._delete(node, stack, decision.reason)
            case Action.FORGET:
                return self._forget(node)
            case Action.WAIT:
                return self._note(node, reason=decision.reason)

    def _launch(self, node: Node, reason: str) -> Node:
        if node.status is not NodeStatus.DEPLOYING:
            if node.attempts >= self.budget.attempts and node.status is not NodeStatus.FAILED:
                self._audit(node, f"node.give up: {node.failure}")
                return self._note(node, status=NodeStatus.FAILED, reason=node.failure)
            claimed = self._claim(node)
            if claimed is None:  # somebody else launches it
                return self.nodes.get(node.node_id) or node
            node = claimed
        secret = self.secrets.ensure(node)
        try:
            self.tenants.ensure(node, secret.database_url)
        except Upstream as error:  # asleep, most of the time; whoever comes next tries again
            log.warning("node.database_not_ready", node_id=node.node_id, cause=str(error))
            return self._note(node, reason=str(error))
        return self._create_stack(node, secret, reason)

    def _claim(self, node: Node) -> Node | None:
        if node.status is NodeStatus.FAILED:  # asked for again after the cool-down: a new budget
            node = replace(node, attempts=0)
        try:
            return self.nodes.claim(node, self.clock(), self.quota)
        except QuotaExceeded as error:
            self._note(node, reason=str(error))
            raise

    def _create_stack(self, node: Node, secret: NodeSecret, reason: str) -> Node:
        """The time is noted again: a database may have taken long to wake, and `decide` counts from here."""
        news = {"secret_hash": secret.secret_hash, "reason": reason, "launched_at": self.clock()}
        noted = self.nodes.change(node, news)
        if noted is None:
            return self.nodes.get(node.node_id) or node
        try:
            stack_id = self.stacks.launch(noted, secret.reference)
        except StackFailed as error:
            log.warning("node.launch_refused", node_id=node.node_id, cause=str(error))
            return self._give_back(self._note(noted, failure=str(error)))
        log.info(
            "node.launched", node_id=node.node_id, dataset_id=node.dataset_id, generation=noted.generation
        )
        self._audit(node, "node.launch", actor=node.asked_by)
        return self._note(noted, stack_id=stack_id) if stack_id else noted

    def _give_back(self, refused: Node) -> Node:
        """End a generation that was refused; not if another process's call for it has gone through."""
        if refused.stack_id is not None or self.stacks.describe(refused).phase is not StackPhase.ABSENT:
            return refused
        return self._forget(refused)

    def _ask(self, node: Node, stack: NodeStack, reason: str) -> Node:
        """A complete stack is not yet a node: only its own answer makes it ready."""
        if stack.address is None or not self.server.answers(stack.address, node.node_id):
            return self._note(node, status=NodeStatus.DEPLOYING, reason=reason)
        is_first_answer = node.ready_at < node.launched_at
        ready = self._note(
            node,
            status=NodeStatus.READY,
            reason="",
            failure="",
            attempts=0,
            stack_id=stack.stack_id,
            address=stack.address,
            ready_at=self.clock() if is_first_answer else node.ready_at,
        )
        if ready.status is NodeStatus.READY:
            self.publish(ready, self.models.on_dataset(ready.dataset_id))
        if ready.status is not node.status:
            self._audit(node, "node.ready")
            log.info("node.ready", node_id=node.node_id, address=stack.address, generation=node.generation)
        return ready

    def _delete(self, node: Node, stack: NodeStack, reason: str) -> Node:
        """Phones and data scientists are told first: nobody is sent to a node that goes away."""
        failure = reason if node.wish is Wish.UP else ""
        retiring = self._note(
            node,
            status=NodeStatus.RETIRING,
            reason=reason,
            failure=failure or node.failure,
            stack_id=stack.stack_id,
        )
        if retiring.status is not NodeStatus.RETIRING or retiring.generation != node.generation:
            return retiring
        self._unpublish(node.dataset_id)
        try:
            self.stacks.retire(retiring)
        except StackFailed as error:
            log.warning("node.retire_refused", node_id=node.node_id, cause=str(error))
            return self._note(retiring, reason=str(error))
        self._audit(node, f"node.take down: {reason}")
        log.info("node.retiring", node_id=node.node_id, generation=node.generation, reason=reason)
        return retiring

    def _forget(self, node: Node) -> Node:
        self._unpublish(node.dataset_id)
        self.secrets.discard(node)
        gone = {"stack_id": None, "address": None, "secret_hash": None, "reason": "", "idle_since": 0.0}
        if node.wish is Wish.UP:
            gone["failed_at"] = self.clock()
        self._audit(node, "node.gone")
        log.info("node.gone", node_id=node.node_id, generation=node.generation)
        return self.nodes.release(node, gone) or self.nodes.get(node.node_id) or node

    def publish(self, node: Node, models: Sequence[Model]) -> None:
        """Show where a ready node is, on its dataset and on those of these models that train.

        Whoever takes the node down says so in its record first and clears this after; so a look at the record
        behind our back is enough not to leave the address of a node that is gone.
        """
        unaware = [model for model in models if model.is_training and model.node_address != node.address]
        if node.address is None or not (self._publish_on_dataset(node, node.address) or unaware):
            return
        for model in unaware:
            with suppress(NotFound):
                self.models.publish_node(model, node.address)
        now = self.nodes.get(node.node_id)
        if now is None or now.status is not NodeStatus.READY or now.generation != node.generation:
            self._unpublish(node.dataset_id)

    def _publish_on_dataset(self, node: Node, address: str) -> bool:
        try:
            if self.datasets.get(node.dataset_id).node_address == address:
                return False
        except NotFound:
            return False  # the marketplace has deleted it; its node is looked after all the same
        self.datasets.publish_node(node.dataset_id, address)
        return True

    def _unpublish(self, dataset_id: str) -> None:
        self.datasets.unpublish_node(dataset_id)
        self.models.unpublish_node(dataset_id)

    def _audit(self, node: Node, action: str, actor: str = "service") -> None:
        self.audit.record(AuditEntry(actor, action, f"dataset:{node.dataset_id}", "ok"))

    def _note(self, node: Node, **changes: object) -> Node:
        """Write what is new; where somebody else was faster, their record is the answer."""
        news = {name: value for name, value in changes.items() if getattr(node, name) != value}
        if not news:
            return node
        return self.nodes.change(node, news) or self.nodes.get(node.node_id) or node
