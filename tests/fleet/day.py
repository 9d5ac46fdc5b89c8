"""One day of a fleet, from the rush of its morning until nothing is left of it."""

import logging
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from orchestration.control.reconciler import Rhythm
from orchestration.domain.decision import Budget, Rules, is_at_rest
from orchestration.domain.entities import Model
from orchestration.domain.node import Quota
from orchestration.domain.ports import NodeCredential
from tests.builders import NOON, a_dataset, a_developer, a_user
from tests.cloud import PREFIX, Cloud
from tests.fakes import FakeClock, FakeCloudFormation, FakeNodeServer, Fate, Wire
from tests.fakes.world import tapped
from tests.fleet.figures import Figures
from tests.fleet.network import CLOUDFORMATION, ECS, TABLES, Meter, Network
from tests.fleet.people import HOUR, Devices, Owners, Place, Scientist, Waits
from tests.fleet.reckoning import leftovers, resisting, retained_told
from tests.fleet.stage import Stage
from tests.fleet.weather import Weather
from tests.processes import Terms, a_catalogue, a_node_service, a_reconciler, a_training_service

PRODUCTION = Terms(
    rules=Rules(deadline=1200.0, budget=Budget(attempts=3, cool_down=600.0)),
    quota=Quota(per_buyer=10, in_all=500),
    rhythm=Rhythm(interval=10.0, ready=60.0),
    grace=900.0,
)
"""What the service is set to by default."""

LAG = 5.0
"""Seconds by which DescribeStacks may be behind."""
PROBE, SILENCE = 0.03, 2.0
"""Seconds that the question costs whether a node answers: if it does, and if it doesn't."""
LONGEST_EVENING = 12 * HOUR
"""Within which all has to be gone: the most stubborn stack is asked to go once an hour."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`failing` is the share of launches that come to harm, `hopeless` the share of those that never end."""

    datasets: int = 1000
    hours: float = 24.0
    failing: float = 0.1
    hopeless: float = 0.0
    reconcilers: int = 3
    seed: int = 0


@dataclass
class _Cloud(Cloud):
    weather: Any = None
    page: int = 1000

    def through(self, wire: Wire) -> "_Cloud":
        """As `Cloud.through`; calls to tables are noted by the method that makes them."""
        seen: Any = super().through(wire)
        for port in TABLES:
            setattr(seen, port, tapped(getattr(self, port), port, wire))
        return seen

    def _next_fate(self, name: str) -> Fate:
        return self.weather() if name.startswith(f"{PREFIX}-") else Fate()


class _Server(FakeNodeServer):
    """Nodes that take their time to answer, and more not to."""

    def __init__(self, cloudformation: FakeCloudFormation, stage: Stage) -> None:
        super().__init__(cloudformation)
        self._stage = stage

    def answers(self, address: str, node_id: str) -> bool:
        answers = super().answers(address, node_id)
        self._stage.sleep(PROBE if answers else SILENCE)
        return answers

    def trained_model(self, address: str, model: Model, credential: NodeCredential) -> bytes:
        self._stage.sleep(PROBE)
        return super().trained_model(address, model, credential)


