"""One simulated day: callers call all day; afterwards all nodes have to go."""

import logging
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from orchestration.control.reconciler import Intervals, Reconciler
from orchestration.domain.decision import Budget, Rules, is_at_rest
from orchestration.domain.entities import Model
from orchestration.domain.node import Quota
from orchestration.domain.ports import NodeCredential, State
from tests.builders import NOON, a_dataset, a_developer, a_user
from tests.cloud import PREFIX, Cloud
from tests.fakes import FakeClock, FakeCloudFormation, FakeNodeServer, Fate, Wire
from tests.fakes.world import tapped
from tests.fleet.callers import HOUR, Devices, Environment, Owners, Scientist, Waits
from tests.fleet.faults import Faults
from tests.fleet.figures import Figures
from tests.fleet.leftovers import is_undeletable, leftovers, reported_leaks
from tests.fleet.network import CLOUDFORMATION, ECS, TABLES, Meter, Network
from tests.fleet.scheduler import Scheduler
from tests.processes import (
    Terms,
    a_device_service,
    a_model_service,
    a_node_service,
    a_progress_service,
    a_reconciler,
    an_upload_service,
)

PRODUCTION = Terms(
    rules=Rules(deadline=1200.0, budget=Budget(attempts=3, cool_down=600.0)),
    quota=Quota(per_buyer=10, in_all=500),
    intervals=Intervals(passes=10.0, steady=60.0, attention=1.0),
    idle_timeout=900.0,
)
"""The default settings of the service."""

LAG = 5.0
"""Seconds by which DescribeStacks may lag behind."""
PROBE, PROBE_TIMEOUT = 0.03, 2.0
"""Seconds that a probe takes if the node answers, and if it doesn't."""
MAX_WIND_DOWN = 12 * HOUR
"""Time within which everything must be deleted; the deletion of a stack is retried once an hour at least."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`failing` is the share of stacks with a fault, `undeletable` the share of these that stay undeleted."""

    datasets: int = 1000
    hours: float = 24.0
    failing: float = 0.1
    undeletable: float = 0.0
    reconcilers: int = 3
    seed: int = 0


@dataclass
class _Cloud(Cloud):
    faults: Any = None
    page: int = 1000

    def through(self, wire: Wire) -> "_Cloud":
        """As `Cloud.through`; calls to tables are recorded by the method that makes them."""
        seen: Any = super().through(wire)
        for port in TABLES:
            setattr(seen, port, tapped(getattr(self, port), port, wire))
        return seen

    def _next_fate(self, name: str) -> Fate:
        return self.faults() if name.startswith(f"{PREFIX}-") else Fate()


class _Server(FakeNodeServer):
    """Nodes whose answers, and whose silence, take time."""

    def __init__(self, cloudformation: FakeCloudFormation, scheduler: Scheduler) -> None:
        super().__init__(cloudformation)
        self._scheduler = scheduler

    def answers(self, address: str, node_id: str) -> bool:
        answers = super().answers(address, node_id)
        self._scheduler.sleep(PROBE if answers else PROBE_TIMEOUT)
        return answers

    def trained_model(self, address: str, model: Model, credential: NodeCredential) -> State:
        self._scheduler.sleep(PROBE)
        return super().trained_model(address, model, credential)


