"""One round of training: the mean of what devices report, and how it closes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from statistics import median
from sys import float_info

from orchestration.domain.errors import InvalidRequest

COMPLETE = 100
"""Per cent."""

UNMEASURED = -1.0
"""The marketplace's word for "no value yet" in `loss_this_cycle` and `acc_this_cycle`."""

SAMPLE_SIZE = 31
"""Losses kept of a cycle beside their sum. An item's write costs by the kB; these take about half of one."""

LARGEST_COUNTED = 1e100
"""A DynamoDB number ends at 1e126; anything a sane loss can be lies far below this."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What the devices of the running cycle have reported so far."""

    cycle: int
    """How many cycles have closed before this one."""
    devices: int
    loss_sum: float
    acc_sum: float
    acc_devices: int
    sample: Mapping[str, float] = field(default_factory=dict, compare=False)
    """Some of the losses, by their place in the sample, `0` to `30`; which ones is left to chance."""

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
        """Median of the sample, which no single phone can move far; -1 while there is none."""
        return median(self.sample.values()) if self.sample else UNMEASURED

    def places(self) -> Sequence[str]:
        """Return where the next loss may go in the sample: the free places, or all when there is none."""
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
        """Take a phone's numbers; -1 for `acc` is the pod's "not measured". Raises InvalidRequest."""
        if not isfinite(loss) or not isfinite(acc):
            raise InvalidRequest("loss and acc must be finite numbers.")
        if abs(loss) > bound or abs(acc) > bound:
            raise InvalidRequest(f"loss and acc must lie between -{bound:g} and {bound:g}.")
        return cls(_countable(loss), None if acc == UNMEASURED else _countable(acc))


@dataclass(frozen=True, slots=True)
class Progress:
    """A node's word that a cycle is over."""

    percent_complete: int
    cycle: int | None = None
    """Which cycle it closes, counted from 1. The original node doesn't say."""
    version: str | None = None
    """Of the model, where the node says it: when it asks about an upload, with 0 per cent."""

    @property
    def is_last(self) -> bool:
        """The model is complete with it."""
        return self.percent_complete >= COMPLETE


def closes(progress: Progress, *, percent: int, closed_cycles: int) -> bool:
    """Whether this word of a node is news: it moves the model on, and never back.

    A node that numbers its cycles may stay at the same percentage (more than 100 cycles); of one that
    doesn't, an equal percentage can only be taken for the same word again. A cycle that was found closed
    without the node's word takes the percentage from it.
    """
    if percent >= COMPLETE or progress.percent_complete < percent:
        return False
    if progress.cycle is not None and progress.cycle != closed_cycles:
        return progress.cycle > closed_cycles
    return progress.percent_complete > percent


@dataclass(frozen=True, slots=True)
class ClosedCycle:
    """What a cycle came to; `closed_at` in seconds since the epoch."""

    cycle: int
    percent_complete: int
    loss: float
    acc: float
    devices: int
    closed_at: float
    median_loss: float = UNMEASURED


@dataclass(frozen=True, slots=True)
class SealedCycle:
    """A cycle that takes no more reports; `cycle` counts from 1, `sealed_at` in seconds since the epoch."""

    cycle: int
    percent_complete: int
    totals: Totals
    sealed_at: float

    def closed(self) -> ClosedCycle:
        """Return what it came to: its means, over the devices that reported in it."""
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
