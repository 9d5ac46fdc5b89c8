"""Runs the demo step by step, and prints what happens."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import safetensors.numpy
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from local_platform import LocalPlatformError, seeds
from local_platform.demo import results, study
from local_platform.demo.phone import Phone, train_all
from local_platform.demo.results import Check
from local_platform.demo.scientist import Scientist
from local_platform.home import relative, scripts, shell_path
from local_platform.network import NODE_PORT, answers
from local_platform.platform import Options, Platform
from orchestration.domain.errors import OrchestrationError

RETIRE_TIMEOUT = 30.0
"""Seconds within which an unneeded node must be gone, idle time-out included."""
KILLED = ("service", "reconciler")


def run_demo(directory: Path, *, kill: bool) -> None:
    """Start a platform, run the demo on it, and print the checks.

    Raises click.ClickException if a check fails or the demo can't go on.
    """
    console = Console()
    started, files = time.monotonic(), Files(directory)
    console.print("Starting AWS, the orchestration service and an ECS agent on this machine.", style="bold")
    try:
        with Platform(Options(directory, port=0, aws_port=0)) as platform:
            checks = Story(platform, console, files, kill).play()
    except (LocalPlatformError, OrchestrationError) as error:
        raise click.ClickException(f"{error}\nSee the logs in {directory / 'logs'}.") from error
    console.print(_check_table(checks))
    failed = sum(not check.holds for check in checks)
    if failed:
        raise click.ClickException(
            f"{failed} of {len(checks)} checks failed. See the logs in {directory / 'logs'}."
        )
    seconds = time.monotonic() - started
    console.print(f"All {len(checks)} checks hold. The demo took {seconds:.0f} s.", style="bold")
    click.echo(files.how_to_open())
    command = shell_path(scripts() / "artificien")
    click.echo(f"To run the same platform until Ctrl-C, and call it yourself:\n  {command} local up")


def _check_table(checks: list[Check]) -> Table:
    table = Table("holds", "check", "measured")
    for check in checks:
        table.add_row("[green]yes[/green]" if check.holds else "[red]NO[/red]", check.claim, check.figure)
    return table


@dataclass(frozen=True, slots=True)
class Files:
    """What the demo leaves in its directory, beside the logs."""

    directory: Path

    @property
    def plot(self) -> Path:
        return self.directory / "loss.png"

    @property
    def model(self) -> Path:
        return self.directory / "model.safetensors"

    def remove(self) -> None:
        """Remove the files of an earlier run, so that those that are there are of the last one."""
        for path in (self.plot, self.model):
            path.unlink(missing_ok=True)

    def how_to_open(self) -> str:
        """Return where the files are, with a command that prints the model's tensors."""
        model, python = shell_path(self.model), shell_path(scripts() / "python")
        code = "import sys, safetensors.numpy; print(safetensors.numpy.load_file(sys.argv[1]))"
        return (
            f"Plot of the loss: {relative(self.plot)}\n"
            f"Trained model: {relative(self.model)}. To open it:\n  {python} -c '{code}' {model}"
        )


