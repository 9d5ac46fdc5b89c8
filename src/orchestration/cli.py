"""The `artificien` command."""

import signal
import threading
from importlib.metadata import entry_points
from types import FrameType

import click
from pydantic import ValidationError

from orchestration.settings import Settings


@click.group()
@click.version_option(package_name="artificien-orchestration")
def main() -> None:
    """Artificien's orchestration node."""


@main.command()
def reconcile() -> None:
    """Look after all nodes, until TERM: retrieve what is due, retire what nobody needs."""
    from orchestration.pygrid_orchestration import create_reconciler

    settings = _settings()
    over = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        over.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    create_reconciler(settings).run(lambda: over.wait(settings.reconcile_interval))


def _settings() -> Settings:
    try:
        return Settings.from_environment()
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors())
        raise click.ClickException("The environment is not complete.\n" + "\n".join(faults)) from None


for command in entry_points(group="artificien.commands"):
    main.add_command(command.load(), command.name)
