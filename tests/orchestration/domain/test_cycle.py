"""Reports, means over devices, and which progress messages close a cycle."""

import math
import random
from decimal import Context
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.domain.cycle import (
    LARGEST_ACCURACY,
    LOSS_BOUND,
    NO_REPORTS,
    SAMPLE_SIZE,
    Progress,
    Report,
    Totals,
    closes,
    robust_mean,
)
from orchestration.domain.errors import InvalidRequest
from tests.builders import a_closed_cycle, a_sealed_cycle, some_totals

CLOSES = {
    "the first report of the original node": (Progress(10), 0, 0, True),
    "the same percentage again is the same report": (Progress(10), 10, 1, False),
    "a lower percentage": (Progress(5), 10, 1, False),
    "a higher percentage": (Progress(20), 10, 1, True),
    "the last": (Progress(100), 90, 9, True),
    "again after the last": (Progress(100), 100, 10, False),
    "a lower percentage after the last": (Progress(50), 100, 10, False),
    "zero without a number": (Progress(0), 0, 0, False),
    "a numbered first cycle of very many": (Progress(0, cycle=1), 0, 0, True),
    "the same number again": (Progress(10, cycle=1), 10, 1, False),
    "a higher percentage for a cycle closed by a resync": (Progress(20, cycle=1), 10, 1, True),
    "an older number": (Progress(30, cycle=1), 20, 2, False),
    "the next number at the same percentage": (Progress(10, cycle=2), 10, 1, True),
    "a number that skips one": (Progress(30, cycle=3), 10, 1, True),
    "the next number at a lower percentage": (Progress(5, cycle=2), 10, 1, False),
    "a number after the last": (Progress(100, cycle=11), 100, 10, False),
}


@pytest.mark.parametrize(("progress", "percent", "closed", "expected"), CLOSES.values(), ids=CLOSES)
def test_progress_closes_a_cycle_only_if_it_is_new(progress, percent, closed, expected):
    """A progress message that repeats an earlier one, or reports less, closes no cycle."""
    assert closes(progress, percent=percent, closed_cycles=closed) is expected


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 12) | st.none()), max_size=30))
def test_progress_never_decreases(reports):
    """For reports in any order, percentage and closed cycles only grow, and nothing follows 100 per cent."""
    percent = cycles = 0
    for reported, number in reports:
        progress = Progress(reported, number)
        if closes(progress, percent=percent, closed_cycles=cycles):
            assert percent < 100
            assert reported >= percent
            assert (number or cycles + 1) >= cycles
            assert (reported, number or cycles + 1) > (percent, cycles)
            percent, cycles = reported, number or cycles + 1


@given(st.floats(-1e6, 1e6))
def test_loss_within_the_bound_is_not_changed(loss):
    """A float is counted with all its digits; what is below 10^-23 is left out."""
    report = Report.of(loss, -1.0)

    assert report.acc is None
    assert report.loss == pytest.approx(loss, rel=1e-15 if abs(loss) > 1e-7 else 0.0, abs=1e-23)
    assert math.copysign(1.0, report.loss) == 1.0 or report.loss < 0


@pytest.mark.parametrize("bound", [0.5, LOSS_BOUND, 1e15])
@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=40), st.data())
def test_sum_is_exact(bound, shares, data):
    """Losses of any size, in any order: a loss and its negative leave the sum of the others as it was."""
    forged = [bound, -bound, bound / 3, -bound / 3, 1e-22, -1e-22]
    losses = [Report.of(share * bound, -1.0, bound).loss for share in shares]
    all_losses = data.draw(st.permutations(losses + [Report.of(loss, -1.0, bound).loss for loss in forged]))

    assert added(1e8 * bound, all_losses, -1e8 * bound) == added(0.0, losses, 0.0)


def added(first, losses, last):
    """Return the sum, one by one, as DynamoDB adds: decimals of 38 digits."""
    total, digits = Context().create_decimal(0), Context(prec=38)
    for loss in (first, *losses, last):
        total = digits.add(total, Context().create_decimal(repr(loss)))
    return total


@pytest.mark.parametrize("loss", [1.1e6, -1.1e6, 3.4e38, 1.7e308, -1.7e308])
def test_loss_above_the_bound_is_refused(loss):
    """A single report can't use up the digits of the sum."""
    with pytest.raises(InvalidRequest, match=r"loss must lie between -1e\+06 and 1e\+06\."):
        Report.of(loss, -1.0)


@pytest.mark.parametrize("acc", [-100.5, 101.0, 1e6, 1.7e308])
def test_accuracy_is_at_most_100_per_cent(acc):
    """There is no sample of accuracies, so a single report may move their mean by this much only."""
    with pytest.raises(InvalidRequest, match="acc must lie between -100 and 100"):
        Report.of(0.5, acc, bound=1e15)
    assert Report.of(0.5, LARGEST_ACCURACY, bound=0.5).acc == 100.0


HONEST = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9]
ROBUST = {
    "no sample": (0.7, [], 0.7),
    "nine reports, one of them forged": (111112.2, [*HONEST[:8], 1e6], 111112.2),
    "ten, and the mean is among them": (1.45, HONEST, 1.45),
    "on the lower edge": (1.1, HONEST, 1.1),
    "on the upper edge": (1.8, HONEST, 1.8),
    "below all but the lowest": (1.09, HONEST, 1.45),
    "above all but the highest": (1.81, HONEST, 1.45),
    "one of ten is forged": (100001.17, [*HONEST[1:], 1e6], 1.55),
    "one of ten is forged, negative": (-99998.55, [-1e6, *HONEST[:9]], 1.35),
    "two of twenty": (1.81, [-1e6, *HONEST, *HONEST[1:-1], 1e6], 1.45),
    "equal losses": (0.1 + 2**-56, [0.1] * 31, 0.1),
    "three of 31": (96775.5, [0.5] * 28 + [1e6] * 3, 0.5),
    "unordered": (1.81, HONEST[5:] + HONEST[:5], 1.45),
}


