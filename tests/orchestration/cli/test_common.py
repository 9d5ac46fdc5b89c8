"""How commands report errors."""

import pytest

from orchestration.domain.errors import StackFailed
from orchestration.provisioning import synthesizer
from tests.orchestration.test_settings import COMPLETE


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


def test_failure_is_one_line_and_exit_status_1(monkeypatch, run):
    """The line is CloudFormation's or the CDK's message."""

    def refuse():
        raise StackFailed("Synthesizing a template needs the CDK.")

    monkeypatch.setattr(synthesizer, "write_snapshots", refuse)
    result = run("synth")

    assert (result.exit_code, result.output) == (1, "Error: Synthesizing a template needs the CDK.\n")
