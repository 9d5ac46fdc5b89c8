"""Begins a generation of a node: quota, secret, database, stack, in this order."""

from dataclasses import dataclass, replace

import structlog

from orchestration.control.records import Records
from orchestration.domain.decision import pause_after
from orchestration.domain.errors import QuotaExceeded, StackFailed, Upstream
from orchestration.domain.node import WITH_STACK, Node, NodeStatus, Quota
from orchestration.domain.ports import Clock, NodeDatabases, NodeSecret, NodeSecrets, NodeStacks

log = structlog.get_logger(__name__)

REFUSED = "CloudFormation refused the launch."


@dataclass(frozen=True, slots=True)
class Launcher:
    """Claims the next generation, so that one process launches it; another may finish what it began."""

    records: Records
    stacks: NodeStacks
    secrets: NodeSecrets
    node_databases: NodeDatabases
    clock: Clock
    quota: Quota

    def launch(self, node: Node, reason: str) -> Node:
        """Bring the launch one step further. Raises QuotaExceeded."""
        if node.status is not NodeStatus.DEPLOYING:
            claimed = self._claim(node)
            if claimed is None:  # somebody else launches it
                return self.records.now(node)
            node = claimed
        elif node.failed_generation == node.generation:  # refused before: tried again, and counted
            again = self.records.nodes.change(node, {"attempts": node.attempts + 1, "failed_generation": 0})
            if again is None:
                return self.records.now(node)
            node = again
        secret = self.secrets.ensure(node)
        try:
            self.node_databases.ensure(node, secret.database_url)
        except Upstream as error:  # asleep, most of the time; whoever comes next tries again
            log.warning("node.database_not_ready", node_id=node.node_id, cause=str(error))
            return self.records.note(node, reason=str(error))
        return self._create_stack(node, secret, reason)

    def _claim(self, node: Node) -> Node | None:
        if node.status is NodeStatus.FAILED:  # asked for again after the cool-down: a new budget
            node = replace(node, attempts=0)
        try:
            return self.records.nodes.claim(node, self.clock(), self.quota)
        except QuotaExceeded as error:
            self.records.note(node, reason=str(error))
            raise

    def _create_stack(self, node: Node, secret: NodeSecret, reason: str) -> Node:
        """The time is noted again: a database may have taken long to wake, and `decide` counts from here."""
        news = {"secret_hash": secret.secret_hash, "reason": reason, "launched_at": self.clock()}
        noted = self.records.nodes.change(node, news)
        if noted is None:
            return self._overtaken(node)
        try:
            stack_id = self.stacks.launch(noted, secret.reference)
        except StackFailed as error:
            return self._refused(noted, str(error))
        log.info(
            "node.launched", node_id=node.node_id, dataset_id=node.dataset_id, generation=noted.generation
        )
        self.records.tell(node, "node.launch", actor=node.asked_by)
        return self.records.note(noted, stack_id=stack_id) if stack_id else noted

    def _overtaken(self, node: Node) -> Node:
        """Somebody else was here; if this life is over by now, so is the secret that was made for it."""
        now = self.records.now(node)
        if now.generation != node.generation or now.status not in WITH_STACK:
            self.secrets.discard(node)
        return now

    def _refused(self, node: Node, cause: str) -> Node:
        """Tried again in the same generation: another process's call for it may have gone through."""
        log.warning("node.launch_refused", node_id=node.node_id, cause=cause)
        again_at = self.clock() + pause_after(node.attempts)
        return self.records.note(
            node, failure=cause, failed_generation=node.generation, reason=REFUSED, next_at=again_at
        )
