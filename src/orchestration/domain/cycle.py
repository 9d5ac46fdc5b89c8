"""One round of training: its reports, their means, and how it closes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from statistics import median
from sys import float_info

from orchestration.domain.errors import InvalidRequest

COMPLETE = 100
"""Per cent."""

UNMEASURED = -1.0
"""What `loss_this_cycle` and `acc_this_cycle` hold while there is no value."""

SAMPLE_SIZE = 31
"""Losses that are stored beside their sum: about 0.5 kB, since writes are billed per kB."""

LARGEST_COUNTED = 1e100
"""Larger losses are clipped to this value, because DynamoDB stores numbers up to 1e126."""


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
        """Mean loss over the devices; -1 while there is none."""
        return self.loss_sum / self.devices if self.devices else UNMEASURED

    @property
    def acc(self) -> float:
        """Mean accuracy over the devices that measured one; -1 while there is none."""
        return self.acc_sum / self.acc_devices if self.acc_devices else UNMEASURED

    @property
    def median_loss(self) -> float:
        """Median of the sample, which no single device can move far; -1 while there is none."""
        return median(self.sample.values()) if self.sample else UNMEASURED

    def places(self) -> Sequence[str]:
        """Return the keys in the sample that the next loss may use: the free ones, or all if none is free."""
        places = [str(number) for number in range(SAMPLE_SIZE)]
        return [place for place in places if place not in self.sample] or places


NO_REPORTS = Totals(cycle=0, devices=0, loss_sum=0.0, acc_sum=0.0, acc_devices=0)


@dataclass(frozen=True, slots=True)
class Report:
    """One device's loss, and its accuracy where it measured one."""

    loss: float
    acc: float | None

    @classmethod
    def of(cls, loss: float, acc: float, bound: float = float_info.max) -> "Report":
        """Return the report of a device; `acc` is -1 if it was not measured. Raises InvalidRequest."""
        if not isfinite(loss) or not isfinite(acc):
            raise InvalidRequest("loss and acc must be finite numbers.")
        if abs(loss) > bound or abs(acc) > bound:
            raise InvalidRequest(f"loss and acc must lie between -{bound:g} and {bound:g}.")
        return cls(_countable(loss), None if acc == UNMEASURED else _countable(acc))


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress message that a node sends when it closes a cycle."""

    percent_complete: int
    cycle: int | None = None
    """The cycle that was closed, counted from 1. The original node does not send it."""
    version: str | None = None
    """The model's version. A node sends it, with 0 per cent, when it checks an upload."""

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
        """Return the result: the means over the devices that reported in the cycle."""
        return ClosedCycle(
            cycle=self.cycle,
            percent_complete=self.percent_complete,
            loss=self.totals.loss,
            acc=self.totals.acc,
            devices=self.totals.devices,
            closed_at=self.sealed_at,
            median_loss=self.totals.median_loss,
        )


def _countable(value: float) -> float:
    if abs(value) > LARGEST_COUNTED:
        return LARGEST_COUNTED if value > 0 else -LARGEST_COUNTED
    return 0.0 if abs(value) < 1 / LARGEST_COUNTED else value
