"""The tables of the marketplace, datasets and users; and two of our own, API keys and the audit log."""

import heapq
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from boto3.dynamodb.conditions import Attr, ConditionBase, Key
from pydantic import ValidationError

from orchestration.adapters.dynamo.rows import DatasetRow, UserRow
from orchestration.adapters.dynamo.table import LONGEST_KEY, ConditionFailed, Item, Table, stored
from orchestration.domain.credentials import StoredKey
from orchestration.domain.entities import Dataset, User
from orchestration.domain.errors import Conflict, NotFound, Upstream
from orchestration.domain.ports import AuditEntry

log = structlog.get_logger(__name__)

DAY = 86_400

ENDS = ("ended_at", "expires_at")
"""Attributes with the end of an API key; one of them at most is set."""


@dataclass(frozen=True, slots=True)
class DynamoDatasets:
    """Implements the port `Datasets`."""

    table: Table

    def get(self, dataset_id: str) -> Dataset:
        """Return the dataset."""
        item = self.table.get(dataset_id=dataset_id)
        if item is None:
            raise NotFound(f"There is no dataset {dataset_id!r}.")
        try:
            return DatasetRow.model_validate(item).entity()
        except ValidationError as error:
            raise Conflict(f"The item of dataset {dataset_id!r} is malformed.") from error

    def mark_set_up(self, dataset_id: str) -> None:
        """Set `properlySetUp`."""
        self._update(dataset_id, properlySetUp=True)

    def publish_node(self, dataset_id: str, address: str) -> None:
        """Set `hasNode` and `nodeURL`."""
        self._update(dataset_id, hasNode=True, nodeURL=address)

    def unpublish_node(self, dataset_id: str) -> None:
        """Clear `hasNode` and `nodeURL`."""
        self._update(dataset_id, hasNode=False, nodeURL=None)

    def _update(self, dataset_id: str, **changes: object) -> None:
        try:
            self.table.update({"dataset_id": dataset_id}, put=changes, when=Attr("dataset_id").exists())
        except ConditionFailed:
            # The marketplace deletes datasets without telling this service.
            log.warning("dataset.missing", dataset_id=dataset_id)


@dataclass(frozen=True, slots=True)
class DynamoUsers:
    """Implements the port `Users`."""

    table: Table

    def named(self, username: str) -> Sequence[User]:
        """Return the rows with this Cognito username."""
        rows = self.table.query("users_username_index", Key("username").eq(username))
        return [UserRow.model_validate(row).entity() for row in rows]

    def mask_legacy_key(self, user: User, hint: str) -> None:
        """Replace `api_key`, which the marketplace's profile page shows, unless it has changed since."""
        unchanged: ConditionBase = Attr("user_id").exists()
        if user.legacy_api_key is not None:
            unchanged &= Attr("api_key").eq(user.legacy_api_key)
        try:
            self.table.update({"user_id": user.user_id}, put={"api_key": hint}, when=unchanged)
        except ConditionFailed:
            log.warning("user.key_changed_meanwhile", user_id=user.user_id)


@dataclass(frozen=True, slots=True)
class DynamoApiKeys:
    """Implements the port `ApiKeys`.

    DynamoDB deletes an item when its `expires_at` is over. A sign-up key would be valid again without its
    item, since a user row may hold it for ever, so its end is in `ended_at`, and its item is kept.
    """

    table: Table

    def find(self, key_hash: str) -> StoredKey | None:
        """Return the key with this hash, or None."""
        item = self.table.get(key_hash=key_hash)
        return _key(item) if item else None

    def of(self, owner: str) -> Sequence[StoredKey]:
        """Return all keys of one owner."""
        return [_key(item) for item in self.table.query("owner-index", Key("owner").eq(owner))]

    def put(self, key: StoredKey) -> None:
        """Write a key, on condition that it is new, or the owner's and ends earlier than before."""
        allowed: ConditionBase = Attr("key_hash").not_exists()
        if key.expires_at is not None:
            earlier = [Attr(name).not_exists() | Attr(name).gt(stored(key.expires_at)) for name in ENDS]
            allowed |= Attr("owner").eq(key.owner) & earlier[0] & earlier[1]
        expires_at, ended_at = (None, key.expires_at) if key.is_of_sign_up else (key.expires_at, None)
        changes = {
            "owner": key.owner,
            "created_at": key.created_at,
            "expires_at": expires_at,
            "ended_at": ended_at,
        }
        try:
            self.table.update({"key_hash": key.key_hash}, put=changes, when=allowed, quietly=True)
        except ConditionFailed:
            log.info("key.not_changed", owner=key.owner)

    def used(self, key: StoredKey, now: float) -> None:
        """Set `last_used_at`."""
        try:
            exists = Attr("key_hash").exists()
            self.table.update({"key_hash": key.key_hash}, put={"last_used_at": now}, when=exists)
        except ConditionFailed:
            log.debug("key.gone", owner=key.owner)


@dataclass(frozen=True, slots=True)
class DynamoAuditLog:
    """Implements the port `AuditLog`. DynamoDB deletes an entry after `days`."""

    table: Table
    clock: Callable[[], float]
    days: float

    def record(self, entry: AuditEntry) -> None:
        """Write a log line and an item. Never raises: a failed write must not fail the action."""
        now, subject = self.clock(), _subject(entry.subject)
        at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        attributes = {"actor": entry.actor, "action": entry.action, "result": entry.result}
        log.info("audit", subject=subject, **attributes)
        item = {"subject": subject, "at": f"{at}#{secrets.token_hex(4)}", **attributes}
        try:
            self.table.put(item | {"expires_at": int(now + self.days * DAY)})
        except Upstream as error:
            log.warning("audit.not_written", subject=subject, cause=str(error))

    def of(self, subject: str) -> Iterator[tuple[str, AuditEntry]]:
        """Yield the entries of a subject, oldest first, each with its time in ISO 8601.

        Earlier versions recorded a model under its id as it was sent.
        """
        spellings = dict.fromkeys((_subject(subject), _cut(subject)))
        found = [self.table.query(None, Key("subject").eq(spelling)) for spelling in spellings]
        for item in heapq.merge(*found, key=lambda item: str(item["at"])):
            entry = AuditEntry(item["actor"], item["action"], item["subject"], item["result"])
            yield item["at"].partition("#")[0], entry


def _subject(subject: str) -> str:
    """Return a subject as it is recorded: a model's id in lower case, since any spelling finds a model."""
    return _cut(subject.lower() if subject.startswith("model:") else subject)


def _cut(subject: str) -> str:
    """Return as much of a subject as fits into a key: an id alone may have 2,048 bytes."""
    return subject.encode()[:LONGEST_KEY].decode(errors="ignore")


def _key(item: Item) -> StoredKey:
    expires_at = next((item[name] for name in ENDS if name in item), None)
    return StoredKey(
        key_hash=item["key_hash"],
        owner=item["owner"],
        created_at=float(item["created_at"]),
        expires_at=None if expires_at is None else float(expires_at),
        last_used_at=float(item.get("last_used_at", 0)),
    )
