"""The audit table: who did what to which dataset, model or key, with what result. Items expire."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from boto3.dynamodb.conditions import Key

from orchestration.adapters.dynamo.table import Table
from orchestration.domain.errors import Upstream
from orchestration.domain.ports import AuditEntry

log = structlog.get_logger(__name__)

DAY = 86_400


@dataclass(frozen=True, slots=True)
class DynamoAuditLog:
    """Implements the port `AuditLog`; entries are kept for so many days. `clock`: seconds since the epoch."""

    table: Table
    clock: Callable[[], float]
    days: float

    def record(self, entry: AuditEntry) -> None:
        """Write a log line and an item. Never raises: what was done is done, noted or not."""
        now = self.clock()
        at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        said = {"actor": entry.actor, "action": entry.action, "result": entry.result}
        log.info("audit", subject=entry.subject, **said)
        item = {"subject": entry.subject, "at": f"{at}#{secrets.token_hex(4)}", **said}
        try:
            self.table.put(item | {"expires_at": int(now + self.days * DAY)})
        except Upstream as error:
            log.warning("audit.not_written", subject=entry.subject, cause=str(error))

    def of(self, subject: str) -> Iterator[tuple[str, AuditEntry]]:
        """Return what was done to a subject, oldest first: each with its time as ISO 8601."""
        for item in self.table.query(None, Key("subject").eq(subject)):
            entry = AuditEntry(item["actor"], item["action"], item["subject"], item["result"])
            yield item["at"].partition("#")[0], entry
