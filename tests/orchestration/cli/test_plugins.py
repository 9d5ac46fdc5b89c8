"""What the command imports, and commands of other packages."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import click

from orchestration.cli import main


def test_commands_of_other_packages_are_found_by_entry_point():
    """The image has no local platform, so it lacks this command."""
    entry = EntryPoint("local", "local_platform.cli:local", "artificien.commands")

    assert main.get_command(click.Context(main), entry.name) is entry.load()
    assert {entry.name, "reconcile"} <= set(main.list_commands(click.Context(main)))


def test_commands_import_the_service_when_they_run():
    """`artificien --help` doesn't wait for it."""
    heavy = ["boto3", "flask", "pydantic", "requests", "structlog"]
    script = f"import sys, orchestration.cli; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == "[]"
