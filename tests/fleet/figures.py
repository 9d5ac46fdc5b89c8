"""The figures of a day: what is left, calls to AWS and tables, and the waits of data scientists."""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.fleet.callers import Waits
from tests.fleet.leftovers import Leftovers

Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures that `bench/fleet.py` prints.

    `one_by_one` is the number of DescribeStacks calls that a separate call for each node would have taken.
    """

    hours: float
    datasets: int
    node_hours: float
    launches: int
    faults: int
    models_retrieved: int
    reported_leaks: int
    undeletable: int
    passes: int
    one_by_one: int
    waits: Waits
    left: Leftovers
    aws: Counter[str]
    throttled: Counter[str]
    ports: Counter[str]
    peaks: dict[str, float]
    events: Counter[str]

    @property
    def describe_ratio(self) -> float:
        """Ratio of the DescribeStacks calls that separate calls would have taken to those that were made."""
        return self.one_by_one / max(self.aws["cloudformation.describe_stacks"], 1)

    def rows(self) -> Iterator[Row]:
        """Return the names and values of all figures, the most important first."""
        yield "datasets, hours", f"{self.datasets}, {self.hours:g}"
        share = self.node_hours / (self.datasets * self.hours)
        yield "nodes awake", f"{share:.1%} of the time, {self.node_hours:.0f} node-hours"
        yield "stacks launched", f"{self.launches}, {self.faults} of them with a fault"
        yield "models retrieved", str(self.models_retrieved)
        yield from self.left.rows()
        yield "retained, in the audit log", str(self.reported_leaks)
        yield "stacks that nothing deletes", str(self.undeletable)
        yield from self._waited()
        yield from self._calls()

    def _waited(self) -> Iterator[Row]:
        waits = self.waits
        yield "node was ready already", str(waits.ready)
        yield "ask to ready, first launch", quantiles(waits.first_launch)
        yield "ask to ready, after failures", quantiles(waits.later_launch)
        yield "ask to ready, both", quantiles([*waits.first_launch, *waits.later_launch])
        yield "told error, quota, AWS away", f"{waits.errors}, {waits.quota_errors}, {waits.upstream_errors}"
        yield "gave up", str(waits.gave_up)

    def _calls(self) -> Iterator[Row]:
        yield "passes of reconcilers", f"{self.passes}"
        for name, count in self.aws.most_common():
            refused = self.throttled[name]
            yield name, f"{self._rate(count)}, {refused} throttled"
        ratio = f"{self.describe_ratio:.1f} times fewer than {self.one_by_one} one by one"
        yield "DescribeStacks", ratio
        for name, count in self.ports.most_common():
            yield name, self._rate(count)
        for name, rate in sorted(self.peaks.items()):
            yield f"most calls to {name}", f"{rate:.1f} a second over 10 s"
        for name, count in sorted(self.events.items()):
            yield f"logged {name}", str(count)

    def _rate(self, count: int) -> str:
        a_second = count / (self.hours * 3600)
        return f"{count}, {count / max(self.node_hours, 1):.1f} a node and hour, {a_second:.2f} a second"


def quantiles(seconds: Sequence[float]) -> str:
    """Return the number of values, their median, p90, p99 and maximum."""
    if len(seconds) < 2:
        return f"{len(seconds)} of them"
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    median, p90, p99 = cuts[49], cuts[89], cuts[98]
    return f"{len(seconds)}: p50 {median:.0f} s, p90 {p90:.0f} s, p99 {p99:.0f} s, max {max(seconds):.0f} s"
