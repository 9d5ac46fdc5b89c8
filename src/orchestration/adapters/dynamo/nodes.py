"""The node table: this service's record of every node.

Any number of web workers and reconcilers write it, and each may be paused or killed at any time. So every
write that follows from a decision carries a fence: it names the generation, desired state, status and number
of deletions that the decision was made from, and DynamoDB refuses it when one of them has changed. Without
the fence, a process that wakes up late would report the state of an earlier stack as that of the current one,
or delete a stack that somebody has asked for again. Fields on which no decision depends are not in the fence:
otherwise two processes that do the same would refuse each other's writes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import structlog
from boto3.dynamodb.conditions import Attr, ConditionBase
from pydantic import TypeAdapter

from orchestration.adapters.dynamo.table import ConditionFailed, Item, Table, TransactionFailed, stored
from orchestration.domain.errors import QuotaExceeded
from orchestration.domain.node import OF_A_GENERATION, Node, NodeStatus, Quota, Wish, node_id_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import UpdateTypeDef

log = structlog.get_logger(__name__)

AS_NODE = TypeAdapter(Node)
IN_ALL = "quota:all"
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
        """Yield every record, without the counters of the quota, which are in the same table."""
        return (_node(item) for item in self.table.scan() if "dataset_id" in item)

    def ask(self, dataset_id: str, now: float, asked_by: str) -> Node:
        """Set the desired state to up. `asked_at` makes a concurrent `let_go` fail."""
        item = self.table.update(
            {"node_id": node_id_of(dataset_id)},
            put={"wish": Wish.UP, "asked_at": now, "asked_by": asked_by, "idle_since": 0.0},
            default={"dataset_id": dataset_id, "status": NodeStatus.ABSENT, "generation": 0},
        )
        return _node(item)

    def wake(self, node: Node, now: float, asked_by: str, wake_at: float) -> bool:
        """Set the desired state to up, unless the node is up or was woken lately."""
        changes = {"wish": Wish.UP, "asked_at": now, "asked_by": asked_by, "idle_since": 0.0}
        unwoken = Attr("wake_at").not_exists() | Attr("wake_at").lte(stored(now))
        sleeps = Attr("wish").eq(Wish.DOWN) | Attr("status").eq(NodeStatus.FAILED)
        when = sleeps & Attr("generation").eq(node.generation) & unwoken
        return self._change(node, changes | {"wake_at": wake_at}, when) is not None

    def device_seen(self, dataset_id: str, now: float) -> None:
        """Set `device_at`, unless it is later."""
        self._seen(dataset_id, "device_at", now)

    def progress_seen(self, node: Node, now: float) -> None:
        """Set `progress_at`, unless it is later."""
        self._seen(node.dataset_id, "progress_at", now)

    def _seen(self, dataset_id: str, what: str, now: float) -> None:
        earlier = Attr(what).not_exists() | Attr(what).lt(stored(now))
        fresh = {"dataset_id": dataset_id, "status": NodeStatus.ABSENT, "generation": 0}
        fresh |= {"wish": Wish.DOWN, "asked_at": 0.0}
        key = {"node_id": node_id_of(dataset_id)}
        try:
            self.table.update(key, put={what: now}, default=fresh, when=earlier, quietly=True)
        except ConditionFailed:
            log.debug("node.seen_meanwhile", dataset_id=dataset_id, what=what)

    def let_go(self, node: Node, wake_at: float | None = None) -> bool:
        """Set the desired state to down, unless the node was asked for or claimed since `node` was read."""
        unasked = Attr("asked_at").eq(stored(node.asked_at)) & Attr("generation").eq(node.generation)
        changes = {"wish": Wish.DOWN} | ({} if wake_at is None else {"wake_at": wake_at})
        return self._change(node, changes, unasked) is not None

    def claim(self, node: Node, now: float, quota: Quota) -> Node | None:
        """Begin the next generation and count it on the quota, in one transaction."""
        changes: dict[str, Any] = {
            "generation": node.generation + 1,
            "status": NodeStatus.DEPLOYING,
            "launched_at": now,
            "attempts": node.attempts + 1,
            "charged_to": node.asked_by,
            **OF_A_GENERATION,
        }
        is_wished = _fence(node) & Attr("wish").eq(Wish.UP)
        try:
            self.table.transact(
                self.table.update_request({"node_id": node.node_id}, put=changes, when=is_wished),
                self._counted(_of_buyer(node.asked_by), 1, when=_below(quota.per_buyer)),
                self._counted(IN_ALL, 1, when=_below(quota.in_all)),
            )
        except TransactionFailed as failed:
            if failed.position == 0:
                return None
            whose = "you have" if failed.position == 1 else "all together have"
            limit = quota.per_buyer if failed.position == 1 else quota.in_all
            raise QuotaExceeded(f"No more than {limit} nodes may be awake, and {whose} as many.") from failed
        # Not read again: the next write must fail if the record has changed since the claim.
        return replace(node, **changes)

    def release(self, node: Node, changes: Mapping[str, object]) -> Node | None:
        """Set the status to absent and take the node off the quota, in one transaction."""
        gone = {**changes, "status": NodeStatus.ABSENT, "charged_to": None}
        released = self.table.update_request({"node_id": node.node_id}, put=gone, when=_fence(node))
        counted = []
        if node.charged_to is not None:
            counted = [self._counted(_of_buyer(node.charged_to), -1), self._counted(IN_ALL, -1)]
        try:
            self.table.transact(released, *counted)
        except TransactionFailed:
            return None
        return self.get(node.node_id)

    def _counted(self, counter: str, amount: int, when: ConditionBase | None = None) -> "UpdateTypeDef":
        return self.table.update_request({"node_id": counter}, add={"awake": amount}, when=when)

    def change(self, node: Node, changes: Mapping[str, object]) -> Node | None:
        """Write these fields, behind the fence."""
        return self._change(node, changes, _fence(node))

    def _change(self, node: Node, changes: Mapping[str, object], when: ConditionBase) -> Node | None:
        try:
            return _node(self.table.update({"node_id": node.node_id}, put=changes, when=when))
        except ConditionFailed:
            return None


def _of_buyer(username: str) -> str:
    return f"quota:buyer:{username}"


def _below(limit: int) -> ConditionBase:
    awake = Attr("awake")
    return awake.not_exists() | awake.lt(limit)


def _fence(node: Node) -> ConditionBase:
    deletions: ConditionBase = Attr("deletions").eq(node.deletions)
    if not node.deletions:
        deletions |= Attr("deletions").not_exists()
    is_same = Attr("generation").eq(node.generation) & Attr("status").eq(node.status)
    return is_same & Attr("wish").eq(node.wish) & deletions


def _node(item: Item) -> Node:
    return AS_NODE.validate_python({name: value for name, value in item.items() if name in FIELDS})
