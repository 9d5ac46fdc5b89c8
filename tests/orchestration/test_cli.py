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
    """What is to happen on which signal; this process keeps its own."""
    set_ = {}
    monkeypatch.setattr(signal, "signal", set_.__setitem__)
    return set_


class OneSweep:
    """A reconciler that is told to stop after its first sweep."""

    def __init__(self, handlers, number):
        self.stop = lambda: handlers[number](number, None)
        self.waits = []

    def run(self, wait):
        self.waits.append(wait(0.01))
        self.stop()
        self.waits.append(wait(0.01))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_reconciler_runs_until_a_signal(environment, run, handlers, number):
    """It sweeps at its interval, and ends by itself with status 0."""
    reconciler = OneSweep(handlers, number)
    environment.setenv("RECONCILE_INTERVAL", "0.01")
    environment.setattr("orchestration.pygrid_orchestration.create_reconciler", lambda _: reconciler)
    result = run("reconcile")

    assert result.exit_code == 0
    assert reconciler.waits == [False, True]


@pytest.mark.parametrize("command", [("reconcile",), ("cluster", "deploy"), ("data", "deploy")])
def test_an_incomplete_environment_is_told_in_full(environment, run, command):
    """One line a fault, no trace."""
    for name in COMPLETE:
        environment.delenv(name)
    result = run(*command)
    wanted = COMPLETE if command == ("reconcile",) else ["AWS_DEFAULT_REGION"]

    assert result.exit_code == 1
    assert "The environment is not complete" in result.output
    assert all(f"  {name}: " in result.output for name in wanted)
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("flags", "nat"), [((), False), (("--nat",), True)])
def test_deploying_the_cluster_shows_its_outputs(environment, run, flags, nat):
    """The names that the service's settings ask for, in order."""
    calls = []

    def deployed(_client, name, *, nat):
        calls.append((name, nat))
        return {"B": "2", "A": "1"}

    environment.setattr(deploy, "deploy_cluster", deployed)
    result = run("cluster", "deploy", *flags)

    assert result.output == "A\t1\nB\t2\n"
    assert calls == [("artificien-cluster", nat)]


def test_deploying_the_tables_shows_their_outputs(environment, run):
    """The bucket's name, among others."""
    environment.setattr(deploy, "deploy_data", lambda _: {"ModelBucketName": "models"})

    assert run("data", "deploy").output == "ModelBucketName\tmodels\n"


def test_synthesizing_lists_what_was_written(monkeypatch, run, tmp_path):
    """One path a line."""
    monkeypatch.setattr(synthesizer, "write_snapshots", lambda: [tmp_path / "a.json", tmp_path / "b.json"])

    assert run("synth").output == f"{tmp_path}/a.json\n{tmp_path}/b.json\n"


def test_a_failure_is_one_line_and_status_1(monkeypatch, run):
    """CloudFormation's or the CDK's own words."""

    def refuse():
        raise StackFailed("Synthesizing a template needs the CDK.")

    monkeypatch.setattr(synthesizer, "write_snapshots", refuse)
    result = run("synth")

    assert (result.exit_code, result.output) == (1, "Error: Synthesizing a template needs the CDK.\n")


def test_commands_of_layers_above_are_found_by_their_entry_point():
    """The image, which ships without the local platform, simply lacks its command."""
    entry = EntryPoint("local", "local_platform.cli:local", "artificien.commands")

    assert cli.main.get_command(click.Context(cli.main), entry.name) is entry.load()


class Found:
    """What an inspection of nothing but two findings tells."""

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


def test_an_audit_tells_what_is_astray(run, inspection):
    """One line a finding, and exit status 1: it can stand in a cron job."""
    result = run("audit")

    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "stack     arn:left  left over from generation 1",
        "database  n1  no record knows its node",
        "2 astray.",
    ]
    assert inspection.mended == []


def test_an_audit_mends_what_needs_no_human(run, inspection):
    """What is left is still an error."""
    result = run("audit", "--mend")

    assert (result.exit_code, inspection.mended) == (1, ["arn:left"])
    assert "(mended)" in result.output
    assert result.output.endswith("1 astray.\n")


def test_an_audit_of_a_sound_deployment_ends_with_status_0(run, inspection, monkeypatch):
    """Nothing is astray."""
    monkeypatch.setattr(inspection, "findings", lambda: iter(()))

    assert (run("audit").exit_code, run("audit").output) == (0, "Nothing is astray.\n")


def test_an_audit_says_when_the_database_sleeps(run, inspection, monkeypatch):
    """It is waking up by then; asked again in half a minute, it answers."""

    def findings():
        raise DatabaseWaking("The nodes' database is waking up.")
        yield

    monkeypatch.setattr(inspection, "findings", findings)
    result = run("audit")

    assert (result.exit_code, result.output) == (1, "Error: The nodes' database is waking up.\n")