class Day:
    """Everybody's day; `play` it once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.clock = FakeClock()
        self.stage = Stage(self.clock)
        self.meter = Meter(self.clock, until=NOON + plan.hours * HOUR)
        self.weather = Weather(plan.failing, random.Random(plan.seed + 1), plan.hopeless)
        self.world = self._world()
        self.place = self._place()
        self.passes = self.one_by_one = 0
        self.node_seconds = 0.0

    def play(self) -> Figures:
        """Raise the curtain, wait until all is over, and count."""
        with _logs_counted() as events, _jitter_seeded(self.plan.seed):
            try:
                self._enter_all()
                self.stage.run(self.plan.hours * HOUR)
                self._wait_for_rest()
            finally:
                self.stage.close()
        return self._figures(events)

    def _world(self) -> _Cloud:
        world = _Cloud(
            clock=self.clock,
            weather=self.weather,
            seed=self.plan.seed,
            validate=False,
            sleep=self.stage.sleep,
        )
        world.cloudformation.lag = LAG
        rng = random.Random(self.plan.seed + 2)
        for client, rates in ((world.cloudformation, CLOUDFORMATION), (world.ecs, ECS)):
            client.throttle = Network(client.service, rates, self.stage, self.meter, rng)
        world.server = _Server(world.cloudformation, self.stage)
        return world

    def _place(self) -> Place:
        datasets = [f"dataset {number}" for number in range(self.plan.datasets)]
        self.world.put(a_developer())
        for number, dataset_id in enumerate(datasets):
            self.world.put(a_dataset(dataset_id=dataset_id))
            name = f"scientist-{number}"
            self.world.put(a_user(user_id=name, username=name, purchased=frozenset(datasets)))
        seen: Any = self.world.through(self.meter)
        return Place(
            stage=self.stage,
            world=self.world,
            nodes=a_node_service(seen, PRODUCTION),
            training=a_training_service(seen),
            catalogue=a_catalogue(seen),
            datasets=datasets,
            waits=Waits(),
            ends=NOON + self.plan.hours * HOUR,
        )

    def _enter_all(self) -> None:
        for number in range(self.plan.datasets):
            rng = random.Random(f"{self.plan.seed}/{number}")
            self.stage.enter(Scientist(f"scientist-{number}", self.place, rng).live)
        for _ in range(self.plan.reconcilers):
            self.stage.enter(self._reconcile, after=self.rng.uniform(0, PRODUCTION.rhythm.interval))
        a_thousandth = 1000 / self.plan.datasets
        self.stage.enter(Owners(self.place, random.Random(self.plan.seed + 3), 1800 * a_thousandth).live)
        self.stage.enter(Devices(self.place, random.Random(self.plan.seed + 4), 1.0 * a_thousandth).live)
        self.stage.enter(self._watch)

    def _reconcile(self) -> None:
        world: Any = self.world.through(self.meter)
        a_reconciler(world, PRODUCTION).run(self._wait)

    def _wait(self, seconds: float) -> bool:
        self.stage.sleep(seconds)
        if self.place.is_open():
            self.passes += 1
            self.one_by_one += self._awake()
        return False

    def _watch(self) -> None:
        while self.place.is_open():
            self.node_seconds += 60.0 * self._awake()
            self.stage.sleep(60.0)

    def _awake(self) -> int:
        return sum("charged_to" in item for item in self.world.dynamodb.tables["node_table"].items.values())

    def _wait_for_rest(self) -> None:
        """All go home. What their nodes were doing is withdrawn; the last stack is to go by itself."""
        for _ in range(int(LONGEST_EVENING // 600)):
            self.stage.run(600.0)
            standing = self.world.census.standing(prefix=f"{PREFIX}-")
            if all(map(resisting, standing)) and all(
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
            troubled=self.weather.troubled,
            models_home=len(self.world.bucket.files),
            retained_told=len(retained_told(self.world)),
            resisting=sum(map(resisting, self.world.census.standing(prefix=f"{PREFIX}-"))),
            passes=self.passes,
            one_by_one=self.one_by_one,
            waits=self.place.waits,
            left=leftovers(self.world, crashes=events.pop(CRASH, 0)),
            aws=meter.aws,
            throttled=meter.throttled,
            ports=meter.ports,
            peaks={service: meter.peak(service) for service in meter.seconds},
            events=events,
        )


@contextmanager
def _jitter_seeded(seed: int) -> Iterator[None]:
    """The reconcilers draw from the one generator that all of a process share."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


CRASH = "error nobody had foreseen"


@contextmanager
def _logs_counted() -> Iterator[Counter[str]]:
    """Count what the service logs from warnings on, instead of writing it."""
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
