"""The node table: this service's record of every node.

Any number of web workers and reconcilers write it, and each may be paused or killed at any time. So every
write that follows from a decision carries a fence: it names the generation, desired state, status and number
of deletions that the decision was made from, and DynamoDB refuses it when one of them has changed. Without
the fence, a process that continues late would report the state of an earlier stack as that of the current
one, or delete a stack that was requested again. Fields on which no decision depends are not in the fence:
otherwise two processes that do the same would refuse each other's writes.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import structlog
from boto3.dynamodb.conditions import Attr, ConditionBase, Key
from pydantic import TypeAdapter

from orchestration.adapters.dynamo.table import ConditionFailed, Item, Table, TransactionFailed, stored
from orchestration.domain.errors import Overtaken, QuotaExceeded
from orchestration.domain.node import OF_A_GENERATION, DesiredState, Node, NodeStatus, Quota, node_id_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import UpdateTypeDef

log = structlog.get_logger(__name__)

AS_NODE = TypeAdapter(Node)
IN_ALL = "quota:all"
MARK = "marked"
MARKED = {"attention": MARK}
ATTRIBUTES = {"desired_state": "wish", "requested_at": "asked_at", "requested_by": "asked_by"}
"""Fields of `Node` whose attribute has another name, from an earlier version. All others have the same."""
FIELDS = {ATTRIBUTES.get(field.name, field.name): field.name for field in fields(Node)}


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

    def request(self, dataset_id: str, now: float, requested_by: str) -> Node:
        """Record that a dataset's node should run. Resets the idle time-out."""
        item = self.table.update(
            {"node_id": node_id_of(dataset_id)},
            put=_attributes(_requested(now, requested_by)) | MARKED,
            default={"dataset_id": dataset_id, "status": NodeStatus.ABSENT, "generation": 0},
        )
        return _node(item)

    def wake(self, node: Node, now: float, requested_by: str, wake_at: float) -> None:
        """Record that a stopped node should run; no device wakes it again before `wake_at`."""
        unwoken = Attr("wake_at").not_exists() | Attr("wake_at").lte(stored(now))
        is_stopped = Attr("wish").eq(DesiredState.STOPPED) | Attr("status").eq(NodeStatus.FAILED)
        when = is_stopped & Attr("generation").eq(node.generation) & unwoken
        self._change(node, {**_requested(now, requested_by), "wake_at": wake_at, **MARKED}, when)

    def let_go(self, node: Node, wake_at: float | None = None) -> None:
        """Record that a node should stop, unless it was requested since `node` was read."""
        unrequested = Attr("asked_at").eq(stored(node.requested_at)) & Attr("generation").eq(node.generation)
        changes = {"desired_state": DesiredState.STOPPED, **MARKED} | (
            {} if wake_at is None else {"wake_at": wake_at}
        )
        self._change(node, changes, unrequested)

    def needing_attention(self) -> Collection[str]:
        """Return the ids of all marked nodes, from an index that holds nothing else."""
        return [item["node_id"] for item in self.table.query("attention-index", Key("attention").eq(MARK))]

    def take_attention(self, node_id: str) -> None:
        """Remove the mark, which one of several reconcilers succeeds in."""
        try:
            key = {"node_id": node_id}
            self.table.update(key, remove=("attention",), when=Attr("attention").exists(), quietly=True)
        except ConditionFailed as error:
            raise Overtaken from error

    def device_seen(self, dataset_id: str, now: float) -> None:
        """Set `device_at`, unless it is later."""
        self._seen(dataset_id, "device_at", now)

    def progress_seen(self, node: Node, now: float) -> None:
        """Set `progress_at`, unless it is later."""
        self._seen(node.dataset_id, "progress_at", now)

    def _seen(self, dataset_id: str, what: str, now: float) -> None:
        earlier = Attr(what).not_exists() | Attr(what).lt(stored(now))
        fresh = {"dataset_id": dataset_id, "status": NodeStatus.ABSENT, "generation": 0}
        fresh |= {"wish": DesiredState.STOPPED, "asked_at": 0.0}
        key = {"node_id": node_id_of(dataset_id)}
        try:
            self.table.update(key, put={what: now}, default=fresh, when=earlier, quietly=True)
        except ConditionFailed:
            log.debug("node.seen_meanwhile", dataset_id=dataset_id, what=what)

    def check_quota(self, buyer: str, quota: Quota) -> None:
        """Raise QuotaExceeded if the buyer's counter or the counter of all is at its limit."""
        for counter, limit, whose in _limits(buyer, quota):
            item = self.table.get(node_id=counter) or {}
            if item.get("awake", 0) >= limit:
                raise _exceeded(limit, whose)

    def claim(self, node: Node, now: float, quota: Quota) -> Node:
        """Start the next generation and count it, in one transaction."""
        changes: dict[str, Any] = {
            "generation": node.generation + 1,
            "status": NodeStatus.DEPLOYING,
            "launched_at": now,
            "attempts": node.attempts + 1,
            "charged_to": node.requested_by,
            **OF_A_GENERATION,
        }
        limits = _limits(node.requested_by, quota)
        is_wanted = _fence(node) & Attr("wish").eq(DesiredState.RUNNING)
        try:
            self.table.transact(
                self.table.update_request({"node_id": node.node_id}, put=changes, when=is_wanted),
                *(self._counted(counter, 1, when=_below(limit)) for counter, limit, _ in limits),
            )
        except TransactionFailed as failed:
            if failed.position == 0:
                raise Overtaken from failed
            _, limit, whose = limits[failed.position - 1]
            raise _exceeded(limit, whose) from failed
        # Not the item as it is by now: the next write must find what was claimed, or fail.
        return replace(node, **changes)

    def release(self, node: Node, changes: Mapping[str, object]) -> Node:
        """Record that a generation has ended and count it no longer, in one transaction."""
        gone: dict[str, Any] = {**changes, "status": NodeStatus.ABSENT, "charged_to": None}
        key = {"node_id": node.node_id}
        released = self.table.update_request(key, put=_attributes(gone), when=_fence(node))
        counted = []
        if node.charged_to is not None:
            counted = [self._counted(_of_buyer(node.charged_to), -1), self._counted(IN_ALL, -1)]
        try:
            self.table.transact(released, *counted)
        except TransactionFailed as failed:
            raise Overtaken from failed
        return replace(node, **gone)

    def _counted(self, counter: str, amount: int, when: ConditionBase | None = None) -> "UpdateTypeDef":
        return self.table.update_request({"node_id": counter}, add={"awake": amount}, when=when)

    def change(self, node: Node, changes: Mapping[str, object]) -> Node:
        """Write these fields, unless what decisions rest on has changed since `node` was read."""
        return self._change(node, changes, _fence(node))

    def _change(self, node: Node, changes: Mapping[str, object], when: ConditionBase) -> Node:
        try:
            return _node(self.table.update({"node_id": node.node_id}, put=_attributes(changes), when=when))
        except ConditionFailed as error:
            raise Overtaken from error


