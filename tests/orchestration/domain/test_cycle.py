"""Means, and how a cycle closes."""

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
    "the first word of the original node": (Progress(10), 0, 0, True),
    "the same percentage again is the same word again": (Progress(10), 10, 1, False),
    "back": (Progress(5), 10, 1, False),
    "on": (Progress(20), 10, 1, True),
    "the last": (Progress(100), 90, 9, True),
    "again after the last": (Progress(100), 100, 10, False),
    "back after the last": (Progress(50), 100, 10, False),
    "nothing is news at zero without a number": (Progress(0), 0, 0, False),
    "a numbered first cycle of very many": (Progress(0, cycle=1), 0, 0, True),
    "the same number again": (Progress(10, cycle=1), 10, 1, False),
    "a cycle that was found closed takes its percentage": (Progress(20, cycle=1), 10, 1, True),
    "an older number": (Progress(30, cycle=1), 20, 2, False),
    "the next number at the same percentage": (Progress(10, cycle=2), 10, 1, True),
    "a number that skips one": (Progress(30, cycle=3), 10, 1, True),
    "the next number, but back": (Progress(5, cycle=2), 10, 1, False),
    "a number after the last": (Progress(100, cycle=11), 100, 10, False),
}


@pytest.mark.parametrize(("progress", "percent", "closed", "expected"), CLOSES.values(), ids=CLOSES)
def test_a_word_of_a_node_closes_a_cycle_only_if_it_moves_the_model_on(progress, percent, closed, expected):
    """Never back, never twice."""
    assert closes(progress, percent=percent, closed_cycles=closed) is expected


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 12) | st.none()), max_size=30))
def test_whatever_a_node_says_a_model_never_goes_back(words):
    """Any order, any repetition: percentage and number of closed cycles only grow, and end at 100."""
    percent = cycles = 0
    for said, number in words:
        progress = Progress(said, number)
        if closes(progress, percent=percent, closed_cycles=cycles):
            assert percent < 100
            assert said >= percent
            assert (number or cycles + 1) >= cycles
            assert (said, number or cycles + 1) > (percent, cycles)
            percent, cycles = said, number or cycles + 1


@pytest.mark.parametrize("loss", [1e-45, 3.4e38, 1.7e308, -1.7e308, -0.0, 0.1, 1 / 3, 5e-324, 0.0, 12])
def test_any_finite_loss_counts(loss):
    """What a float32 or a float64 can be, a report can be; it stays what it is within what can be kept."""
    report = Report.of(loss, -1.0)

    assert report.acc is None
    assert math.isfinite(report.loss)
    assert report.loss == pytest.approx(max(-LARGEST_COUNTED, min(LARGEST_COUNTED, loss)), abs=1e-100)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_every_float32_is_counted_as_it_is(loss):
    """29 of 40 ordinary losses were refused once."""
    assert Report.of(loss, -1.0).loss == loss


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["loss", "acc"])
def test_what_is_not_finite_is_refused(number, field):
    """One of them would spoil a mean for good."""
    with pytest.raises(InvalidRequest, match="finite"):
        Report.of(**{"loss": 0.5, "acc": 0.5} | {field: number})


@pytest.mark.parametrize(
    ("acc", "counted"), [(-1, None), (-1.0, None), (0.0, 0.0), (0.75, 0.75), (-0.5, -0.5)]
)
def test_an_accuracy_of_minus_one_means_not_measured(acc, counted):
    """The pod always sends it."""
    assert Report.of(0.1, acc).acc == counted


def test_the_sum_of_the_largest_losses_is_still_a_number():
    """A table keeps at most 1e126; a million of the largest reports stay below."""
    largest = Report.of(1.7e308, -1.0).loss

    assert largest * 1e6 < 1e126
    assert Report.of(-1.7e308, -1.0).loss == -largest


def test_means_are_over_the_devices_that_measured():
    """A device without an accuracy counts for the loss alone."""
    totals = Totals(cycle=3, devices=4, loss_sum=2.0, acc_sum=1.5, acc_devices=2)

    assert totals.loss == 0.5
    assert totals.acc == 0.75


def test_without_reports_both_means_are_minus_one():
    """The marketplace's word for no value yet."""
    assert (NO_REPORTS.loss, NO_REPORTS.acc) == (-1.0, -1.0)
    assert some_totals(devices=2, loss_sum=1.0).acc == -1.0


def test_a_sealed_cycle_settles_to_its_means():
    """Over the devices that reported in it, at the time it was sealed."""
    totals = Totals(cycle=2, devices=2, loss_sum=1.0, acc_sum=0.5, acc_devices=1)
    closed = a_sealed_cycle(cycle=7, percent_complete=30, totals=totals).closed()

    assert closed == a_closed_cycle(cycle=7, percent_complete=30, loss=0.5, acc=0.5, devices=2)


def test_a_cycle_that_nobody_reported_in_has_no_means():
    """A node counts diffs, we count reports; either may be lost."""
    closed = a_sealed_cycle(totals=some_totals(cycle=1)).closed()

    assert (closed.loss, closed.acc, closed.devices) == (-1.0, -1.0, 0)


@pytest.mark.parametrize(("percent", "is_last"), [(0, False), (99, False), (100, True)])
def test_the_cycle_at_100_per_cent_is_the_last(percent, is_last):
    """With it the model is complete."""
    assert Progress(percent).is_last is is_last
