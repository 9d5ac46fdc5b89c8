"""`artificien audit` and `artificien audit-log`."""

import pytest

from orchestration.control.orphans import Finding
from orchestration.domain.errors import DatabaseWaking, Overtaken
from orchestration.domain.ports import AuditEntry
from orchestration.pygrid_orchestration import Parts


class Found:
    """An inspection with two findings."""

    def __init__(self):
        self.repaired = []

    def findings(self):
        yield Finding("stack", "arn:left", "of past generation 1", lambda: self.repaired.append("arn:left"))
        yield Finding("database", "n1", "no record of its node")


@pytest.fixture
def inspection(environment):
    found = Found()
    environment.setattr(Parts, "inspection", found)
    return found


def test_audit_prints_findings(run, inspection):
    """One line per finding, and exit status 1, for a cron job."""
    result = run("audit")

    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "stack     arn:left  of past generation 1",
        "database  n1  no record of its node",
        "2 inconsistent.",
    ]
    assert inspection.repaired == []


def test_audit_repairs_what_it_can(run, inspection):
    """A remaining finding still gives exit status 1."""
    result = run("audit", "--repair")

    assert (result.exit_code, inspection.repaired) == (1, ["arn:left"])
    assert "(repaired)" in result.output
    assert result.output.endswith("1 inconsistent.\n")


def test_audit_continues_after_a_repair_that_failed(run, inspection, monkeypatch):
    """The reconciler may have changed the record since; the finding is printed as not repaired."""

    def overtaken():
        raise Overtaken

    findings = [Finding("record", "n1", "its stack is gone", overtaken), *inspection.findings()]
    monkeypatch.setattr(inspection, "findings", lambda: iter(findings))
    result = run("audit", "--repair")

    assert result.exit_code == 1
    assert "not repaired: Another request has changed this" in result.output
    assert inspection.repaired == ["arn:left"]


def test_audit_without_findings_exits_with_status_0(run, inspection, monkeypatch):
    """The output is one sentence."""
    monkeypatch.setattr(inspection, "findings", lambda: iter(()))

    assert (run("audit").exit_code, run("audit").output) == (0, "Nothing is inconsistent.\n")


def test_audit_reports_a_paused_database(run, inspection, monkeypatch):
    """The call resumes it, so that the audit works half a minute later."""

    def findings():
        raise DatabaseWaking("The nodes' database is waking up.")
        yield

    monkeypatch.setattr(inspection, "findings", findings)
    result = run("audit")

    assert (result.exit_code, result.output) == (1, "Error: The nodes' database is waking up.\n")


class Entries:
    """An audit log with one entry for each subject."""

    def of(self, subject):
        yield "2026-01-01T00:00:00.000+00:00", AuditEntry("ada", "model.withdraw", subject, "ok")


def test_audit_log_prints_the_entries_of_a_subject(run, environment):
    """Time, actor, action and result, in columns."""
    environment.setattr(Parts, "audit", Entries())
    result = run("audit-log", "model:m1")

    assert result.exit_code == 0
    assert result.output.split() == ["2026-01-01T00:00:00.000+00:00", "ada", "model.withdraw", "ok"]


@pytest.mark.parametrize("subject", ["m1", "models:m1", "Model:m1", "model", "model:", ":m1", "node:n1", ""])
def test_audit_log_of_a_subject_that_can_not_exist_is_an_error(run, environment, subject):
    """One line, and the exit status of usage errors. An empty log would look as if nothing had happened."""
    environment.setattr(Parts, "audit", Entries())
    result = run("audit-log", subject)

    assert (result.exit_code, result.output) == (
        2,
        f"Error: There is no subject {subject!r}. Subjects are dataset:<id>, model:<id> and user:<id>.\n",
    )