def _requested(now: float, by: str) -> dict[str, object]:
    return {
        "desired_state": DesiredState.RUNNING,
        "requested_at": now,
        "requested_by": by,
        "idle_since": 0.0,
    }


def _of_buyer(username: str) -> str:
    return f"quota:buyer:{username}"


def _below(limit: int) -> ConditionBase:
    awake = Attr("awake")
    return awake.not_exists() | awake.lt(limit)


def _limits(buyer: str, quota: Quota) -> Sequence[tuple[str, int, str]]:
    """Return each counter that a launch adds to, its limit, and what it counts."""
    return ((_of_buyer(buyer), quota.per_buyer, "for one user"), (IN_ALL, quota.in_all, "in all"))


def _exceeded(limit: int, whose: str) -> QuotaExceeded:
    return QuotaExceeded(f"No more than {limit} nodes may run at once {whose}.")


def _fence(node: Node) -> ConditionBase:
    """Return the fence: the condition that what decisions depend on is still as in `node`."""
    deletions: ConditionBase = Attr("deletions").eq(node.deletions)
    if not node.deletions:
        deletions |= Attr("deletions").not_exists()
    is_same_generation = Attr("generation").eq(node.generation) & Attr("status").eq(node.status)
    return is_same_generation & Attr("wish").eq(node.desired_state) & deletions


def _node(item: Item) -> Node:
    return AS_NODE.validate_python({FIELDS[name]: value for name, value in item.items() if name in FIELDS})


def _attributes(changes: Mapping[str, object]) -> dict[str, object]:
    return {ATTRIBUTES.get(name, name): value for name, value in changes.items()}
