"""`artificien local`: everything on this machine."""

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

from local_platform.clients import LocalAws
from local_platform.curls import curls
from local_platform.demo.command import demo
from local_platform.home import Home, HomeError
from local_platform.logins import LoginError, access_token
from local_platform.network import NoAddressError, PortTakenError
from local_platform.platform import Options, Platform
from local_platform.supervisor import NotStartedError
from orchestration.domain.errors import OrchestrationError

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DIRECTORY = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=".artificien",
    show_default=True,
    help="Where logs, the nodes' state and local.env are kept.",
)


@click.group()
def local() -> None:
    """Run AWS, the service and its nodes on this machine."""


@local.command()
@click.option("--port", default=5001, show_default=True, help="Of the service; 0 is any free one.")
@click.option("--aws-port", default=5055, show_default=True, help="Of AWS; 0 is any free one.")
@click.option("--workers", default=2, show_default=True, type=click.IntRange(min=1), help="Web processes.")
@DIRECTORY
def up(port: int, aws_port: int, workers: int, directory: Path) -> None:
    """Start it all, and stop it all on Ctrl-C or TERM."""
    for number in ENDINGS:
        signal.signal(number, _leave)
    try:
        with Platform(Options(directory, port, aws_port, workers)) as platform:
            _show(platform, Console())
            _watch(platform)
    except (HomeError, PortTakenError, NoAddressError, NotStartedError, OrchestrationError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Stopped.")


@local.command()
@click.option(
    "--as", "who", type=click.Choice(["scientist", "developer"]), default="scientist", show_default=True
)
@DIRECTORY
def token(who: str, directory: Path) -> None:
    """Print an access token of the data scientist, or of the app developer."""
    prefix = {"scientist": "DS", "developer": "DEVELOPER"}[who]
    try:
        found = Home(directory).published()
        aws = LocalAws(found["AWS_ENDPOINT_URL"], found["AWS_DEFAULT_REGION"])
        login = found[f"{prefix}_USERNAME"], found[f"{prefix}_PASSWORD"]
        click.echo(access_token(aws, found["APP_CLIENT_ID"], *login))
    except (HomeError, LoginError) as error:
        raise click.ClickException(str(error)) from error


local.add_command(demo)


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
