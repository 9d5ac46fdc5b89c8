"""The tables: in memory, as strict as the real ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestration.domain.credentials import StoredKey
from orchestration.domain.entities import Dataset, User
from orchestration.domain.errors import NotFound, QuotaExceeded, Upstream
from orchestration.domain.node import OF_A_GENERATION, Node, NodeStatus, Quota, Wish, node_id_of
from orchestration.domain.ports import AuditEntry


class FakeDatasets:
    """The dataset table."""

    def __init__(self) -> None:
        self.rows: dict[str, Dataset] = {}

    def add(self, dataset: Dataset) -> None:
        self.rows[dataset.dataset_id] = dataset

    def get(self, dataset_id: str) -> Dataset:
        if dataset_id not in self.rows:
            raise NotFound(f"There is no dataset {dataset_id!r}.")
        return self.rows[dataset_id]

    def mark_set_up(self, dataset_id: str) -> None:
        self._update(dataset_id, is_set_up=True)

    def publish_node(self, dataset_id: str, address: str) -> None:
        self._update(dataset_id, node_address=address)

    def unpublish_node(self, dataset_id: str) -> None:
        self._update(dataset_id, node_address=None)

    def _update(self, dataset_id: str, **changes: Any) -> None:
        if dataset_id in self.rows:
            self.rows[dataset_id] = replace(self.rows[dataset_id], **changes)


class FakeUsers:
    """The user table."""

    def __init__(self) -> None:
        self.rows: dict[str, User] = {}
        self.hints: dict[str, str] = {}
        self._ids: dict[str, str] = {}

    def add(self, user: User) -> None:
        self.rows[user.user_id] = user
        self._ids[user.username] = user.user_id

    def named(self, username: str) -> User:
        known = self.rows.get(self._ids.get(username, ""))
        if known is not None and known.username == username:
            return known
        for user in self.rows.values():
            if user.username == username:
                return user
        raise NotFound("There is no such user.")

    def mask_legacy_key(self, user: User, hint: str) -> None:
        row = self.rows.get(user.user_id)
        if row is not None and user.legacy_api_key in (None, row.legacy_api_key):
            self.rows[user.user_id] = replace(row, legacy_api_key=None)
            self.hints[user.user_id] = hint


class FakeApiKeys:
    """The key table."""

    def __init__(self) -> None:
        self.rows: dict[str, StoredKey] = {}

    def find(self, key_hash: str) -> StoredKey | None:
        return self.rows.get(key_hash)

    def of(self, owner: str) -> Sequence[StoredKey]:
        return [key for key in self.rows.values() if key.owner == owner]

    def put(self, key: StoredKey) -> None:
        self.rows[key.key_hash] = key

    def used(self, key: StoredKey, now: float) -> None:
        if key.key_hash in self.rows:
            self.rows[key.key_hash] = replace(self.rows[key.key_hash], last_used_at=now)


class FakeNodes:
    """The node table. `away`: it doesn't list its records."""

    def __init__(self) -> None:
        self.rows: dict[str, Node] = {}
        self.away = False

    def add(self, node: Node) -> None:
        self.rows[node.node_id] = node

    def get(self, node_id: str) -> Node | None:
        return self.rows.get(node_id)

    def all(self) -> Iterable[Node]:
        if self.away:
            raise Upstream("DynamoDB did not answer.")
        return list(self.rows.values())

    def ask(self, dataset_id: str, now: float, asked_by: str = "ada") -> Node:
        node_id = node_id_of(dataset_id)
        row = self.rows.get(node_id) or Node(node_id, dataset_id)
        return self._write(replace(row, wish=Wish.UP, asked_at=now, asked_by=asked_by, idle_since=0.0))

    def wake(self, node: Node, now: float, asked_by: str, wake_at: float) -> bool:
        row = self.rows.get(node.node_id)
        if row is None or row.generation != node.generation or row.wake_at > now:
            return False
        if row.wish is Wish.UP and row.status is not NodeStatus.FAILED:
            return False
        asked = {"asked_at": now, "asked_by": asked_by, "idle_since": 0.0, "wake_at": wake_at}
        self._write(replace(row, wish=Wish.UP, **asked))
        return True

    def device_seen(self, dataset_id: str, now: float) -> None:
        row = self.rows.get(node_id_of(dataset_id)) or Node(node_id_of(dataset_id), dataset_id)
        self._write(replace(row, device_at=max(now, row.device_at)))

    def progress_seen(self, node: Node, now: float) -> None:
        row = self.rows.get(node.node_id) or Node(node.node_id, node.dataset_id)
        self._write(replace(row, progress_at=max(now, row.progress_at)))

    def let_go(self, node: Node, wake_at: float | None = None) -> bool:
        row = self.rows.get(node.node_id)
        if row is None or (row.asked_at, row.generation) != (node.asked_at, node.generation):
            return False
        self._write(replace(row, wish=Wish.DOWN, wake_at=row.wake_at if wake_at is None else wake_at))
        return True

    def claim(self, node: Node, now: float, quota: Quota) -> Node | None:
        row = self._as_seen(node)
        if row is None or row.wish is not Wish.UP:
            return None
        charged = [other.charged_to for other in self.rows.values() if other.charged_to is not None]
        if charged.count(node.asked_by) >= quota.per_buyer:
            raise QuotaExceeded(f"No more than {quota.per_buyer} nodes may be awake, and you have as many.")
        if len(charged) >= quota.in_all:
            raise QuotaExceeded(
                f"No more than {quota.in_all} nodes may be awake, and all together have as many."
            )
        changes = {"status": NodeStatus.DEPLOYING, "launched_at": now, "charged_to": node.asked_by}
        changes |= {"attempts": node.attempts + 1, **OF_A_GENERATION}
        return self._write(replace(row, generation=row.generation + 1, **changes))

    def release(self, node: Node, changes: Mapping[str, object]) -> Node | None:
        return self.change(node, {**changes, "status": NodeStatus.ABSENT, "charged_to": None})

    def change(self, node: Node, changes: Mapping[str, object]) -> Node | None:
        row = self._as_seen(node)
        return None if row is None else self._write(replace(row, **dict(changes)))

    def _as_seen(self, node: Node) -> Node | None:
        row = self.rows.get(node.node_id)
        return row if row is not None and _fence(row) == _fence(node) else None

    def _write(self, node: Node) -> Node:
        self.rows[node.node_id] = node
        return node


def _fence(node: Node) -> tuple[object, ...]:
    return (node.generation, node.status, node.wish, node.deletions)


class FakeAudit:
    """The audit table."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def record(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    def told(self) -> list[tuple[str, str, str]]:
        """Who did what to what, of what was done."""
        return [(e.actor, e.action, e.subject) for e in self.entries if e.result == "ok"]
