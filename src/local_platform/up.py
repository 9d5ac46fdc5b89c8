"""What `artificien local up` does: bring the platform up, show it, and stay until a signal."""

import shlex
import signal
import sysconfig
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
from rich.console import Console
from rich.table import Table

from local_platform.curls import curls
from local_platform.home import HomeError
from local_platform.network import NoAddressError, PortTakenError
from local_platform.platform import Options, Platform
from local_platform.processes import NotStartedError
from orchestration.domain.errors import OrchestrationError

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stay_up(options: Options) -> None:
    """Start it all, and stop it all on a signal. Raises click.ClickException."""
    for number in ENDINGS:
        signal.signal(number, _leave)
    try:
        with Platform(options) as platform:
            _show(platform, Console())
            _watch(platform)
    except (HomeError, PortTakenError, NoAddressError, NotStartedError, OrchestrationError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Stopped.")


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """Go, once: a second signal must not cut the cleaning up short."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _watch(platform: Platform) -> None:
    """Stay until a signal, or until something is gone that can't be started again. Raises NotStartedError."""
    while not (lost := platform.processes.lost()):
        time.sleep(0.5)
    raise NotStartedError(f"{', '.join(lost)} ended, and what it held is lost. See {platform.home.logs}.")


def _show(platform: Platform, console: Console) -> None:
    table = Table("what", "where", "process")
    places = {
        "aws": platform.aws.url,
        "service": platform.url,
        "reconciler": "looks at every node twice a second",
        "agent": "runs a node on an address of its own, port 5000",
    }
    for name, pid in platform.processes.running().items():
        table.add_row(name, places[name], str(pid))
    console.print(table)
    _plain(f"Logs are in {_short(platform.home.logs)}.")
    console.print("\nIn another shell:\n", style="bold")
    # Whoever ran `make up` has not activated the virtual environment in which the command is.
    programs = _short(Path(sysconfig.get_path("scripts")))
    _plain(f'source {_short(platform.home.exports)}; export PATH="{programs}:$PATH"')
    directory = "" if _is_usual(platform) else f" --directory {shlex.quote(str(_short(platform.home.path)))}"
    _plain(f"TOKEN=$(artificien local token{directory})\n")
    for curl in curls():
        console.print(f"{curl.route}  [dim]{curl.caller}[/dim]")
        _plain(f"{curl.command}\n")
    console.print("Ctrl-C stops everything.", style="bold")


def _is_usual(platform: Platform) -> bool:
    return platform.home.path == Options().directory.absolute()


def _plain(text: str) -> None:
    """Write without rich's line breaks, so that it can be pasted."""
    click.echo(text)


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
