"""The callers of the service: data scientists with their nodes, owners of datasets, and devices."""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from orchestration.domain.cycle import Progress
from orchestration.domain.entities import Caller, Model
from orchestration.domain.errors import Conflict, NodeFailed, QuotaExceeded, Upstream
from orchestration.domain.node import Node, NodeStatus, node_id_of
from orchestration.domain.progress import ProgressService
from orchestration.domain.uploads import Upload
from orchestration.requests.devices import DeviceService
from orchestration.requests.models import ModelService
from orchestration.requests.nodes import NodeAnswer, NodeService
from orchestration.requests.uploads import UploadService
from tests.builders import DEVELOPER, LEGACY_KEY, a_submission
from tests.cloud import Cloud
from tests.fleet.scheduler import Scheduler
from tests.processes import request_node

POLL_INTERVAL = 30.0
"""Seconds between two calls of `/create` by artificienlib, until the node is ready."""
HOUR = 3600.0
TRAINING, PAUSE = 4.0 * HOUR, 13.0 * HOUR
"""Mean seconds of a training, and of the pause until the scientist's next one. 23 % of the nodes are up then.

A node with several models is counted once.
"""
CYCLE = 600.0
MAX_CYCLES = 90
WITHDRAWN = 0.05
"""Share of the models that their owner withdraws during the training."""
ATTEMPTS = 4
"""How many times a scientist whose request fails tries before withdrawing the model."""


@dataclass(slots=True)
class Waits:
    """Results of requests for a node; lists hold the seconds from the first call until the node was ready."""

    ready: int = 0
    """Requests for a node that was ready already."""
    first_launch: list[float] = field(default_factory=list)
    """The first launch succeeded."""
    later_launch: list[float] = field(default_factory=list)
    """A later launch succeeded."""
    errors: int = 0
    quota_errors: int = 0
    upstream_errors: int = 0
    gave_up: int = 0


@dataclass(frozen=True, slots=True)
class Environment:
    """What callers need: the scheduler, the fakes, and the services of a web process."""

    scheduler: Scheduler
    world: Cloud
    nodes: NodeService
    progress: ProgressService
    uploads: UploadService
    devices: DeviceService
    models: ModelService
    datasets: Sequence[str]
    waits: Waits
    ends: float
    """Time of the last call."""

    def now(self) -> float:
        """Return the simulated time, in seconds since the epoch."""
        return self.scheduler.clock()

    def is_open(self) -> bool:
        """Return whether callers still call."""
        return self.now() < self.ends

    def node(self, dataset_id: str) -> Node | None:
        """Return the node's record. The read is not counted."""
        return self.world.nodes.get(node_id_of(dataset_id))

    def serves(self, node: Node | None) -> bool:
        """Return whether the node answers, according to the fake."""
        address = node.address if node is not None else None
        return address is not None and self.world.cloudformation.serves(address, node.node_id)


