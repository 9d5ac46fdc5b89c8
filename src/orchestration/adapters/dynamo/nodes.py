"""The node table: our own record of every node. Each write says what it expects to find."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from boto3.dynamodb.conditions import Attr, ConditionBase
from pydantic import TypeAdapter

from orchestration.adapters.dynamo.table import ConditionFailed, Item, Table, stored
from orchestration.domain.node import Node, NodeStatus, Wish, node_id_of

AS_NODE = TypeAdapter(Node)
FIELDS = frozenset(field.name for field in fields(Node))


@dataclass(frozen=True, slots=True)
class DynamoNodes:
    """Implements the port `Nodes`."""

    table: Table

    def get(self, node_id: str) -> Node | None:
        """Return the record, or None."""
        item = self.table.get(node_id=node_id)
        return _node(item) if item else None

    def all(self) -> Iterable[Node]:
        """Return every record."""
        return map(_node, self.table.scan())

    def ask(self, dataset_id: str, now: float) -> Node:
        """Wish it up; whoever thinks of letting it go has to look again."""
        item = self.table.update(
            {"node_id": node_id_of(dataset_id)},
            put={"wish": Wish.UP, "asked_at": now, "idle_since": 0.0},
            default={"dataset_id": dataset_id, "status": NodeStatus.ABSENT, "generation": 0},
        )
        return _node(item)

    def let_go(self, node: Node) -> bool:
        """Wish it down, provided nobody has asked since."""
        unasked = Attr("asked_at").eq(stored(node.asked_at)) & Attr("generation").eq(node.generation)
        return self._change(node, {"wish": Wish.DOWN}, unasked) is not None

    def claim(self, node: Node, now: float) -> Node | None:
        """Begin the next generation, provided it is still wished for and nobody else has begun it."""
        changes = {"generation": node.generation + 1, "status": NodeStatus.DEPLOYING, "launched_at": now}
        return self._change(node, changes, _as_seen(node) & Attr("wish").eq(Wish.UP))

    def change(self, node: Node, changes: Mapping[str, object]) -> Node | None:
        """Write these fields, provided generation and status are as seen."""
        return self._change(node, changes, _as_seen(node))

    def _change(self, node: Node, changes: Mapping[str, object], when: ConditionBase) -> Node | None:
        try:
            return _node(self.table.update({"node_id": node.node_id}, put=changes, when=when))
        except ConditionFailed:
            return None


def _as_seen(node: Node) -> ConditionBase:
    return Attr("generation").eq(node.generation) & Attr("status").eq(node.status)


def _node(item: Item) -> Node:
    return AS_NODE.validate_python({name: value for name, value in item.items() if name in FIELDS})
