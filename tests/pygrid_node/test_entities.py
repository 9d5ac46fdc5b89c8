"""When a cycle is due and which workers it admits."""

import pytest

from pygrid_node.entities import Cycle, Lease

END, BEFORE, AFTER = 600.0, 599.9, 600.0


def cycle(counted=0, *, needed=1, wanted=3, number=1, is_closed=False):
    return Cycle(1, 1, number, END, wanted, needed, counted, is_closed)


@pytest.mark.parametrize(
    ("counted", "needed", "now", "due"),
    [
        (0, 1, BEFORE, False),
        (2, 1, BEFORE, False),
        (3, 1, BEFORE, True),  # by count, before its time is over
        (0, 1, AFTER, False),  # there is nothing to average
        (1, 1, AFTER, True),  # by time
        (1, 2, AFTER, False),
        (2, 2, AFTER, True),
        (2, 2, 99_999.0, True),
        (3, 3, BEFORE, True),
    ],
)
def test_cycle_is_due_by_count_or_by_time_with_enough_diffs(counted, needed, now, due):
    """The cycle wants three diffs."""
    assert cycle(counted, needed=needed).is_due(now) is due


def test_closed_cycle_is_not_due():
    """It may have all its diffs."""
    assert not cycle(3, is_closed=True).is_due(AFTER)


COUNTED, LEASED, EXPIRED = (True, 0.0), (False, 300.0), (False, 99.0)


@pytest.mark.parametrize(
    ("number", "reuse_after", "leases", "admitted"),
    [
        (1, 0, [], True),
        (1, 0, [(1, *LEASED)], False),
        (1, 0, [(1, *EXPIRED)], True),
        (1, 0, [(1, *COUNTED)], False),  # once per cycle, whatever `reuse_after` is
        (2, 0, [(1, *COUNTED)], True),
        (2, 1, [(1, *COUNTED)], True),  # the value of artificienlib
        (2, 2, [(1, *COUNTED)], False),
        (3, 2, [(1, *COUNTED)], True),
        (4, 2, [(1, *COUNTED), (3, *COUNTED)], False),
        (5, 2, [(3, *COUNTED), (1, *COUNTED)], True),
        (2, 9, [(1, *LEASED)], True),  # no diff of the worker is in the model
        (2, 9, [(1, *EXPIRED)], True),
    ],
)
def test_worker_is_admitted_once_per_cycle_and_again_after_a_rest(number, reuse_after, leases, admitted):
    """The time is 100; a lease has the cycle's number, whether its diff was counted, and when it expires."""
    own = [Lease(*lease) for lease in leases]

    assert cycle(number=number).admits(own, reuse_after, 100.0) is admitted


@pytest.mark.parametrize(
    ("next_expiry", "now", "seconds"),
    [
        (None, 0.0, 600),
        (None, 599.5, 1),
        (300.0, 0.0, 300),
        (900.0, 0.0, 600),
        (900.0, 700.0, 200),
        (None, 600.0, 30),  # the next good diff ends the cycle, at an unknown time
    ],
)
def test_rejected_worker_gets_the_seconds_to_wait(next_expiry, now, seconds):
    """The number is whole, because SwiftSyft decodes only an integer."""
    assert cycle().wait(next_expiry, now) == seconds
