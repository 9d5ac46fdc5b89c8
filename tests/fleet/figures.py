"""What a day of the fleet came to: what is left over, what it cost, and how long people waited."""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.fleet.people import Waits

Row = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What stands when nobody needs anything any more; each item is named."""

    stacks: Sequence[str]
    secrets: Sequence[str]
    charged: Sequence[str]
    """Nodes that still count on somebody's quota."""
    untold: Sequence[str]
    """Stacks that left a resource behind, of which the audit log doesn't know."""
    duplicates: Sequence[str]
    """Stacks of one node that lived beside each other."""
    lost: Sequence[str]
    """Complete models whose file isn't in the bucket."""
    crashes: int
    """Passes over a node that ended in an error nobody had foreseen."""

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return any((*self._lists(), self.crashes))

    def _lists(self) -> tuple[Sequence[str], ...]:
        return (self.stacks, self.secrets, self.charged, self.untold, self.duplicates, self.lost)

    def rows(self) -> Iterator[Row]:
        """Return how many of each; and the first ones by name."""
        names = ("stacks left", "secrets left", "quota left", "retained untold", "duplicates", "models lost")
        for name, found in zip(names, self._lists(), strict=True):
            yield name, " ".join([str(len(found)), *found[:3]])
        yield "unforeseen errors", str(self.crashes)


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is printed.

    `one_by_one`: how many calls of DescribeStacks there were, had each pass asked for each node by itself.
    """

    hours: float
    datasets: int
    node_hours: float
    launches: int
    troubled: int
    models_home: int
    retained_told: int
    resisting: int
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
        """How many times fewer DescribeStacks calls there were than one by one."""
        return self.one_by_one / max(self.aws["cloudformation.describe_stacks"], 1)

    def rows(self) -> Iterator[Row]:
        """Return all figures, in the order in which one asks for them."""
        yield "datasets, hours", f"{self.datasets}, {self.hours:g}"
        share = self.node_hours / (self.datasets * self.hours)
        yield "nodes awake", f"{share:.1%} of the time, {self.node_hours:.0f} node-hours"
        yield "stacks launched", f"{self.launches}, of which {self.troubled} came to harm"
        yield "models brought home", str(self.models_home)
        yield from self.left.rows()
        yield "retained, in the audit log", str(self.retained_told)
        yield "stacks that nothing deletes", str(self.resisting)
        yield from self._waited()
        yield from self._calls()

    def _waited(self) -> Iterator[Row]:
        waits = self.waits
        yield "node was up already", str(waits.at_once)
        yield "ask to ready, first launch", quantiles(waits.well)
        yield "ask to ready, after failures", quantiles(waits.badly)
        yield "ask to ready, both", quantiles([*waits.well, *waits.badly])
        yield "told error, quota, AWS away", f"{waits.told_error}, {waits.told_quota}, {waits.told_upstream}"
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
    """Write median, p90, p99 and maximum."""
    if len(seconds) < 2:
        return f"{len(seconds)} of them"
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    median, p90, p99 = cuts[49], cuts[89], cuts[98]
    return f"{len(seconds)}: p50 {median:.0f} s, p90 {p90:.0f} s, p99 {p99:.0f} s, max {max(seconds):.0f} s"
