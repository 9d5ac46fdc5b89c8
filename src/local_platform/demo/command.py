"""`artificien local demo`."""

import signal
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
from rich.console import Console
from rich.table import Table

from local_platform.demo.checks import Check
from local_platform.demo.scientist import GaveUpError
from local_platform.demo.story import Story
from local_platform.home import HomeError
from local_platform.network import PortTakenError
from local_platform.platform import Options, Platform
from local_platform.supervisor import NotStartedError
from orchestration.domain.errors import OrchestrationError


@click.command()
@click.option("--kill", is_flag=True, help="Kill the service and the reconciler in the middle of it.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=".artificien/demo",
    show_default=True,
    help="Where logs, the nodes' state and the picture are kept.",
)
def demo(*, kill: bool, directory: Path) -> None:
    """The main job, whole: a model goes out, phones train it, it comes back, its node goes down."""
    signal.signal(signal.SIGTERM, _leave)
    console = Console()
    began = time.monotonic()
    try:
        with Platform(Options(directory, port=0, aws_port=0)) as platform:
            console.print(f"AWS on this machine at {platform.aws.url}, the service at {platform.url}.")
            checks = Story(platform, console, directory / "loss.png", kill).play()
    except (GaveUpError, HomeError, PortTakenError, NotStartedError, OrchestrationError) as error:
        raise click.ClickException(f"{error}\nLogs are in {directory / 'logs'}.") from error
    console.print(_verdict(checks))
    console.print(f"{time.monotonic() - began:.1f} s in all.")
    if not all(check.holds for check in checks):
        raise click.ClickException("Not all of it held.")


def _verdict(checks: list[Check]) -> Table:
    table = Table("", "what has to be true", "seen")
    for check in checks:
        table.add_row("[green]yes[/green]" if check.holds else "[red]NO[/red]", check.claim, check.figure)
    return table


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
