"""Runs the reconciler."""

import signal
import threading
from types import FrameType

import click

from orchestration.cli.common import checked


@click.command()
def reconcile() -> None:
    """Reconcile all nodes until SIGTERM: launch, retire, retrieve trained models."""
    from orchestration.pygrid_orchestration import create_reconciler
    from orchestration.settings import ReconcilerSettings

    settings = checked(ReconcilerSettings)
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    create_reconciler(settings).run(stopped.wait)
