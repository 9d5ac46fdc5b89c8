"""One round of training: its reports, their means, and how it closes."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite
from statistics import fmean, median

from orchestration.domain.errors import InvalidRequest

COMPLETE = 100
"""Per cent."""

UNMEASURED = -1.0
"""What `loss_this_cycle` and `acc_this_cycle` hold while there is no value."""

SAMPLE_SIZE = 31
"""Losses that are stored beside their sum: about 0.5 kB, since writes are billed per kB."""

LOSS_BOUND = 1e6
"""Default of the largest absolute loss of a report."""

LARGEST_ACCURACY = 100.0
"""Largest absolute accuracy of a report: 100 per cent."""

EXACT_DIGITS = 30
"""Digits of a loss before and after the point: DynamoDB adds 38, so sums of 10^8 losses are exact."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of the reports of the running cycle."""

    cycle: int
    """How many cycles have closed before this one."""
    devices: int
    loss_sum: float
    acc_sum: float
    acc_devices: int
    sample: Mapping[str, float] = field(default_factory=dict, compare=False)
    """A random sample of the losses, by their key in the sample, `0` to `30`."""

    @property
    def loss(self) -> float:
        """Mean loss over the devices, see `robust_mean`; -1 while there is none."""
        if not self.devices:
            return UNMEASURED
        return robust_mean(self.loss_sum / self.devices, self.sample.values())

    @property
    def acc(self) -> float:
        """Mean accuracy over the devices that measured one; -1 while there is none.

        There is no sample of accuracies: their bound limits what a single device can do.
        """
        return self.acc_sum / self.acc_devices if self.acc_devices else UNMEASURED

    @property
    def median_loss(self) -> float:
        """Median of the sample, which no single device can move far; -1 while there is none."""
        return median(self.sample.values()) if self.sample else UNMEASURED

    def place(self, below: Callable[[int], int]) -> str | None:
        """Return the key in the sample for the next loss, or None to leave the loss out.

        `below(n)` returns a random number from 0 to n - 1. Of n losses, each is in the sample with the same
        probability (Vitter's algorithm R): if each loss replaced another, the last 21 would be half of it.
        """
        places = [str(number) for number in range(SAMPLE_SIZE)]
        if self.devices >= SAMPLE_SIZE:
            number = below(self.devices + 1)
            return places[number] if number < SAMPLE_SIZE else None
        free = [place for place in places if place not in self.sample]
        return free[below(len(free))]


NO_REPORTS = Totals(cycle=0, devices=0, loss_sum=0.0, acc_sum=0.0, acc_devices=0)


@dataclass(frozen=True, slots=True)
class Report:
    """One device's loss, and its accuracy where it measured one."""

    loss: float
    acc: float | None

    @classmethod
    def of(cls, loss: float, acc: float, bound: float = LOSS_BOUND) -> "Report":
        """Return the report of a device; `acc` is -1 if it was not measured. Raises InvalidRequest.

        The numbers are rounded so that sums are exact: for a bound of 10^6, to 23 decimals.
        """
        if not isfinite(loss) or not isfinite(acc):
            raise InvalidRequest("loss and acc must be finite numbers.")
        for name, value, limit in (("loss", loss, bound), ("acc", acc, LARGEST_ACCURACY)):
            if abs(value) > limit:
                raise InvalidRequest(f"{name} must lie between -{limit:g} and {limit:g}.")
        counted_acc = None if acc == UNMEASURED else _rounded(acc, LARGEST_ACCURACY)
        return cls(_rounded(loss, bound), counted_acc)


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress message that a node sends when it closes a cycle."""

    percent_complete: int
    cycle: int | None = None
    """The cycle that was closed, counted from 1. The original node does not send it."""
    version: str | None = None
    """The model's version. A node sends it, with 0 per cent, when it checks an upload."""
    cycles: int | None = None
    """How many cycles the model has in all. The original node does not send it."""

    @property
    def is_last(self) -> bool:
        """Whether the model is complete."""
        return self.percent_complete >= COMPLETE


def closes(progress: Progress, *, percent: int, closed_cycles: int) -> bool:
    """Whether a progress message is new: progress only grows.

    A node that numbers its cycles may repeat a percentage (more than 100 cycles). Without a number, an equal
    percentage is taken for a repeated message. A cycle that a resync has closed takes the percentage from a
    later message.
    """
    if percent >= COMPLETE or progress.percent_complete < percent:
        return False
    if progress.cycle is not None and progress.cycle != closed_cycles:
        return progress.cycle > closed_cycles
    return progress.percent_complete > percent


@dataclass(frozen=True, slots=True)
class ClosedCycle:
    """Result of a closed cycle; `closed_at` in seconds since the epoch."""

    cycle: int
    percent_complete: int
    loss: float
    acc: float
    devices: int
    closed_at: float
    median_loss: float = UNMEASURED


@dataclass(frozen=True, slots=True)
class SealedCycle:
    """A cycle that accepts no more reports; `cycle` counts from 1, `sealed_at` in seconds since the epoch."""

    cycle: int
    percent_complete: int
    totals: Totals
    sealed_at: float

    def closed(self) -> ClosedCycle:
        """Return the result, with the means over the devices that reported in the cycle."""
        return ClosedCycle(
            cycle=self.cycle,
            percent_complete=self.percent_complete,
            loss=self.totals.loss,
            acc=self.totals.acc,
            devices=self.totals.devices,
            closed_at=self.sealed_at,
            median_loss=self.totals.median_loss,
        )


def robust_mean(mean: float, sample: Collection[float]) -> float:
    """Return a mean of losses, or that of their random sample's central 80 per cent if it lies outside.

    Reports need no credential, so some may be forged. The mean of usual losses lies well inside. Nothing is
    trimmed from a sample of less than ten.
    """
    cut = len(sample) // 10
    if not cut:
        return mean
    central = sorted(sample)[cut:-cut]
    return mean if central[0] <= mean <= central[-1] else fmean(central)


def _rounded(value: float, bound: float) -> float:
    return round(value, EXACT_DIGITS - len(str(int(bound)))) + 0.0  # -0.0 becomes 0.0
