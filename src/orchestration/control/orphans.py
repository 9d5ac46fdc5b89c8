"""Stacks, resources, secrets and databases that no current generation of a node owns.

Those of past generations are *superseded*: their node has a record that says so, and they are deleted.
*Orphans* have no record at all, so only an operator can decide whether to delete them: they are reported.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

import structlog

from orchestration.control.lifecycle import Lifecycle
from orchestration.control.records import Records
from orchestration.domain.decision import VISIBILITY_DELAY, Action
from orchestration.domain.errors import NotFound
from orchestration.domain.node import WITH_STACK, ListedStack, Node, NodeStatus, StackPhase
from orchestration.domain.ports import (
    Clock,
    Datasets,
    Deletion,
    NodeDatabases,
    NodeResources,
    Nodes,
    NodeSecrets,
    NodeStacks,
)
from orchestration.domain.schedule import Schedule

log = structlog.get_logger(__name__)

INTERVAL = 3600.0
"""Seconds between two attempts to delete the same stack, and between two lists of all secrets."""

SECRETS = "secrets"


class Ownership(StrEnum):
    """Which record a stack belongs to."""

    CURRENT = "current"  # to the current generation of a node
    RECENT = "recent"  # perhaps to one that is just being recorded
    SUPERSEDED = "superseded"  # to a past generation
    ORPHAN = "orphan"  # to none


def ownership_of(listed: ListedStack, node: Node | None, now: float) -> Ownership:
    """Compare a stack with the record of its node, which must be read after the stack was listed."""
    if now - listed.created_at <= VISIBILITY_DELAY:
        return Ownership.RECENT
    if node is None or listed.generation > node.generation:
        return Ownership.ORPHAN
    if listed.generation < node.generation or node.status not in WITH_STACK:
        return Ownership.SUPERSEDED
    return Ownership.CURRENT


def removal_of(phase: StackPhase) -> Action:
    """Return how a superseded stack is deleted. No launch waits for it, so it is not escalated stepwise."""
    match phase:
        case StackPhase.UNDELETABLE:
            return Action.DELETE_BY_FORCE
        case StackPhase.UPDATING:
            return Action.CANCEL_UPDATE
        case (
            StackPhase.DELETING
            | StackPhase.FAILING
            | StackPhase.FINISHING
            | StackPhase.IMPORTING
            | StackPhase.FOREIGN
            | StackPhase.UNKNOWN
            | StackPhase.ABSENT
            | StackPhase.UNSEEN
        ):
            return Action.WAIT
        case _:
            return Action.DELETE


@dataclass(frozen=True, slots=True)
class Finding:
    """One inconsistency between the records and AWS. `repair` corrects it."""

    kind: str
    """`stack`, `record`, `secret` or `database`."""
    name: str
    problem: str
    repair: Callable[[], object] | None = None
    """None where only an operator can decide what is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupersededStacks:
    """Deletes superseded stacks and secrets.

    They are rare: a process paused between its claim and its launch, or a stack could not be deleted.
    """

    records: Records
    stacks: NodeStacks
    secrets: NodeSecrets
    clock: Clock
    schedule: Schedule = field(default_factory=Schedule)

    def remove(self, listed: ListedStack) -> None:
        """Delete a listed stack if it is superseded, and log it if it is an orphan; once an hour each."""
        now = self.clock()
        stack_id = listed.stack.stack_id or ""
        if not self.schedule.is_due(stack_id, now):
            return
        node = self.records.nodes.get(listed.node_id)
        ownership = ownership_of(listed, node, now)
        if ownership in (Ownership.CURRENT, Ownership.RECENT):
            return
        self.schedule.set(stack_id, now + INTERVAL)
        log.error("stack.unowned", stack_id=stack_id, phase=listed.stack.phase, ownership=ownership.value)
        if node is not None and ownership is Ownership.SUPERSEDED:
            self._delete(listed, node)

    def _delete(self, listed: ListedStack, node: Node) -> None:
        # The hour is part of the call's token: processes that see the same stack make the same call.
        hour = int(self.clock() // INTERVAL)
        past = Node(node.node_id, node.dataset_id, generation=listed.generation, deletions=hour)
        match removal_of(listed.stack.phase):
            case Action.DELETE:
                self.stacks.delete(past, listed.stack, Deletion.PLAIN)
            case Action.DELETE_BY_FORCE:
                self.stacks.delete(past, listed.stack, Deletion.BY_FORCE)
            case Action.CANCEL_UPDATE:
                self.stacks.cancel_update(past, listed.stack)
        self.secrets.discard(past)
        self.records.audit(node, f"stack.superseded: {listed.stack.stack_id}")

    def remove_secrets(self) -> None:
        """Delete the superseded secrets, once an hour: a process may have died in the middle of a launch."""
        now = self.clock()
        if not self.schedule.is_due(SECRETS, now):
            return
        self.schedule.set(SECRETS, now + INTERVAL)
        for found in self.secret_findings():
            log.warning("secret.unowned", name=found.name, problem=found.problem)
            if found.repair is not None:
                found.repair()

    def secret_findings(self) -> Iterator[Finding]:
        """Return the superseded secrets and the orphans among the secrets."""
        for node_id, generation in self.secrets.all():
            name = f"{node_id}/{generation}"
            node = self.records.nodes.get(node_id)
            if node is None:
                yield Finding("secret", name, "no record of its node")
            elif generation != node.generation or node.status not in WITH_STACK:
                past = Node(node_id, node.dataset_id, generation=generation)
                yield Finding("secret", name, "of a past generation", partial(self.secrets.discard, past))


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Compares the records with AWS, for `artificien audit`. Every difference is looked up again."""

    nodes: Nodes
    datasets: Datasets
    stacks: NodeStacks
    resources: NodeResources
    node_databases: NodeDatabases
    lifecycle: Lifecycle
    superseded: SupersededStacks
    clock: Clock

    def findings(self) -> Iterator[Finding]:
        """Return each inconsistency as it is found. Raises DatabaseWaking."""
        yield from self._stacks_and_records()
        yield from self.superseded.secret_findings()
        yield from self._databases()

    def _stacks_and_records(self) -> Iterator[Finding]:
        resources, stacks = self.resources.all(), []  # a stack that is created after this has others
        missing = {(node.node_id, node.generation) for node in self.nodes.all() if node.status in WITH_STACK}
        for listed in self.stacks.all():
            missing.discard((listed.node_id, listed.generation))
            stacks.append(listed)
            yield from self._about_stack(listed)
        yield from self._left_behind(resources, stacks)
        for node_id, generation in sorted(missing):
            node = self.nodes.get(node_id)
            if node is not None and node.generation == generation and node.status in WITH_STACK:
                yield from self._about_record(node)

    def _left_behind(self, resources: Iterable[str], stacks: Iterable[ListedStack]) -> Iterator[Finding]:
        """Find resources that were retained, or left by a deletion by force, when their stack was deleted."""
        if outside := self.resources.outside(resources, stacks):
            still_there = self.resources.all()  # others went with their stack, after they were listed
            for arn in sorted(arn for arn in outside if arn in still_there):
                yield Finding("resource", arn, "left behind: its stack is gone")

    def _about_stack(self, listed: ListedStack) -> Iterator[Finding]:
        node = self.nodes.get(listed.node_id)
        name = listed.stack.stack_id or listed.node_id
        match ownership_of(listed, node, self.clock()):
            case Ownership.SUPERSEDED:
                problem = f"of past generation {listed.generation} ({listed.stack.phase})"
                yield Finding("stack", name, problem, partial(self.superseded.remove, listed))
            case Ownership.ORPHAN:
                yield Finding("stack", name, "no record of its node")
            case Ownership.CURRENT if listed.stack.phase is StackPhase.UNDELETABLE:
                yield Finding("stack", name, "can't be deleted; the reconciler goes on trying")

    def _about_record(self, node: Node) -> Iterator[Finding]:
        phase = self.stacks.describe(node).phase
        is_launching = node.status is NodeStatus.DEPLOYING and node.stack_id is None
        if phase in (StackPhase.ABSENT, StackPhase.UNSEEN) and not is_launching:
            problem = f"{node.status}, but its stack is gone"
            yield Finding("record", node.node_id, problem, partial(self.lifecycle.advance, node))

    def _databases(self) -> Iterator[Finding]:
        """A stopped node keeps its database with its models, unless its dataset was deleted."""
        for node_id in self.node_databases.all():
            node = self.nodes.get(node_id)
            if node is None:
                yield Finding("database", node_id, "no record of its node")
            elif node.status not in WITH_STACK and self._is_deleted(node.dataset_id):
                problem = f"its dataset {node.dataset_id!r} is deleted"
                yield Finding("database", node_id, problem, partial(self.node_databases.discard, node))

    def _is_deleted(self, dataset_id: str) -> bool:
        try:
            self.datasets.get(dataset_id)
        except NotFound:
            return True
        return False