class Day:
    """A day; `run` it once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.clock = FakeClock()
        self.scheduler = Scheduler(self.clock)
        self.meter = Meter(self.clock, until=NOON + plan.hours * HOUR)
        self.faults = Faults(plan.failing, random.Random(plan.seed + 1), plan.undeletable)
        self.world = self._world()
        self.environment = self._environment()
        self.passes = self.one_by_one = 0
        self.node_seconds = 0.0

    def run(self) -> Figures:
        """Run the day, wait until all nodes are gone, and return the figures."""
        with _logs_counted() as events, _jitter_seeded(self.plan.seed):
            try:
                self._spawn_all()
                self.scheduler.run(self.plan.hours * HOUR)
                self._wind_down()
            finally:
                self.scheduler.close()
        return self._figures(events)

    def _world(self) -> _Cloud:
        world = _Cloud(
            clock=self.clock,
            faults=self.faults,
            seed=self.plan.seed,
            validate=False,
            sleep=self.scheduler.sleep,
        )
        world.cloudformation.lag = LAG
        rng = random.Random(self.plan.seed + 2)
        for client, rates in ((world.cloudformation, CLOUDFORMATION), (world.ecs, ECS)):
            client.throttle = Network(client.service, rates, self.scheduler, self.meter, rng)
        world.server = _Server(world.cloudformation, self.scheduler)
        return world

    def _environment(self) -> Environment:
        datasets = [f"dataset {number}" for number in range(self.plan.datasets)]
        self.world.put(a_developer())
        for number, dataset_id in enumerate(datasets):
            self.world.put(a_dataset(dataset_id=dataset_id))
            name = f"scientist-{number}"
            self.world.put(a_user(user_id=name, username=name, purchased=frozenset(datasets)))
        seen: Any = self.world.through(self.meter)
        return Environment(
            scheduler=self.scheduler,
            world=self.world,
            nodes=a_node_service(seen, PRODUCTION),
            progress=a_progress_service(seen),
            uploads=an_upload_service(seen),
            devices=a_device_service(seen),
            models=a_model_service(seen),
            datasets=datasets,
            waits=Waits(),
            ends=NOON + self.plan.hours * HOUR,
        )

    def _spawn_all(self) -> None:
        for number in range(self.plan.datasets):
            rng = random.Random(f"{self.plan.seed}/{number}")
            self.scheduler.spawn(Scientist(f"scientist-{number}", self.environment, rng).run)
        for _ in range(self.plan.reconcilers):
            world: Any = self.world.through(self.meter)
            reconciler = a_reconciler(world, PRODUCTION)
            start = self.rng.uniform(0, PRODUCTION.intervals.passes)
            self.scheduler.spawn(partial(self._run_passes, reconciler), after=start)
            self.scheduler.spawn(partial(self._run_attention, reconciler), after=start)
        scale = 1000 / self.plan.datasets
        self.scheduler.spawn(Owners(self.environment, random.Random(self.plan.seed + 3), 1800 * scale).run)
        self.scheduler.spawn(Devices(self.environment, random.Random(self.plan.seed + 4), 1.0 * scale).run)
        self.scheduler.spawn(self._watch)

    def _run_passes(self, reconciler: Reconciler) -> None:
        """What a thread of `Reconciler.run` does, on the scheduler's time."""
        while True:
            self.scheduler.sleep(PRODUCTION.intervals.passes * random.uniform(0.75, 1.25))
            if self.environment.is_open():
                self.passes += 1
                self.one_by_one += self._running()
            reconciler.run_pass()

    def _run_attention(self, reconciler: Reconciler) -> None:
        while True:
            self.scheduler.sleep(PRODUCTION.intervals.attention)
            reconciler.attend()

    def _watch(self) -> None:
        while self.environment.is_open():
            self.node_seconds += 60.0 * self._running()
            self.scheduler.sleep(60.0)

    def _running(self) -> int:
        return sum("charged_to" in item for item in self.world.dynamodb.tables["node_table"].items.values())

    def _wind_down(self) -> None:
        """Wait until all stacks are deleted. Callers withdraw their trainings and call no more."""
        for _ in range(int(MAX_WIND_DOWN // 600)):
            self.scheduler.run(600.0)
            standing = self.world.census.standing(prefix=f"{PREFIX}-")
            if all(map(is_undeletable, standing)) and all(
                is_at_rest(node, PRODUCTION.rules.budget) for node in self.world.nodes.all()
            ):
                return

    def _figures(self, events: Counter[str]) -> Figures:
        meter = self.meter
        return Figures(
            hours=self.plan.hours,
            datasets=self.plan.datasets,
            node_hours=self.node_seconds / HOUR,
            launches=len(self.world.cloudformation.account.services),
            faults=self.faults.drawn,
            models_retrieved=len(self.world.bucket.files),
            reported_leaks=len(reported_leaks(self.world)),
            undeletable=sum(map(is_undeletable, self.world.census.standing(prefix=f"{PREFIX}-"))),
            passes=self.passes,
            one_by_one=self.one_by_one,
            waits=self.environment.waits,
            left=leftovers(self.world, crashes=events.pop(CRASH, 0)),
            aws=meter.aws,
            throttled=meter.throttled,
            ports=meter.ports,
            peaks={service: meter.peak(service) for service in meter.seconds},
            events=events,
        )


@contextmanager
def _jitter_seeded(seed: int) -> Iterator[None]:
    """Seed the global generator, from which the reconcilers draw their jitter."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


CRASH = "unexpected exception"


@contextmanager
def _logs_counted() -> Iterator[Counter[str]]:
    """Count the service's log entries of level warning and above, and write none."""
    events: Counter[str] = Counter()

    def count(_logger: Any, _method: str, entry: dict[str, Any]) -> dict[str, Any]:
        events[CRASH if entry.get("exc_info") else str(entry["event"])] += 1
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[count],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        cache_logger_on_first_use=False,
    )
    try:
        yield events
    finally:
        structlog.configure(**before)