@pytest.mark.parametrize(("mean", "sample", "expected"), ROBUST.values(), ids=ROBUST)
def test_mean_outside_the_central_80_per_cent_of_the_sample_is_replaced(mean, sample, expected):
    """By the mean of that part; below ten losses nothing is trimmed."""
    assert robust_mean(mean, sample) == pytest.approx(expected, rel=1e-15)


def a_cycle(losses, seed):
    """Return the totals after these reports, counted one by one."""
    totals, chance = some_totals(), random.Random(seed)
    for devices, loss in enumerate(losses, start=1):
        place = totals.place(chance.randrange)
        sample = totals.sample | ({} if place is None else {place: loss})
        totals = some_totals(devices=devices, loss_sum=math.fsum(losses[:devices]), sample=sample)
    return totals


@pytest.mark.parametrize("draw", ["gauss", "uniform", "expovariate", "lognormvariate"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("devices", [1, 9, 10, 34, 400])
def test_honest_cycle_shows_the_exact_mean(draw, seed, devices):
    """Means of usual distributions, skewed ones too, lie well within the central part."""
    chance = random.Random(seed)
    arguments = {"uniform": (0.2, 0.4), "expovariate": (2.0,), "lognormvariate": (0.0, 0.5)}.get(draw, (5, 1))
    losses = [getattr(chance, draw)(*arguments) for _ in range(devices)]

    assert a_cycle(losses, seed).loss == math.fsum(losses) / devices


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("honest", [60, 1000])
def test_last_21_reports_do_not_move_the_median(seed, honest):
    """Each report of a cycle is in the sample with the same probability, not the last ones."""
    totals = a_cycle([1.0] * honest + [999.0] * 21, seed)

    assert len(totals.sample) == SAMPLE_SIZE
    assert totals.median_loss == 1.0


@pytest.mark.parametrize("seed", range(10))
def test_few_forged_reports_do_not_move_the_mean_far(seed):
    """Forty honest reports, then a loss at the bound and its negative, or two of the same sign."""
    honest = [1.0 + number / 100 for number in range(40)]

    for forged in ([LOSS_BOUND, -LOSS_BOUND], [LOSS_BOUND], [-LOSS_BOUND]):
        assert 1.0 < a_cycle(honest + forged, seed).loss < 1.4


def test_sample_takes_every_report_with_the_same_probability():
    """The first and the last of a hundred alike: on average 31 times of a hundred cycles."""
    cycles = [a_cycle([float(number) for number in range(100)], seed) for seed in range(400)]
    share = [sum(number in totals.sample.values() for totals in cycles) / 400 for number in range(100)]

    assert fmean(share) == pytest.approx(0.31)
    assert 0.2 < min(share) <= max(share) < 0.42


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["loss", "acc"])
def test_non_finite_number_is_refused(number, field):
    """A NaN or an infinity would make the cycle's mean useless."""
    with pytest.raises(InvalidRequest, match="finite"):
        Report.of(**{"loss": 0.5, "acc": 0.5} | {field: number})


@pytest.mark.parametrize(
    ("acc", "counted"), [(-1, None), (-1.0, None), (0.0, 0.0), (0.75, 0.75), (-0.5, -0.5)]
)
def test_accuracy_of_minus_one_means_not_measured(acc, counted):
    """The pod sends -1 for an accuracy that it did not measure."""
    assert Report.of(0.1, acc).acc == counted


def test_means_are_over_the_devices_that_measured():
    """A device without an accuracy counts for the mean loss only."""
    totals = Totals(cycle=3, devices=4, loss_sum=2.0, acc_sum=1.5, acc_devices=2)

    assert totals.loss == 0.5
    assert totals.acc == 0.75


def test_means_without_reports_are_minus_one():
    """The marketplace shows -1 as "no value yet"."""
    assert (NO_REPORTS.loss, NO_REPORTS.acc) == (-1.0, -1.0)
    assert some_totals(devices=2, loss_sum=1.0).acc == -1.0


def test_closed_cycle_has_the_means_of_its_totals():
    """The means are over the devices that reported in the cycle; its time is that of the sealing."""
    totals = Totals(cycle=2, devices=2, loss_sum=1.0, acc_sum=0.5, acc_devices=1)
    closed = a_sealed_cycle(cycle=7, percent_complete=30, totals=totals).closed()

    assert closed == a_closed_cycle(cycle=7, percent_complete=30, loss=0.5, acc=0.5, devices=2)


def test_closed_cycle_without_reports_has_no_means():
    """A node may close a cycle of which no loss report arrived."""
    closed = a_sealed_cycle(totals=some_totals(cycle=1)).closed()

    assert (closed.loss, closed.acc, closed.devices) == (-1.0, -1.0, 0)


@pytest.mark.parametrize(("percent", "is_last"), [(0, False), (99, False), (100, True)])
def test_cycle_at_100_per_cent_is_the_last(percent, is_last):
    """The model is complete at 100 per cent."""
    assert Progress(percent).is_last is is_last
