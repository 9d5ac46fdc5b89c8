"""How commands report errors."""

import pytest

from orchestration.domain.errors import StackFailed
from orchestration.provisioning import synthesizer
from tests.orchestration.test_settings import COMPLETE


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("reconcile", COMPLETE.keys() - {"USER_POOL_ID", "APP_CLIENT_IDS"}),
        ("audit", {"AWS_DEFAULT_REGION", "NODE_DATABASE_URL"}),
        ("audit-log model:m", {"AWS_DEFAULT_REGION"}),
        ("migrate-models", {"AWS_DEFAULT_REGION"}),
        ("cluster deploy", {"AWS_DEFAULT_REGION"}),
        ("data deploy", {"AWS_DEFAULT_REGION"}),
    ],
)
def test_missing_settings_are_listed(environment, run, command, needed):
    """One line for each setting that the command needs, and for no other, without a traceback."""
    for name in COMPLETE:
        environment.delenv(name)
    result = run(*command.split())
    first, *lines = result.output.splitlines()

    assert (result.exit_code, first) == (1, "Error: The environment is not complete:")
    assert {line.split(":")[0].strip() for line in lines} == needed


def test_failure_is_one_line_and_exit_status_1(monkeypatch, run):
    """The line is CloudFormation's or the CDK's message."""

    def refuse():
        raise StackFailed("Synthesizing a template needs the CDK.")

    monkeypatch.setattr(synthesizer, "write_snapshots", refuse)
    result = run("synth")

    assert (result.exit_code, result.output) == (1, "Error: Synthesizing a template needs the CDK.\n")
