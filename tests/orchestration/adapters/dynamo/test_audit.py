"""The audit table."""

import logging

import pytest
import structlog

from orchestration.adapters.dynamo import DynamoAuditLog
from orchestration.domain.errors import Upstream
from orchestration.domain.ports import AuditEntry
from tests.builders import NOON
from tests.fakes import FakeClock

ENTRY = AuditEntry("ada", "model.withdraw", "model:net", "ok")


@pytest.fixture
def table(table_of):
    return table_of("audit_table")


@pytest.fixture
def heard(logs):
    """The logs, as talkative as in production."""
    usual = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    yield logs
    structlog.configure(**usual)


def test_entries_are_told_in_their_order_with_their_time(table):
    """Two in the same millisecond are two."""
    clock = FakeClock(NOON)
    audit = DynamoAuditLog(table, clock, days=1)
    audit.record(ENTRY)
    audit.record(ENTRY)
    clock.tick(1)
    audit.record(AuditEntry("bob", "node.retire", "dataset:x", "403 no"))
    audit.record(AuditEntry("service", "model.retrieve", "model:net", "ok"))
    told = list(audit.of("model:net"))

    assert [entry.action for _, entry in told] == ["model.withdraw", "model.withdraw", "model.retrieve"]
    assert told[0] == ("2023-11-14T22:13:20.000+00:00", ENTRY)


def test_an_entry_expires(table):
    """DynamoDB removes it by itself."""
    DynamoAuditLog(table, FakeClock(NOON), days=2).record(ENTRY)

    assert [item["expires_at"] for item in table.scan()] == [NOON + 2 * 86_400]


def test_it_is_a_log_line_too(table, heard):
    """For whoever searches the logs."""
    DynamoAuditLog(table, FakeClock(NOON), days=1).record(ENTRY)

    assert heard[0]["event"] == "audit"
    assert (heard[0]["actor"], heard[0]["subject"], heard[0]["result"]) == ("ada", "model:net", "ok")


def test_what_can_not_be_noted_was_done_all_the_same(table, logs, monkeypatch):
    """A table that is away doesn't undo a withdrawal, or make it a 502."""

    def away(*_):
        raise Upstream("DynamoDB did not answer.")

    monkeypatch.setattr(type(table), "put", away)
    DynamoAuditLog(table, FakeClock(NOON), days=1).record(ENTRY)

    assert logs[-1]["event"] == "audit.not_written"
