"""One step of a node towards its wish: look, decide, act. Walked by `/create` and by the reconciler alike.

Every step may be the last one this process takes: each is idempotent or conditional, and whoever comes next
finds out from the record and the stack what is left to do.
"""

from dataclasses import dataclass

import structlog

from orchestration.control.launch import Launcher
from orchestration.control.publication import Publication
from orchestration.control.records import Records
from orchestration.domain.decision import Action, Decision, Rules, decide, is_at_rest, pause_after
from orchestration.domain.errors import StackFailed
from orchestration.domain.node import Node, NodeStack, NodeStatus, StackPhase, Wish
from orchestration.domain.ports import Clock, Deletion, Models, NodeSecrets, NodeServer, NodeStacks

log = structlog.get_logger(__name__)

DELETIONS = {
    Action.DELETE: Deletion.PLAIN,
    Action.DELETE_RETAINING: Deletion.RETAINING,
    Action.DELETE_BY_FORCE: Deletion.BY_FORCE,
}


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Carries out what `decide` says."""

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
        """Take one step and return the record as it is then; `stack` is looked up unless it was just seen.

        Raises QuotaExceeded, Upstream.
        """
        if is_at_rest(node, self.rules.budget):
            return node
        stack = stack or self.stacks.describe(node)
        decision = decide(node, stack, self.clock(), self.rules)
        log.debug("node.decided", node_id=node.node_id, phase=stack.phase, action=decision.action)
        if decision.alarm and (decision.action is not Action.WAIT or decision.reason != node.reason):
            self._alarm(node, stack, decision)
        if decision.failure is not None:
            node, meant = self._blame(node, stack, decision.failure), node
            if (node.generation, node.status, node.wish) != (meant.generation, meant.status, meant.wish):
                return node  # somebody else was here; what was decided may no longer be right
        return self._act(node, stack, decision)

    def _act(self, node: Node, stack: NodeStack, decision: Decision) -> Node:
        match decision.action:
            case Action.LAUNCH:
                return self.launcher.launch(node, decision.reason)
            case Action.ASK:
                return self._ask(node, stack, decision.reason)
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
        """While it goes, whoever died before they could tell the marketplace is stood in for."""
        if node.status is NodeStatus.RETIRING and self.publication.is_shown(node):
            self.publication.take_back(node.dataset_id)
        return self.records.note(node, reason=reason)

    def _alarm(self, node: Node, stack: NodeStack, decision: Decision) -> None:
        """For an operator: something that no rule of ours brings to an end by itself."""
        log.error(
            "node.alarm",
            node_id=node.node_id,
            dataset_id=node.dataset_id,
            stack_id=stack.stack_id or node.stack_id,
            phase=stack.phase,
            action=decision.action,
            reason=decision.reason,
        )

    def _blame(self, node: Node, stack: NodeStack, known: str) -> Node:
        """Keep the cause, looked up once a generation: events cost calls."""
        if node.failed_generation == node.generation:
            return node
        told = " ".join(filter(None, [known, self.stacks.explain(node, stack)]))
        cause = told or "The launch failed, and AWS doesn't say why."
        log.warning("node.failed", node_id=node.node_id, generation=node.generation, cause=cause)
        return self.records.note(node, failure=cause, failed_generation=node.generation)

    def _ask(self, node: Node, stack: NodeStack, reason: str) -> Node:
        """A complete stack is not yet a node: only its own answer makes it ready."""
        if stack.address is None or not self.server.answers(stack.address, node.node_id):
            since = node.silent_at if node.status is NodeStatus.DEPLOYING else self.clock()
            return self.records.note(node, status=NodeStatus.DEPLOYING, reason=reason, silent_at=since)
        now = self.clock()
        news = {} if node.was_ready else {"ready_at": now, "took": now - node.launched_at}
        ready = self.records.note(
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
            **news,
        )
        if ready.status is NodeStatus.READY:
            self.publication.publish(ready, self.models.on_dataset(ready.dataset_id))
        if ready.status is not node.status:
            self.records.tell(node, "node.ready")
            log.info("node.ready", node_id=node.node_id, address=stack.address, generation=node.generation)
        return ready

    def _delete(self, node: Node, stack: NodeStack, how: Deletion, decision: Decision) -> Node:
        """Phones and data scientists are told first: nobody is sent to a node that goes away."""
        now = self.clock()
        # Of a deletion that was noted and then failed, or was never asked, AWS has no use for the same call.
        is_repetition = decision.attempt == node.deletions and stack.phase is not StackPhase.UNDELETABLE
        retiring = self.records.nodes.change(
            node,
            {
                "status": NodeStatus.RETIRING,
                "reason": decision.reason,
                "stack_id": stack.stack_id,
                "deletions": decision.attempt,
                "deletion_at": node.deletion_at if is_repetition else now,
                "next_at": now + pause_after(decision.attempt),
                "is_refused": False,
            },
        )
        if retiring is None:
            return self.records.now(node)
        self.publication.take_back(node.dataset_id)
        try:
            left = self.stacks.delete(retiring, stack, how)
        except StackFailed as error:
            log.warning("node.retire_refused", node_id=node.node_id, cause=str(error))
            return self.records.note(retiring, reason=str(error), is_refused=True)
        self.records.tell(node, f"node.take down: {decision.reason}")
        if left:
            self.records.tell(node, f"node.left behind: {', '.join(left)}")
        log.info("node.retiring", node_id=node.node_id, generation=node.generation, how=how.value)
        return retiring

    def _quarantine(self, node: Node, stack: NodeStack) -> Node:
        """Let the next generation begin beside a stack that can't be deleted; the sweep goes on trying."""
        self.records.tell(node, f"node.quarantine: {stack.stack_id}")
        return self._end(node, generation=node.generation + 1)  # under its name, the old one stays in the way

    def _forget(self, node: Node) -> Node:
        self.records.tell(node, "node.gone")
        log.info("node.gone", node_id=node.node_id, generation=node.generation)
        return self._end(node)

    def _end(self, node: Node, **changes: object) -> Node:
        """The end of a generation. One that nobody wants any more takes its failures along."""
        self.publication.take_back(node.dataset_id)
        gone = changes | {
            "stack_id": None,
            "address": None,
            "secret_hash": None,
            "reason": "",
            "idle_since": 0.0,
        }
        if node.wish is Wish.UP:
            gone["next_at"] = self.clock() + pause_after(node.attempts)
            gone["reason"] = "The next stack is to come."
        else:
            gone |= {"attempts": 0, "next_at": 0.0}
        released = self.records.nodes.release(node, gone)
        if released is None:  # somebody goes on with this generation, and needs its secret
            return self.records.now(node)
        self.secrets.discard(node)
        return released

    def _give_up(self, node: Node) -> Node:
        self.records.tell(node, f"node.give up: {node.failure}")
        failed = {"status": NodeStatus.FAILED, "reason": node.failure, "failed_at": self.clock()}
        return self.records.note(node, **failed)

    def _repair(self, node: Node, stack: NodeStack, decision: Decision) -> Node:
        """Counted before it is done: what has no effect must come to an end too."""
        attempt = node.repairs + 1
        next_at = self.clock() + pause_after(attempt)
        counted = self.records.nodes.change(
            node, {"repairs": attempt, "next_at": next_at, "reason": decision.reason}
        )
        if counted is None:
            return self.records.now(node)
        try:
            match decision.action:
                case Action.CANCEL_UPDATE:
                    self.stacks.cancel_update(counted, stack)
                case Action.ROLL_BACK:
                    self.stacks.roll_back(counted, stack)
                case Action.CONTINUE_ROLLBACK:
                    self.stacks.continue_rollback(counted, stack)
        except StackFailed as error:
            log.warning("node.repair_refused", node_id=node.node_id, cause=str(error))
            return self.records.note(counted, reason=str(error))
        return counted
