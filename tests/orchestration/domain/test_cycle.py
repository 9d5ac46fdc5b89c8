"""Reports, means over devices, and which progress messages close a cycle."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.domain.cycle import (
    LARGEST_COUNTED,
    NO_REPORTS,
    Progress,
    Report,
    Totals,
    closes,
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


@pytest.mark.parametrize("loss", [1e-45, 3.4e38, 1.7e308, -1.7e308, -0.0, 0.1, 1 / 3, 5e-324, 0.0, 12])
def test_every_finite_loss_is_accepted(loss):
    """Any finite float32 or float64 is accepted, and clipped to the range that DynamoDB can store."""
    report = Report.of(loss, -1.0)

    assert report.acc is None
    assert math.isfinite(report.loss)
    assert report.loss == pytest.approx(max(-LARGEST_COUNTED, min(LARGEST_COUNTED, loss)), abs=1e-100)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_float32_loss_is_not_changed(loss):
    """A float32 is counted with its exact value."""
    assert Report.of(loss, -1.0).loss == loss


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


def test_sum_of_the_largest_losses_can_be_stored():
    """DynamoDB stores numbers up to 1e126; a million of the largest reports stay below."""
    largest = Report.of(1.7e308, -1.0).loss

    assert largest * 1e6 < 1e126
    assert Report.of(-1.7e308, -1.0).loss == -largest


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
