"""Takes down stacks of generations that are over; of what no record knows, it only tells."""

from dataclasses import dataclass, field

import structlog

from orchestration.domain.decision import Action
from orchestration.domain.node import ListedStack, Node
from orchestration.domain.ports import Clock, Deletion, NodeSecrets, NodeStacks
from orchestration.domain.stray import Standing, removal_of, standing_of
from orchestration.services.records import Records

log = structlog.get_logger(__name__)

INTERVAL = 3600.0
"""Seconds between two things that are done about the same stray stack."""


@dataclass(frozen=True, slots=True)
class StrayService:
    """Leaks are rare: a process slept between its claim and its launch, a stack resisted deletion."""

    records: Records
    stacks: NodeStacks
    secrets: NodeSecrets
    clock: Clock
    next_turn: dict[str, float] = field(default_factory=dict)
    """Of each stray by its ARN; forgotten, its turn comes once more, which is the same call to AWS."""

    def look_after(self, listed: ListedStack) -> None:
        """Do what is due about a listed stack that isn't of a node awake. Raises Upstream."""
        now = self.clock()
        if now < self.next_turn.get(listed.stack.stack_id or "", 0.0):
            return
        node = self.records.nodes.get(listed.node_id)
        standing = standing_of(listed, node, now)
        if standing in (Standing.KNOWN, Standing.YOUNG):
            return
        self.next_turn[listed.stack.stack_id or ""] = now + INTERVAL
        log.error(
            "stack.stray", stack_id=listed.stack.stack_id, phase=listed.stack.phase, standing=standing.value
        )
        if node is not None and standing is Standing.LEFT_OVER:
            self._remove(listed, node)

    def _remove(self, listed: ListedStack, node: Node) -> None:
        # The hour is part of the call's token: replicas that see the same stray make the same call.
        turn = int(self.clock() // INTERVAL)
        its_own = Node(node.node_id, node.dataset_id, generation=listed.generation, deletions=turn)
        match removal_of(listed.stack.phase):
            case Action.DELETE:
                self.stacks.delete(its_own, listed.stack, Deletion.PLAIN)
            case Action.DELETE_BY_FORCE:
                self.stacks.delete(its_own, listed.stack, Deletion.BY_FORCE)
            case Action.CANCEL_UPDATE:
                self.stacks.cancel_update(its_own, listed.stack)
        self.secrets.discard(its_own)
        self.records.tell(node, f"stack.stray: {listed.stack.stack_id}")