class Scientist:
    """Has one model after another trained, each on a random dataset."""

    def __init__(self, name: str, environment: Environment, rng: random.Random) -> None:
        self._caller = Caller(name)
        self._environment = environment
        self._rng = rng
        self._submitted = 0

    def run(self) -> None:
        """Train models until the day ends. Many start in the first 15 minutes, the morning's peak."""
        if self._rng.random() < TRAINING / (TRAINING + PAUSE):
            self._environment.scheduler.sleep(self._rng.uniform(0, 900))
        else:
            self._environment.scheduler.sleep(self._rng.expovariate(1 / PAUSE))
        while self._environment.is_open():
            self._train(self._submit())
            self._environment.scheduler.sleep(self._rng.expovariate(1 / PAUSE))

    def _submit(self) -> Model:
        self._submitted += 1
        model = a_submission(
            model_id=f"model-{self._submitted}-{self._caller.username}",
            owner=self._caller.username,
            dataset_id=self._rng.choice(self._environment.datasets),
        )
        self._environment.world.put(model)
        return model

    def _train(self, model: Model) -> None:
        seconds = self._rng.expovariate(1 / TRAINING)
        cycles = min(max(1, round(seconds / CYCLE)), MAX_CYCLES)
        last = self._rng.randrange(cycles) if self._rng.random() < WITHDRAWN else cycles
        if not self._wait_for_node(model):
            self._withdraw(model)
            return
        self._upload(model)
        closed = 0
        while closed < last and self._environment.is_open():
            self._environment.scheduler.sleep(seconds / cycles)
            node = self._environment.node(model.dataset_id)
            if node is not None and self._environment.serves(node):
                closed += 1
                self._environment.progress.record(model.model_id, _progress(closed, cycles), node=node)
            elif (node is None or not node.should_run) and not self._wait_for_node(model):
                break
        if closed < cycles:
            self._withdraw(model)

    def _upload(self, model: Model) -> None:
        """Let the node tell that it hosts the model, unless the node was retired meanwhile."""
        node = self._environment.node(model.dataset_id)
        if node is not None and self._environment.serves(node):
            self._environment.uploads.stored(Upload(model.model_id, model.version), node=node)

    def _withdraw(self, model: Model) -> None:
        self._environment.models.withdraw(model.model_id, caller=self._caller)

    def _wait_for_node(self, model: Model) -> bool:
        """Request the node, and again later after a failure; return whether it became ready."""
        for _ in range(ATTEMPTS):
            if self._poll_until_ready(model):
                return True
            if not self._environment.is_open():
                return False
            self._environment.scheduler.sleep(self._rng.uniform(700, HOUR))
        self._environment.waits.gave_up += 1
        return False

    def _poll_until_ready(self, model: Model) -> bool:
        environment, started = self._environment, self._environment.now()
        first = _first_generation(environment.node(model.dataset_id))
        while environment.is_open():
            try:
                if self._request(model).address:
                    self._record(environment.now() - started, first, environment.node(model.dataset_id))
                    return True
            except NodeFailed:
                environment.waits.errors += 1
                return False
            except QuotaExceeded:
                environment.waits.quota_errors += 1
                return False
            except Upstream:
                environment.waits.upstream_errors += 1
            environment.scheduler.sleep(POLL_INTERVAL)
        return False

    def _request(self, model: Model) -> NodeAnswer:
        names = {"dataset_id": model.dataset_id, "model_id": model.model_id}
        return request_node(self._environment.nodes, caller=self._caller, **names)

    def _record(self, seconds: float, first: int, node: Node | None) -> None:
        waits = self._environment.waits
        if seconds < POLL_INTERVAL / 2:
            waits.ready += 1
        elif node is not None and node.generation > first:
            waits.later_launch.append(seconds)
        else:
            waits.first_launch.append(seconds)


def _first_generation(node: Node | None) -> int:
    """Return the generation that becomes ready first if its launch succeeds."""
    if node is None:
        return 1
    is_up = node.should_run and node.status in (
        NodeStatus.DEPLOYING,
        NodeStatus.READY,
    )
    return node.generation if is_up else node.generation + 1


def _progress(closed: int, cycles: int) -> Progress:
    return Progress(100 * closed // cycles, cycle=closed)


@dataclass(frozen=True, slots=True)
class Owners:
    """Owners of datasets, who retire nodes; every second time with `force`."""

    environment: Environment
    rng: random.Random
    interval: float
    """Mean seconds between two calls."""

    def run(self) -> None:
        """Call until the day ends."""
        while self.environment.is_open():
            self.environment.scheduler.sleep(self.rng.expovariate(1 / self.interval))
            running = [node for node in self.environment.world.nodes.all() if node.should_run]
            if running:
                with suppress(Conflict):
                    chosen = self.rng.choice(running).dataset_id
                    self.environment.nodes.retire(chosen, caller=DEVELOPER, force=self.rng.random() < 0.5)


@dataclass(frozen=True, slots=True)
class Devices:
    """Devices, which call `/info` with the key of their app."""

    environment: Environment
    rng: random.Random
    interval: float
    """Mean seconds between two calls."""

    def run(self) -> None:
        """Call until the day ends."""
        while self.environment.is_open():
            self.environment.scheduler.sleep(self.rng.expovariate(1 / self.interval))
            self.environment.devices.work(self.rng.choice(self.environment.datasets), api_key=LEGACY_KEY)
