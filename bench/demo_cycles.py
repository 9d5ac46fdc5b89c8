"""Repeats the training of `make demo`, and compares each cycle's reports and loss with gradient descent.

    python bench/demo_cycles.py [--runs 10] [--busy] [--impatient] [--directory DIRECTORY]

Each run trains a new model on the same local platform with the demo's phones. A line has the number of loss
reports that the service counted in each cycle, how many of all were counted in another cycle than the one
they were trained in, how many in none, and the largest difference between the mean loss of a cycle and the
error of gradient descent on all records before that step.

`--busy` keeps every core of the machine busy meanwhile. With `--impatient` a phone sends its diff without
waiting for the answer to its loss, as the iOS pod does. The exit status is 1 if a cycle has not exactly one
report of each phone, or if a loss is more than 1e-5 off.
"""

import argparse
import itertools
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from local_platform import seeds
from local_platform.demo import study
from local_platform.demo.phone import Phone, train_until_done
from local_platform.demo.results import LOSS_TOLERANCE, expected_losses
from local_platform.demo.scientist import Scientist
from local_platform.network import direct_session
from local_platform.platform import Options, Platform


class ImpatientPhone(Phone):
    """Reports its loss on another thread, and does not wait for the answer."""

    losses = ThreadPoolExecutor(study.PHONES)

    def _report_loss(self, model_id: str, loss: float) -> None:
        # A session is for one thread.
        sender = Phone(self.records, self.service, self.api_key, self.dataset_id, direct_session())
        self.losses.submit(sender._report_loss, model_id, loss)


@dataclass(frozen=True)
class Run:
    """What the service has recorded of one training."""

    devices: Sequence[int]
    """Reports counted in each cycle."""
    deviation: float
    """Largest difference of a cycle's mean loss from gradient descent."""

    @classmethod
    def of(cls, history: Sequence[Mapping[str, str]], expected: Sequence[float]) -> "Run":
        """Compare a model's history with the expected losses."""
        losses = [float(cycle["loss"]) for cycle in history]
        deviation = max(abs(loss - right) for loss, right in zip(losses, expected, strict=True))
        return cls([int(cycle["devices"]) for cycle in history], deviation)

    @property
    def misplaced(self) -> int:
        """Reports that crossed the end of a cycle; those that came after the last one are not counted."""
        ends = list(itertools.accumulate(self.devices))[:-1]
        return sum(abs(end - study.PHONES * cycle) for cycle, end in enumerate(ends, start=1))

    @property
    def missing(self) -> int:
        """Reports that were counted in no cycle."""
        return study.PHONES * study.CYCLES - sum(self.devices)

    @property
    def is_exact(self) -> bool:
        """Whether each cycle has its own reports and the right loss."""
        return set(self.devices) == {study.PHONES} and self.deviation <= LOSS_TOLERANCE


def main() -> int:
    """Run the trainings and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--busy", action="store_true", help="keep every core busy")
    parser.add_argument("--impatient", action="store_true", help="phones don't wait for the loss's answer")
    parser.add_argument("--directory", type=Path, help="directory of the logs; by default a temporary one")
    options = parser.parse_args()
    records = study.load()
    expected = expected_losses(records)
    kind = ImpatientPhone if options.impatient else Phone
    runs = []
    with (
        tempfile.TemporaryDirectory() as temporary,
        Platform(Options(options.directory or Path(temporary), port=0, aws_port=0)) as platform,
        busy_cores(os.cpu_count() or 1 if options.busy else 0),
    ):
        for number in range(1, options.runs + 1):
            runs.append(run := Run.of(train(platform, records, kind, f"run{number}"), expected))
            print(
                f"run {number}: reports {' '.join(map(str, run.devices))}; {run.misplaced} in another cycle,"
                f" {run.missing} in none; loss at most {run.deviation:.1e} off",
                flush=True,
            )
    exact = sum(run.is_exact for run in runs)
    print(f"{exact} of {len(runs)} runs are exact; at most {max(run.deviation for run in runs):.1e} off")
    return 0 if exact == len(runs) else 1


@contextmanager
def busy_cores(number: int) -> Iterator[None]:
    """Keep so many cores busy."""
    loops = [multiprocessing.Process(target=spin, daemon=True) for _ in range(number)]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.join()


def spin() -> None:
    """Calculate forever."""
    while True:
        pass


def train(
    platform: Platform, records: study.Records, kind: type[Phone], name: str
) -> Sequence[Mapping[str, str]]:
    """Train a new model on the demo's phones; return the history of its cycles."""
    user = platform.scientist
    scientist = Scientist(
        user.username, lambda: platform.token(user), platform.url, platform.aws, seeds.DATASET_ID
    )
    model_id = scientist.register(name)
    node = scientist.request_node(model_id, seeds.FEATURES, seeds.LABELS, lambda _reason: None)
    scientist.upload(node, model_id, [np.zeros((1, 10), np.float32), np.zeros(1, np.float32)])
    key = platform.environment["API_KEY"]
    phones = [kind(shard, platform.url, key, seeds.DATASET_ID) for shard in study.shards(records)]
    phones[0].info()  # the first call ever marks the dataset as set up, and lists no model
    with ThreadPoolExecutor(len(phones)) as pool:
        list(pool.map(lambda phone: train_until_done(phone, lambda: None, Event()), phones))
    return scientist.item(model_id)["history"]


if __name__ == "__main__":
    sys.exit(main())
