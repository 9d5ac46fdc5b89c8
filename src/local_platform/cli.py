"""`artificien local`: everything on this machine.

Each command imports what it needs when it is called: importing scikit-learn and matplotlib takes seconds.
"""

from pathlib import Path

import click

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
    from local_platform.platform import Options
    from local_platform.up import stay_up

    stay_up(Options(directory, port, aws_port, workers))


@local.command()
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
    from local_platform.demo.command import play

    play(kill=kill, directory=directory)


@local.command()
@click.option(
    "--as", "who", type=click.Choice(["scientist", "developer"]), default="scientist", show_default=True
)
@DIRECTORY
def token(who: str, directory: Path) -> None:
    """Print an access token of the data scientist, or of the app developer."""
    from local_platform.clients import LocalAws
    from local_platform.home import Home, HomeError
    from local_platform.logins import LoginError, access_token

    prefix = {"scientist": "DS", "developer": "DEVELOPER"}[who]
    try:
        found = Home(directory).published()
        aws = LocalAws(found["AWS_ENDPOINT_URL"], found["AWS_DEFAULT_REGION"])
        login = found[f"{prefix}_USERNAME"], found[f"{prefix}_PASSWORD"]
        click.echo(access_token(aws, found["APP_CLIENT_ID"], *login))
    except (HomeError, LoginError) as error:
        raise click.ClickException(str(error)) from error
