"""`artificien local`: AWS, the service and its nodes on this machine.

Each command imports what it needs when it is called: loading moto, scikit-learn and matplotlib takes seconds,
and the help text must not wait for them.
"""

from pathlib import Path

import click

from local_platform.signals import stop_on_signals
from orchestration.cli.common import WrongArgument

HIGHEST_PORT = 65_535
DIRECTORY = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=".artificien",
    show_default=True,
    help="Directory for logs, the nodes' databases and local.env.",
)


@click.group()
def local() -> None:
    """Run AWS, the service and its nodes on this machine."""


@local.command()
@click.option("--port", default=5001, show_default=True, help="Port of the service; 0 picks a free one.")
@click.option("--aws-port", default=5055, show_default=True, help="Port of AWS; 0 picks a free one.")
@click.option(
    "--workers",
    default=2,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of web worker processes.",
)
@DIRECTORY
def up(port: int, aws_port: int, workers: int, directory: Path) -> None:
    """Start the platform and run it until Ctrl-C or SIGTERM."""
    _check_ports(port, aws_port)
    stop_on_signals()
    from local_platform.platform import Options
    from local_platform.up import run_until_stopped

    run_until_stopped(Options(directory, port, aws_port, workers))


def _check_ports(port: int, aws_port: int) -> None:
    for option, number in (("--port", port), ("--aws-port", aws_port)):
        if not 0 <= number <= HIGHEST_PORT:
            raise WrongArgument(f"{option} {number} is not a port. Choose one up to {HIGHEST_PORT}, or 0.")
    if port == aws_port != 0:
        raise WrongArgument(f"--port and --aws-port are both {port}. Choose two different ones.")


@local.command()
@click.option("--kill", is_flag=True, help="Kill the service and the reconciler during the training.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=".artificien/demo",
    show_default=True,
    help="Directory for logs, the nodes' databases, loss.png and model.safetensors.",
)
def demo(*, kill: bool, directory: Path) -> None:
    """Train a model on simulated phones, from its submission to its download, and check the result."""
    stop_on_signals()
    from local_platform.demo.story import run_demo

    run_demo(directory, kill=kill)


@local.command()
@click.option(
    "--as",
    "role",
    type=click.Choice(["scientist", "developer"]),
    default="scientist",
    show_default=True,
    help="User to log in.",
)
@DIRECTORY
def token(role: str, directory: Path) -> None:
    """Log in to the running platform and print the access token."""
    from local_platform import LocalPlatformError
    from local_platform.clients import LocalAws, access_token
    from local_platform.home import Home

    prefix = {"scientist": "DS", "developer": "DEVELOPER"}[role]
    try:
        exports = Home(directory).read_exports()
        aws = LocalAws(exports["AWS_ENDPOINT_URL"], exports["AWS_DEFAULT_REGION"])
        username, password = exports[f"{prefix}_USERNAME"], exports[f"{prefix}_PASSWORD"]
        click.echo(access_token(aws, exports["APP_CLIENT_ID"], username, password))
    except LocalPlatformError as error:
        raise click.ClickException(str(error)) from error
