"""Takes one step of a node towards its desired state: describe the stack, decide, act.

Every step is idempotent or conditional on the record it was decided on. So a process may die between any two
calls, or be overtaken by another one: the next step starts from the record and the stack.
"""

from dataclasses import dataclass

import structlog

from orchestration.control.launch import Launcher
from orchestration.control.records import Records
from orchestration.domain.decision import LEAVING, Action, Decision, Rules, decide, is_at_rest, silence_since
from orchestration.domain.errors import StackFailed
from orchestration.domain.node import Node, NodeStack, NodeStatus, StackPhase
from orchestration.domain.ports import Clock, Deletion, Models, NodeSecrets, NodeServer, NodeStacks
from orchestration.domain.publication import Publication
from orchestration.domain.schedule import pause_after

log = structlog.get_logger(__name__)

DELETIONS = {
    Action.DELETE: Deletion.PLAIN,
    Action.DELETE_RETAINING: Deletion.RETAINING,
    Action.DELETE_BY_FORCE: Deletion.BY_FORCE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """Carries out what `decide` returns."""

    records: Records
    stacks: NodeStacks
    secrets: NodeSecrets
    server: NodeServer
    models: Models
    launcher: Launcher
    publication: Publication
    clock: Clock
    rules: Rules

    def advance(self, node: Node, stack: NodeStack | None = None) -> Node:
        """Take one step and return the record after it.

        `stack` is described unless it is given. Raises Overtaken, QuotaExceeded, Upstream.
        """
        if is_at_rest(node, self.rules.budget):
            return node
        stack = stack or self.stacks.describe(node)
        decision = decide(node, stack, self.clock(), self.rules)
        log.debug("node.decided", node_id=node.node_id, phase=stack.phase, action=decision.action)
        if decision.alarm and (decision.action is not Action.WAIT or decision.reason != node.reason):
            self._alarm(node, stack, decision)
        if decision.has_failed:
            node = self._record_failure(node, stack, decision.failure)
        return self._act(node, stack, decision)

    def _act(self, node: Node, stack: NodeStack, decision: Decision) -> Node:
        match decision.action:
            case Action.LAUNCH:
                return self.launcher.launch(node, decision.reason)
            case Action.PROBE:
                return self._probe(node, stack, decision.reason)
            case Action.DELETE | Action.DELETE_RETAINING | Action.DELETE_BY_FORCE as action:
                return self._delete(node, stack, DELETIONS[action], decision)
            case Action.QUARANTINE:
                return self._quarantine(node, stack)
            case Action.FORGET:
                return self._forget(node)
            case Action.GIVE_UP:
                return self._give_up(node)
            case Action.LOOK_AGAIN | Action.CANCEL_UPDATE | Action.ROLL_BACK | Action.CONTINUE_ROLLBACK:
                return self._repair(node, stack, decision)
            case Action.WAIT:
                return self._wait(node, decision.reason)

    def _wait(self, node: Node, reason: str) -> Node:
        """Record the reason. Clear the address, in case a process died after it recorded the deletion."""
        if node.status is NodeStatus.RETIRING and self.publication.is_published(node.dataset_id):
            self.publication.clear(node.dataset_id)
        return self.records.change(node, reason=reason)

    def _alarm(self, node: Node, stack: NodeStack, decision: Decision) -> None:
        log.error(
            "node.alarm",
            node_id=node.node_id,
            dataset_id=node.dataset_id,
            stack_id=stack.stack_id or node.stack_id,
            phase=stack.phase,
            action=decision.action,
            reason=decision.reason,
        )

    def _record_failure(self, node: Node, stack: NodeStack, failure: str) -> Node:
        """Record why the launch failed, once per generation, because DescribeStackEvents is rate-limited."""
        if node.failed_generation == node.generation:
            return node
        known = " ".join(filter(None, [failure, self.stacks.explain(node, stack)]))
        failure = known or "The launch failed, and AWS doesn't say why."
        log.warning("node.failed", node_id=node.node_id, generation=node.generation, failure=failure)
        return self.records.change(node, failure=failure, failed_generation=node.generation)

    def _probe(self, node: Node, stack: NodeStack, reason: str) -> Node:
        """Make a node ready if it answers. A complete stack alone doesn't prove that the node serves."""
        if stack.address is None or not self.server.answers(stack.address, node.node_id):
            return self._record_silence(node, reason)
        now = self.clock()
        first_time = {} if node.was_ready else {"ready_at": now, "took": now - node.launched_at}
        ready = self.records.change(
            node,
            status=NodeStatus.READY,
            reason="",
            failure="",
            failed_generation=0,
            attempts=0,
            deletions=0,
            is_refused=False,
            repairs=0,
            stack_id=stack.stack_id,
            address=stack.address,
            **first_time,
        )
        self.publication.publish(ready, self.models.on_dataset(ready.dataset_id))
        if node.status is not NodeStatus.READY:
            self.records.audit(node, "node.ready")
            event = "node.recovered" if node.was_ready else "node.ready"
            log.info(event, node_id=node.node_id, address=stack.address, generation=node.generation)
        return ready

    def _record_silence(self, node: Node, reason: str) -> Node:
        """Record that a node doesn't answer. If it served before, log that once, when it is first seen."""
        is_new = node.status is not NodeStatus.DEPLOYING
        since = self.clock() if is_new else node.silent_at
        reason = silence_since(since) if node.was_ready else reason
        silent = self.records.change(node, status=NodeStatus.DEPLOYING, reason=reason, silent_at=since)
        if is_new and node.was_ready:
            self.records.audit(node, "node.fall silent")
            log.warning(
                "node.fell_silent",
                node_id=node.node_id,
                dataset_id=node.dataset_id,
                address=node.address,
                generation=node.generation,
            )
        return silent

    def _delete(self, node: Node, stack: NodeStack, how: Deletion, decision: Decision) -> Node:
        """Delete the stack in three steps: record it, clear the address, call CloudFormation.

        In this order no device or data scientist is sent to a node that is being deleted, wherever the
        process dies: the next step finds RETIRING in the record, and makes the same call again.
        """
        now = self.clock()
        # After a deletion failed, or was recorded and never called, CloudFormation needs another token.
        is_repetition = decision.attempt == node.deletions and stack.phase is not StackPhase.UNDELETABLE
        retiring = self.records.nodes.change(
            node,
            {
                "status": NodeStatus.RETIRING,
                # A data scientist who requests the node during the deletion reads the reason.
                "reason": decision.reason if node.should_run else LEAVING,
                "stack_id": stack.stack_id,
                "deletions": decision.attempt,
                "deletion_at": node.deletion_at if is_repetition else now,
                "next_at": now + pause_after(decision.attempt),
                "is_refused": False,
            },
        )
        self.publication.clear(node.dataset_id)
        try:
            retained = self.stacks.delete(retiring, stack, how)
        except StackFailed as error:
            log.warning("node.deletion_refused", node_id=node.node_id, error=str(error))
            return self.records.change(retiring, reason=str(error), is_refused=True)
        self.records.audit(node, f"node.take down: {decision.reason}")
        if retained:
            self.records.audit(node, f"node.left behind: {', '.join(retained)}")
        log.info("node.retiring", node_id=node.node_id, generation=node.generation, how=how.value)
        return retiring

    def _quarantine(self, node: Node, stack: NodeStack) -> Node:
        """Start the next generation beside a stack that can't be deleted, or that is a stranger's.

        If it is the node's own, it is superseded from then on.
        """
        self.records.audit(node, f"node.quarantine: {stack.stack_id or stack.remark}")
        return self._end(node, generation=node.generation + 1)  # the name of this generation is taken

    def _forget(self, node: Node) -> Node:
        self.records.audit(node, "node.gone")
        log.info("node.gone", node_id=node.node_id, generation=node.generation)
        return self._end(node)

    def _end(self, node: Node, **changes: object) -> Node:
        """End a generation. Discard its secret last: if the process was overtaken, the secret is in use."""
        self.publication.clear(node.dataset_id)
        changes |= {
            "stack_id": None,
            "address": None,
            "secret_hash": None,
            "reason": "",
            "idle_since": 0.0,
        }
        if node.should_run:
            changes["next_at"] = self.clock() + pause_after(node.attempts)
            changes["reason"] = "The next stack is to come."
        else:
            changes |= {"attempts": 0, "next_at": 0.0}
        released = self.records.nodes.release(node, changes)
        self.secrets.discard(node)
        return released

    def _give_up(self, node: Node) -> Node:
        """Stop retrying a node until it is requested after the cool-down."""
        self.records.audit(node, f"node.give up: {node.failure}")
        return self.records.change(
            node, status=NodeStatus.FAILED, reason=node.failure, failed_at=self.clock()
        )

    def _repair(self, node: Node, stack: NodeStack, decision: Decision) -> Node:
        """Count the attempt before it is made, so that attempts without effect end too."""
        attempt = node.repairs + 1
        next_at = self.clock() + pause_after(attempt)
        node = self.records.nodes.change(
            node, {"repairs": attempt, "next_at": next_at, "reason": decision.reason}
        )
        try:
            match decision.action:
                case Action.CANCEL_UPDATE:
                    self.stacks.cancel_update(node, stack)
                case Action.ROLL_BACK:
                    self.stacks.roll_back(node, stack)
                case Action.CONTINUE_ROLLBACK:
                    self.stacks.continue_rollback(node, stack)
        except StackFailed as error:
            log.warning("node.repair_refused", node_id=node.node_id, error=str(error))
            return self.records.change(node, reason=str(error))
        return node
