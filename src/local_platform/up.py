"""Runs the platform for `artificien local up`, and prints how to call it."""

import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.table import Table

from local_platform import LocalPlatformError
from local_platform.home import relative, scripts, shell_path
from local_platform.network import NODE_PORT
from local_platform.platform import Options, Platform
from orchestration.domain.errors import OrchestrationError

AS_SCIENTIST = '-H "Authorization: Bearer $TOKEN"'
AS_DEVICE = '-H "api_key: $API_KEY"'


def run_until_stopped(options: Options) -> None:
    """Start the platform, print how to call it, and run it until KeyboardInterrupt.

    Raises click.ClickException.
    """
    try:
        with Platform(options) as platform:
            show(platform, Console())
            watch(platform)
    except (LocalPlatformError, OrchestrationError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Stopped.")


def watch(platform: Platform, interval: float = 0.5) -> NoReturn:
    """Wait until a program that can't be restarted ends. Raises LocalPlatformError then."""
    while not (lost := platform.processes.lost()):
        time.sleep(interval)
    raise LocalPlatformError(
        f"{', '.join(lost)} ended, and with it all state that it held. See the logs in {platform.home.logs}."
    )


def show(platform: Platform, console: Console) -> None:
    """Print the processes, and commands that can be pasted into another shell.

    rich doesn't print the commands, because its line breaks would break them.
    """
    console.print(_process_table(platform))
    click.echo(f"Logs: {relative(platform.home.logs)}/")
    console.print("\nTo call the service, paste these lines into another shell:\n", style="bold")
    token_command = f"artificien local token{_directory_option(platform)}"
    click.echo(f"cd {shlex.quote(str(Path.cwd()))}")
    click.echo(f"source {shell_path(platform.home.exports)}")
    # The shell of a user of `make up` has no virtual environment activated, so the command isn't on its path.
    click.echo(f'export PATH={shlex.quote(str(scripts()))}:"$PATH"')
    click.echo(f"TOKEN=$({token_command})\n")
    for curl in curls(token_command):
        console.print(f"{curl.route}  [dim]{curl.caller}[/dim]")
        click.echo(f"{curl.command}\n")
    console.print("Press Ctrl-C to stop the platform.", style="bold")


def _process_table(platform: Platform) -> Table:
    purpose = {
        "aws": f"AWS, simulated by moto, at {platform.aws.url}",
        "service": f"orchestration service at {platform.url}",
        "reconciler": "launches and retires nodes",
        "agent": f"ECS agent: runs each node as a process, on port {NODE_PORT} of its own loopback address",
    }
    table = Table("process", "pid", "what it does")
    for name, pid in platform.processes.running().items():
        table.add_row(name, str(pid), purpose[name])
    return table


def _directory_option(platform: Platform) -> str:
    if platform.home.path == Options().directory.absolute():
        return ""
    return f" --directory {shell_path(platform.home.path)}"


@dataclass(frozen=True, slots=True)
class Curl:
    """A `curl` command for one route, and who may call that route."""

    route: str
    caller: str
    command: str


def curls(token_command: str) -> tuple[Curl, ...]:
    """Return a command for each route, in the order in which a user would try them.

    `token_command` prints an access token.
    """
    as_developer = f'-H "Authorization: Bearer $({token_command} --as developer)"'
    create = _json(
        dataset_id="$DATASET_ID", model_id="$MODEL_ID", features=["age", "bmi"], labels=["progression"]
    )
    return (
        Curl("GET /", "anyone", "curl $ORCHESTRATION_URL/"),
        _post("/get_datasets", "data scientist", AS_SCIENTIST, _json(user_id="$DS_USERNAME")),
        _post("/info", "device", AS_DEVICE, _json(dataset_id="$DATASET_ID")),
        _post("/create", "data scientist; repeat until the node is ready", AS_SCIENTIST, create),
        _post("/model_loss", "device", "", _json(model_id="$MODEL_ID", loss=0.5, acc=-1)),
        _post(
            "/model_progress",
            "node; answers 401, as only a node knows the password",
            "-u some-node:password",
            _json(model_id="$MODEL_ID", percent_complete=10),
        ),
        _post(
            "/model_upload",
            "node, before it stores an upload; answers 401, too",
            "-u some-node:password",
            _json(model_id="$MODEL_ID", version="1.0"),
        ),
        _post(
            "/rotate_link",
            "data scientist; answers 409 until the model is trained",
            AS_SCIENTIST,
            _json(model_id="$MODEL_ID"),
        ),
        Curl(
            "GET /download/<model_id>",
            "anyone with the link; answers 404 for a wrong key",
            'curl "$ORCHESTRATION_URL/download/$MODEL_ID?key=wrong"',
        ),
        _post(
            "/delete",
            "data scientist; withdraws the model",
            AS_SCIENTIST,
            _json(model_id="$MODEL_ID"),
        ),
        _post(
            "/delete",
            "app developer; stops the node, or answers 409 while it is needed",
            as_developer,
            _json(dataset_id="$DATASET_ID"),
        ),
        _post("/generate_key", "app developer", as_developer, _json(user_id="$DEVELOPER_USERNAME")),
    )


def _post(route: str, caller: str, credential: str, body: str) -> Curl:
    parts = ("curl", f"$ORCHESTRATION_URL{route}", credential, "-H 'Content-Type: application/json'", body)
    return Curl(f"POST {route}", caller, " ".join(filter(None, parts)))


def _json(**fields: str | float | list[str]) -> str:
    r"""Return the option for a JSON body, as a double-quoted shell word in which variables are expanded."""
    text = json.dumps(fields).replace('"', '\\"')
    return f'-d "{text}"'
