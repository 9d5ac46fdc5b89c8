"""Takes down stacks of generations that are over; of what no record knows, it only tells."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import structlog

from orchestration.control.records import Records
from orchestration.domain.decision import Action
from orchestration.domain.node import WITH_STACK, ListedStack, Node
from orchestration.domain.ports import Clock, Deletion, NodeSecrets, NodeStacks
from orchestration.domain.stray import Standing, removal_of, standing_of

log = structlog.get_logger(__name__)

INTERVAL = 3600.0
"""Seconds between two things that are done about the same stray stack, and between two lists of secrets."""

SECRETS = "secrets"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something astray: what kind of thing, which, and what is wrong with it; `mend` puts it right."""

    kind: str
    name: str
    trouble: str
    mend: Callable[[], object] | None = None
    """None where only a human can say what is right."""


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

    def look_after_secrets(self) -> None:
        """Every hour, delete what processes left that died, or slept for long, in the middle of a launch."""
        now = self.clock()
        if now < self.next_turn.get(SECRETS, 0.0):
            return
        self.next_turn[SECRETS] = now + INTERVAL
        for found in self.secrets_astray():
            log.warning("secret.stray", name=found.name, trouble=found.trouble)
            if found.mend is not None:
                found.mend()

    def secrets_astray(self) -> Iterator[Finding]:
        """Return the secrets of lives that are over, and those whose node no record knows."""
        for node_id, generation in self.secrets.all():
            name = f"{node_id}/{generation}"
            node = self.records.nodes.get(node_id)
            if node is None:
                yield Finding("secret", name, "no record knows its node")
            elif generation != node.generation or node.status not in WITH_STACK:
                mend = partial(self.secrets.discard, Node(node_id, node.dataset_id, generation=generation))
                yield Finding("secret", name, "of a life that is over", mend)

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
