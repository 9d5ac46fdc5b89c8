"""Launches a generation of a node: quota, secret, database, stack, in this order."""

from dataclasses import dataclass, replace

import structlog

from orchestration.control.records import Records
from orchestration.domain.errors import Overtaken, StackFailed, Upstream
from orchestration.domain.node import WITH_STACK, Node, NodeStatus, Quota
from orchestration.domain.ports import Clock, NodeDatabases, NodeSecret, NodeSecrets, NodeStacks
from orchestration.domain.schedule import pause_after

log = structlog.get_logger(__name__)

REFUSED = "CloudFormation refused the launch."


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Takes a launch one step further.

    One process claims a generation, so that one process launches it. Each step is idempotent: if the
    process dies, another one repeats the step for the same generation.
    """

    records: Records
    stacks: NodeStacks
    secrets: NodeSecrets
    node_databases: NodeDatabases
    clock: Clock
    quota: Quota

    def launch(self, node: Node, reason: str) -> Node:
        """Claim a generation if none is claimed, and create its stack. Raises QuotaExceeded, Overtaken."""
        node = self._claimed(node)
        secret = self.secrets.ensure(node)
        try:
            self.node_databases.ensure(node, secret.database_url)
        except Upstream as error:  # mostly a database that was paused; the next step tries again
            log.warning("node.database_not_ready", node_id=node.node_id, error=str(error))
            return self.records.change(node, reason=str(error))
        return self._create_stack(node, secret, reason)

    def _claimed(self, node: Node) -> Node:
        nodes = self.records.nodes
        match node.status:
            case NodeStatus.DEPLOYING if node.failed_generation == node.generation:
                # CloudFormation refused this generation's stack: count another attempt.
                return nodes.change(node, {"attempts": node.attempts + 1, "failed_generation": 0})
            case NodeStatus.DEPLOYING:
                return node
            case NodeStatus.FAILED:  # requested again after the cool-down: the attempts start from 0
                node = replace(node, attempts=0)
        return nodes.claim(node, self.clock(), self.quota)

    def _create_stack(self, node: Node, secret: NodeSecret, reason: str) -> Node:
        """Create the stack. `launched_at` is written again, since the database may have resumed slowly."""
        changes = {"secret_hash": secret.secret_hash, "reason": reason, "launched_at": self.clock()}
        try:
            node = self.records.nodes.change(node, changes)
        except Overtaken:
            self._discard_secret_if_over(node)
            raise
        try:
            stack_id = self.stacks.launch(node, secret.reference)
        except StackFailed as error:
            return self._refused(node, str(error))
        log.info(
            "node.launched", node_id=node.node_id, dataset_id=node.dataset_id, generation=node.generation
        )
        self.records.audit(node, "node.launch", actor=node.requested_by)
        return self.records.change(node, stack_id=stack_id) if stack_id else node

    def _discard_secret_if_over(self, node: Node) -> None:
        now = self.records.nodes.get(node.node_id)
        if now is not None and (now.generation != node.generation or now.status not in WITH_STACK):
            self.secrets.discard(node)

    def _refused(self, node: Node, failure: str) -> Node:
        """Try again later in the same generation: another process's call for it may have succeeded."""
        log.warning("node.launch_refused", node_id=node.node_id, error=failure)
        return self.records.change(
            node,
            failure=failure,
            failed_generation=node.generation,
            reason=REFUSED,
            next_at=self.clock() + pause_after(node.attempts),
        )