@dataclass(frozen=True, slots=True)
class Story:
    """The steps of the demo on a running platform. `kill` kills service and reconciler during training."""

    platform: Platform
    console: Console
    files: Files
    kill: bool = False

    def play(self) -> list[Check]:
        """Run all steps and return the checks. Raises LocalPlatformError."""
        self.files.remove()
        records = study.load()
        scientist = self._scientist()
        self._say(f"AWS answers at {self.platform.aws.url}, the service at {self.platform.url}.")
        model_id, node = self._submit(scientist)
        training = self._train(records)
        tensors, history = self._download(scientist, model_id)
        checks = [
            training,
            *results.check_model(records, tensors),
            *results.check_losses(records, history, killed=self.kill),
            self._retire(node),
        ]
        losses = [float(cycle["loss"]) for cycle in history if cycle["devices"]]
        results.plot_losses(self.files.plot, losses, study.least_squares_error(records))
        return checks

    def _scientist(self) -> Scientist:
        user = self.platform.scientist
        return Scientist(
            username=user.username,
            token=lambda: self.platform.token(user),
            service=self.platform.url,
            aws=self.platform.aws,
            dataset_id=seeds.DATASET_ID,
        )

    def _submit(self, scientist: Scientist) -> tuple[str, str]:
        """Have a node launched and upload the model; return the model's id and the node's address."""
        self._heading("1. A data scientist submits a model.")
        model_id = scientist.register("progression")
        self._say(
            f"{scientist.username} wants a linear regression, {model_id}, trained on the dataset "
            f'"{seeds.DATASET_ID}", and calls POST /create until its node is ready.'
        )
        node = scientist.request_node(
            model_id, seeds.FEATURES, seeds.LABELS, lambda reason: self._say(f"POST /create: {reason}")
        )
        self._say(f"POST /create: ready. The node runs at {node}:{NODE_PORT}.")
        scientist.upload(node, model_id, [np.zeros((1, 10), np.float32), np.zeros(1, np.float32)])
        self._say("The model and its training plan are uploaded to the node.")
        return model_id, node

    def _train(self, records: study.Records) -> Check:
        self._heading("2. Phones train the model.")
        key = self.platform.environment["API_KEY"]
        shards = study.shards(records)
        phones = [Phone(shard, self.platform.url, key, seeds.DATASET_ID) for shard in shards]
        self._say(
            f"Each of {len(phones)} phones has the records of {len(shards[0])} patients. The records stay on "
            f"the phone, which reports its loss and its change of the model's parameters, once in each of "
            f"{study.CYCLES} cycles."
        )
        self._say(f"The first phone calls POST /info, which marks the dataset as set up: {phones[0].info()}")
        columns = (TextColumn("  reports"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as progress:
            bar = progress.add_task("reports", total=results.REPORTS)
            midway = _AtCount(results.REPORTS // 3, self._kill if self.kill else lambda: None)

            def on_report() -> None:
                progress.advance(bar)
                midway.count()

            times = train_all(phones, on_report)
        return results.check_training(times)

    def _kill(self) -> None:
        for name in KILLED:
            if pid := self.platform.processes.running()[name]:
                os.kill(pid, signal.SIGKILL)
                self._say(f"Killed the {name}, process {pid}.")

    def _download(
        self, scientist: Scientist, model_id: str
    ) -> tuple[dict[str, np.ndarray], list[dict[str, str]]]:
        """Return the trained model's tensors and the history of its cycles."""
        self._heading("3. The data scientist downloads the trained model.")
        link, model = scientist.download(model_id)
        self.files.model.write_bytes(model)
        self._say(
            "The service has copied the model from the node to the bucket, and offers a download link, which "
            "works until the demo ends:"
        )
        self.console.print(f"  {link}", soft_wrap=True, highlight=False)
        return safetensors.numpy.load(model), scientist.item(model_id)["history"]

    def _retire(self, node: str) -> Check:
        """Wait until the node's process and stack and its address in the dataset are gone."""
        self._heading("4. The service retires the node.")
        self._say("The node has no model left to train, so the service deletes its stack.")
        started = time.monotonic()
        while (left := self._remains(node)) and time.monotonic() - started < RETIRE_TIMEOUT:
            time.sleep(0.2)
        seconds = f"{time.monotonic() - started:.1f} s"
        if not left:
            self._say(f"Stack and process are gone after {seconds}.")
        return Check(
            "The node is gone", not left, f"after {seconds}" if not left else f"left: {', '.join(left)}"
        )

    def _remains(self, node: str) -> Sequence[str]:
        stacks = self.platform.aws.client("cloudformation").list_stacks()["StackSummaries"]
        dataset = self.platform.aws.resource("dynamodb").Table("dataset_table")
        item = dataset.get_item(Key={"dataset_id": seeds.DATASET_ID}, ConsistentRead=True)["Item"]
        left = [
            stack["StackName"]
            for stack in stacks
            if stack["StackName"].startswith("artificien-node-") and stack["StackStatus"] != "DELETE_COMPLETE"
        ]
        left += ["its process"] if answers(f"http://{node}:{NODE_PORT}/data-centric/status/") else []
        return left + (["its address in the dataset"] if item["hasNode"] or item.get("nodeURL") else [])

    def _heading(self, text: str) -> None:
        self.console.print(f"\n{text}", style="bold", highlight=False)

    def _say(self, text: str) -> None:
        self.console.print(Padding(Text(text), (0, 0, 0, 2)))


class _AtCount:
    """Runs an action once, when `count` has been called so many times. Thread-safe."""

    def __init__(self, calls: int, action: Callable[[], None]) -> None:
        self._left = calls
        self._action = action
        self._lock = threading.Lock()

    def count(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._action()
