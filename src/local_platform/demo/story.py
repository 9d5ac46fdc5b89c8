"""The demo's story, told step by step."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from local_platform import seeds
from local_platform.demo import checks, study
from local_platform.demo.checks import Check
from local_platform.demo.phone import NODE_PORT, Phone, train_to_the_end
from local_platform.demo.picture import draw
from local_platform.demo.scientist import Scientist
from local_platform.network import answers
from local_platform.platform import Platform

DEPARTURE = 30.0
"""Seconds a node may take to go, grace included."""
KILLED = ("service", "reconciler")


@dataclass(frozen=True, slots=True)
class Story:
    """Plays on a platform that is up; with `kill`, service and reconciler die in the middle of it."""

    platform: Platform
    console: Console
    picture: Path
    kill: bool = False

    def play(self) -> list[Check]:
        """Tell it from beginning to end and return what was checked. Raises GaveUpError."""
        records = study.load()
        scientist = self._scientist()
        model_id = scientist.register("progression")
        self._say(
            f"{scientist.username}, a data scientist, wants {model_id} trained on {seeds.DATASET_ID!r}."
        )
        node = scientist.node_for(model_id, seeds.FEATURES, seeds.LABELS, self._say)
        self._say(f"The node is ready at {node}:{NODE_PORT}. The model is sent, over one WebSocket frame.")
        scientist.send(node, model_id, [np.zeros((1, 10), np.float32), np.zeros(1, np.float32)])
        seen = [self._train(records)]
        link, tensors = scientist.trained(model_id)
        self._say(f"The trained model is in the bucket, and this link leads to it:\n  {link}")
        history = scientist.item(model_id)["history"]
        seen += checks.of_model(records, tensors)
        seen += checks.of_losses(records, history, killed=self.kill)
        seen.append(self._departure(node))
        losses = [float(cycle["loss"]) for cycle in history if cycle["devices"]]
        draw(self.picture, losses, study.least_squares_error(records))
        self._say(f"A picture of the loss falling: {self.picture}")
        return seen

    def _scientist(self) -> Scientist:
        person = self.platform.scientist
        return Scientist(
            username=person.username,
            token=lambda: self.platform.token(person),
            service=self.platform.url,
            aws=self.platform.aws,
            dataset_id=seeds.DATASET_ID,
        )

    def _train(self, records: study.Records) -> Check:
        key = self.platform.environment["API_KEY"]
        shards = study.shards(records)
        phones = [Phone(shard, self.platform.url, key, seeds.DATASET_ID) for shard in shards]
        self._say(f"{len(phones)} phones with {len(shards[0])} patients each ask what there is to train.")
        self._say(f"The very first one is told: {phones[0].info()}")
        columns = (TextColumn("  training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as progress, ThreadPoolExecutor(len(phones)) as pool:
            bar = progress.add_task("training", total=checks.REPORTS)
            midway = _Midway(checks.REPORTS // 3, self._kill if self.kill else lambda: None)

            def trained() -> None:
                progress.advance(bar)
                midway.count()

            times = list(pool.map(lambda phone: train_to_the_end(phone, trained), phones))
        return checks.of_training(times)

    def _kill(self) -> None:
        for name in KILLED:
            if pid := self.platform.processes.running()[name]:
                os.kill(pid, signal.SIGKILL)
                self._say(f"The {name}, process {pid}, is killed.")

    def _departure(self, node: str) -> Check:
        """Wait until nothing of the node is left: no process, no stack, no word of it in the marketplace."""
        began = time.monotonic()
        while (left := self._remains(node)) and time.monotonic() - began < DEPARTURE:
            time.sleep(0.2)
        figure = f"{time.monotonic() - began:.1f} s later" if not left else f"left: {', '.join(left)}"
        return Check("the node is gone", not left, figure)

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

    def _say(self, sentence: str) -> None:
        self.console.print(f"[bold]*[/bold] {sentence}", soft_wrap=True, highlight=False)


class _Midway:
    """Does something once, when so many have been counted; from many threads."""

    def __init__(self, target: int, action: Callable[[], None]) -> None:
        self._left = target
        self._action = action
        self._lock = threading.Lock()

    def count(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._action()
