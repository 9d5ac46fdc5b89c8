"""The network between the service and AWS: latency, throttling, and counters of all calls."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from math import inf

from tests.fakes import TokenBucket, Wire
from tests.fleet.scheduler import Scheduler

ATTEMPTS = 5
"""Attempts of one call, as the client of `cfn_helper` is configured."""
MAX_DELAY = 20.0
LATENCY = (0.05, 0.25)
"""Shortest and longest duration of a call to AWS, in seconds."""
WINDOW = 10
"""Seconds over which the peak rate is measured."""

CLOUDFORMATION = {
    "describe_stacks": (5.0, 10.0),
    "describe_stack_events": (5.0, 10.0),
    "create_stack": (1.0, 5.0),
    "delete_stack": (1.0, 5.0),
}
"""Calls per second, and the size of a burst. AWS doesn't publish them.

DescribeStacks has the rate that users report; the others are low, so that the morning's peak exceeds them.
"""
ECS = {"list_tasks": (20.0, 100.0), "describe_tasks": (20.0, 100.0)}
"""ECS's documented rates of read calls on a cluster's resources."""

TABLES = frozenset({"datasets", "users", "keys", "models", "nodes", "audit"})


class Meter(Wire):
    """Counts calls until a given time, in total and per second: to ports by method, to AWS by operation."""

    def __init__(self, clock: Callable[[], float], until: float = inf) -> None:
        super().__init__()
        self.clock = clock
        self.until = until
        self.ports: Counter[str] = Counter()
        self.aws: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()
        self.seconds: dict[str, Counter[int]] = {}

    def passed(self, call: str) -> None:
        """Count a call to a port. Calls to AWS are counted by `sent`."""
        port = call.partition(".")[0]
        if port not in ("cloudformation", "ecs", "dynamodb") and self.clock() < self.until:
            self.ports[call] += 1
            self._tick("tables" if port in TABLES else port)

    def sent(self, service: str, operation: str, *, refused: bool) -> None:
        """Count a call to AWS."""
        if self.clock() < self.until:
            self.aws[f"{service}.{operation}"] += 1
            self.throttled[f"{service}.{operation}"] += refused
            self._tick(service)

    def peak(self, service: str) -> float:
        """Return the highest rate in any window, in calls per second."""
        by_second = self.seconds.get(service, Counter())
        return (
            max((sum(by_second[at + n] for n in range(WINDOW)) for at in list(by_second)), default=0) / WINDOW
        )

    def _tick(self, service: str) -> None:
        self.seconds.setdefault(service, Counter())[int(self.clock())] += 1


class Network:
    """The network to one service of AWS, for its fake's `throttle`: one token bucket for all callers.

    A throttled call is repeated as in boto3's standard mode: after a random part of 1, 2, 4, 8 s.
    """

    def __init__(
        self,
        service: str,
        rates: Mapping[str, tuple[float, float]],
        scheduler: Scheduler,
        meter: Meter,
        rng: random.Random,
    ) -> None:
        self._service = service
        self._bucket = TokenBucket(scheduler.clock, rates)
        self._scheduler = scheduler
        self._meter = meter
        self._rng = rng

    def __call__(self, operation: str) -> bool:
        """Send a call; return whether every attempt was throttled."""
        for attempt in range(ATTEMPTS):
            self._scheduler.sleep(self._rng.uniform(*LATENCY))
            is_refused = self._bucket(operation)
            self._meter.sent(self._service, operation, refused=is_refused)
            if not is_refused:
                return False
            if attempt < ATTEMPTS - 1:
                self._scheduler.sleep(self._rng.random() * min(2.0**attempt, MAX_DELAY))
        return True
