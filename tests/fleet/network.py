"""Between the service and AWS: every call takes its time, is counted, and is one of so many a second."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from math import inf

from tests.fakes import TokenBucket, Wire
from tests.fleet.stage import Stage

ATTEMPTS = 5
"""Of one call, as the client of `cfn_helper` is set up."""
LONGEST_PAUSE = 20.0
LATENCY = (0.05, 0.25)
"""Seconds that a call to AWS takes."""
WINDOW = 10
"""Seconds over which the highest rate is taken."""

CLOUDFORMATION = {
    "describe_stacks": (5.0, 10.0),
    "describe_stack_events": (5.0, 10.0),
    "create_stack": (1.0, 5.0),
    "delete_stack": (1.0, 5.0),
}
"""Calls a second, and how many may come at once; AWS publishes none of it.

DescribeStacks is what its users report; the others are taken low, so that a morning's rush feels them.
"""
ECS = {"list_tasks": (20.0, 100.0), "describe_tasks": (20.0, 100.0)}
"""As ECS documents them for reading a cluster's tasks."""

TABLES = frozenset({"datasets", "users", "keys", "models", "nodes", "audit"})


class Meter(Wire):
    """Counts calls until a time, in all and second by second: ports by method, AWS by operation."""

    def __init__(self, clock: Callable[[], float], until: float = inf) -> None:
        super().__init__()
        self.clock = clock
        self.until = until
        self.ports: Counter[str] = Counter()
        self.aws: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()
        self.seconds: dict[str, Counter[int]] = {}

    def passed(self, call: str) -> None:
        """Note a call to a port; those to AWS itself are noted where they are sent."""
        port = call.partition(".")[0]
        if port not in ("cloudformation", "ecs", "dynamodb") and self.clock() < self.until:
            self.ports[call] += 1
            self._tick("tables" if port in TABLES else port)

    def sent(self, service: str, operation: str, *, refused: bool) -> None:
        """Note a call to AWS."""
        if self.clock() < self.until:
            self.aws[f"{service}.{operation}"] += 1
            self.throttled[f"{service}.{operation}"] += refused
            self._tick(service)

    def peak(self, service: str) -> float:
        """Return the highest rate of calls, per second, over any window."""
        by_second = self.seconds.get(service, Counter())
        return (
            max((sum(by_second[at + n] for n in range(WINDOW)) for at in list(by_second)), default=0) / WINDOW
        )

    def _tick(self, service: str) -> None:
        self.seconds.setdefault(service, Counter())[int(self.clock())] += 1


class Network:
    """The way to one service of AWS, as its fake's `throttle`: one token bucket for all who call.

    A refused call is sent again as boto3's standard mode does it: after a random part of 1, 2, 4, 8 s.
    """

    def __init__(
        self,
        service: str,
        rates: Mapping[str, tuple[float, float]],
        stage: Stage,
        meter: Meter,
        rng: random.Random,
    ) -> None:
        self._service = service
        self._bucket = TokenBucket(stage.clock, rates)
        self._stage = stage
        self._meter = meter
        self._rng = rng

    def __call__(self, operation: str) -> bool:
        """Send a call, at last in vain: whether it was refused every time."""
        for attempt in range(ATTEMPTS):
            self._stage.sleep(self._rng.uniform(*LATENCY))
            is_refused = self._bucket(operation)
            self._meter.sent(self._service, operation, refused=is_refused)
            if not is_refused:
                return False
            if attempt < ATTEMPTS - 1:
                self._stage.sleep(self._rng.random() * min(2.0**attempt, LONGEST_PAUSE))
        return True
