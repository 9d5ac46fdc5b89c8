"""The `artificien` command: what it calls, and how it says what went wrong."""

import signal
from importlib.metadata import EntryPoint

import click
import pytest
from click.testing import CliRunner

from orchestration import cli
from orchestration.control.orphans import Finding
from orchestration.domain.errors import DatabaseWaking, StackFailed
from orchestration.provisioning import deploy, synthesizer
from orchestration.pygrid_orchestration import Parts
from orchestration.settings import Settings
from tests.orchestration.test_settings import COMPLETE


@pytest.fixture
def environment(monkeypatch):
    for field in Settings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(cli.main, arguments)


@pytest.fixture
def handlers(monkeypatch):
    """Collect signal handlers instead of installing them."""
    set_ = {}
    monkeypatch.setattr(signal, "signal", set_.__setitem__)
    return set_


class OnePass:
    """A reconciler that receives a signal during its first pass."""

    def __init__(self, handlers, number):
        self.stop = lambda: handlers[number](number, None)
        self.waits = []

    def run(self, wait):
        self.waits.append(wait(0.01))
        self.stop()
        self.waits.append(wait(0.01))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_reconciler_runs_until_a_signal(environment, run, handlers, number):
    """It then returns with exit status 0."""
    reconciler = OnePass(handlers, number)
    environment.setenv("RECONCILE_INTERVAL", "0.01")
    environment.setattr("orchestration.pygrid_orchestration.create_reconciler", lambda _: reconciler)
    result = run("reconcile")

    assert result.exit_code == 0
    assert reconciler.waits == [False, True]


@pytest.mark.parametrize("command", [("reconcile",), ("cluster", "deploy"), ("data", "deploy")])
def test_all_missing_settings_are_listed(environment, run, command):
    """One line for each, without a traceback."""
    for name in COMPLETE:
        environment.delenv(name)
    result = run(*command)
    wanted = COMPLETE if command == ("reconcile",) else ["AWS_DEFAULT_REGION"]

    assert result.exit_code == 1
    assert "The environment is not complete" in result.output
    assert all(f"  {name}: " in result.output for name in wanted)
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("flags", "nat"), [((), False), (("--nat",), True)])
def test_deploying_the_cluster_prints_its_outputs(environment, run, flags, nat):
    """Sorted by name."""
    calls = []

    def deployed(_client, name, *, nat):
        calls.append((name, nat))
        return {"B": "2", "A": "1"}

    environment.setattr(deploy, "deploy_cluster", deployed)
    result = run("cluster", "deploy", *flags)

    assert result.output == "A\t1\nB\t2\n"
    assert calls == [("artificien-cluster", nat)]


def test_deploying_the_data_prints_its_outputs(environment, run):
    """The bucket's name is one of them."""
    environment.setattr(deploy, "deploy_data", lambda _: {"ModelBucketName": "models"})

    assert run("data", "deploy").output == "ModelBucketName\tmodels\n"


def test_synth_prints_the_written_paths(monkeypatch, run, tmp_path):
    """One path per line."""
    monkeypatch.setattr(synthesizer, "write_snapshots", lambda: [tmp_path / "a.json", tmp_path / "b.json"])

    assert run("synth").output == f"{tmp_path}/a.json\n{tmp_path}/b.json\n"


def test_failure_is_one_line_and_exit_status_1(monkeypatch, run):
    """The line is CloudFormation's or the CDK's message."""

    def refuse():
        raise StackFailed("Synthesizing a template needs the CDK.")

    monkeypatch.setattr(synthesizer, "write_snapshots", refuse)
    result = run("synth")

    assert (result.exit_code, result.output) == (1, "Error: Synthesizing a template needs the CDK.\n")


def test_commands_of_other_packages_are_found_by_entry_point():
    """The image has no local platform, so it lacks this command."""
    entry = EntryPoint("local", "local_platform.cli:local", "artificien.commands")

    assert cli.main.get_command(click.Context(cli.main), entry.name) is entry.load()


class Found:
    """An inspection with two findings."""

    def __init__(self):
        self.mended = []

    def findings(self):
        yield Finding(
            "stack", "arn:left", "left over from generation 1", lambda: self.mended.append("arn:left")
        )
        yield Finding("database", "n1", "no record knows its node")


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
        "stack     arn:left  left over from generation 1",
        "database  n1  no record knows its node",
        "2 astray.",
    ]
    assert inspection.mended == []


def test_audit_repairs_what_it_can(run, inspection):
    """A remaining finding still gives exit status 1."""
    result = run("audit", "--mend")

    assert (result.exit_code, inspection.mended) == (1, ["arn:left"])
    assert "(mended)" in result.output
    assert result.output.endswith("1 astray.\n")


def test_audit_without_findings_exits_with_status_0(run, inspection, monkeypatch):
    """It says so."""
    monkeypatch.setattr(inspection, "findings", lambda: iter(()))

    assert (run("audit").exit_code, run("audit").output) == (0, "Nothing is astray.\n")


def test_audit_reports_a_paused_database(run, inspection, monkeypatch):
    """The call resumes it, so that the audit works half a minute later."""

    def findings():
        raise DatabaseWaking("The nodes' database is waking up.")
        yield

    monkeypatch.setattr(inspection, "findings", findings)
    result = run("audit")

    assert (result.exit_code, result.output) == (1, "Error: The nodes' database is waking up.\n")
