"""The key table: API keys by their hash."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from boto3.dynamodb.conditions import Attr, Key

from orchestration.adapters.dynamo.table import ConditionFailed, Item, Table
from orchestration.domain.credentials import StoredKey

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DynamoApiKeys:
    """Implements the port `ApiKeys`."""

    table: Table

    def find(self, key_hash: str) -> StoredKey | None:
        """Return the key with this hash, or None."""
        item = self.table.get(key_hash=key_hash)
        return _key(item) if item else None

    def of(self, owner: str) -> Sequence[StoredKey]:
        """Return all keys of one owner."""
        return [_key(item) for item in self.table.query("owner-index", Key("owner").eq(owner))]

    def put(self, key: StoredKey) -> None:
        """Write a key."""
        self.table.put(
            {
                "key_hash": key.key_hash,
                "owner": key.owner,
                "created_at": key.created_at,
                "expires_at": key.expires_at,
                "last_used_at": key.last_used_at,
            }
        )

    def used(self, key: StoredKey, now: float) -> None:
        """Set `last_used_at`."""
        try:
            there = Attr("key_hash").exists()
            self.table.update({"key_hash": key.key_hash}, put={"last_used_at": now}, when=there)
        except ConditionFailed:
            log.debug("key.gone", owner=key.owner)


def _key(item: Item) -> StoredKey:
    expires_at = item.get("expires_at")
    return StoredKey(
        key_hash=item["key_hash"],
        owner=item["owner"],
        created_at=float(item["created_at"]),
        expires_at=None if expires_at is None else float(expires_at),
        last_used_at=float(item.get("last_used_at", 0)),
    )
