"""The `artificien` command with a complete environment."""

import pytest
from click.testing import CliRunner

from orchestration.cli import main
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
    return lambda *arguments: CliRunner().invoke(main, arguments)
