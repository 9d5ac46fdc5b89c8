"""Looks for what is astray: stacks, records, secrets and databases that don't belong together any more."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from orchestration.control.lifecycle import Lifecycle
from orchestration.control.orphans import Finding, StrayService
from orchestration.domain.errors import NotFound
from orchestration.domain.node import WITH_STACK, ListedStack, Node, NodeStatus, StackPhase
from orchestration.domain.ports import Clock, Datasets, NodeDatabases, Nodes, NodeStacks
from orchestration.domain.stray import Standing, standing_of


@dataclass(frozen=True, slots=True)
class Inspection:
    """Compares what the records say with what there is. Whatever is found is looked up anew, one by one."""

    nodes: Nodes
    datasets: Datasets
    stacks: NodeStacks
    node_databases: NodeDatabases
    lifecycle: Lifecycle
    strays: StrayService
    clock: Clock

    def findings(self) -> Iterator[Finding]:
        """Return what is astray, as it is found. Raises Upstream, DatabaseWaking."""
        yield from self._stacks_and_records()
        yield from self.strays.secrets_astray()
        yield from self._databases()

    def _stacks_and_records(self) -> Iterator[Finding]:
        missing = {(node.node_id, node.generation) for node in self.nodes.all() if node.status in WITH_STACK}
        for listed in self.stacks.all():
            missing.discard((listed.node_id, listed.generation))
            yield from self._about(listed)
        for node_id, generation in sorted(missing):
            node = self.nodes.get(node_id)
            if node is not None and node.generation == generation and node.status in WITH_STACK:
                yield from self._without_stack(node)

    def _about(self, listed: ListedStack) -> Iterator[Finding]:
        node = self.nodes.get(listed.node_id)
        name = listed.stack.stack_id or listed.node_id
        match standing_of(listed, node, self.clock()):
            case Standing.LEFT_OVER:
                trouble = f"left over from generation {listed.generation} ({listed.stack.phase})"
                yield Finding("stack", name, trouble, partial(self.strays.look_after, listed))
            case Standing.UNKNOWN:
                yield Finding("stack", name, "no record knows it")
            case Standing.KNOWN if listed.stack.phase is StackPhase.UNDELETABLE:
                yield Finding("stack", name, "can't be deleted; the reconciler goes on trying")

    def _without_stack(self, node: Node) -> Iterator[Finding]:
        phase = self.stacks.describe(node).phase
        settling = node.status is NodeStatus.DEPLOYING and node.stack_id is None
        if phase in (StackPhase.ABSENT, StackPhase.UNSEEN) and not settling:
            trouble = f"{node.status}, and its stack is gone"
            yield Finding("record", node.node_id, trouble, partial(self.lifecycle.advance, node))

    def _databases(self) -> Iterator[Finding]:
        """A retired node's database stays, with its models; that of a dataset that is gone does not."""
        for node_id in self.node_databases.all():
            node = self.nodes.get(node_id)
            if node is None:
                yield Finding("database", node_id, "no record knows its node")
            elif node.status not in WITH_STACK and self._is_gone(node.dataset_id):
                trouble = f"its dataset {node.dataset_id!r} is gone"
                yield Finding("database", node_id, trouble, partial(self.node_databases.discard, node))

    def _is_gone(self, dataset_id: str) -> bool:
        try:
            self.datasets.get(dataset_id)
        except NotFound:
            return True
        return False
