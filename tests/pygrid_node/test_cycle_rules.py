"""When a cycle ends and who gets a place in it, case by case."""

import pytest

from pygrid_node.cycle_rules import is_due, may_enter, pause, wait
from pygrid_node.entities import Cycle, Place

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
def test_a_cycle_is_due_by_count_or_by_time_with_enough_diffs(counted, needed, now, due):
    """Of three diffs wanted."""
    assert is_due(cycle(counted, needed=needed), now) is due


def test_a_closed_cycle_is_not_due():
    """However full it was."""
    assert not is_due(cycle(3, is_closed=True), AFTER)


COUNTED, WAITED_FOR, LAPSED = (True, 0.0), (False, 300.0), (False, 99.0)


@pytest.mark.parametrize(
    ("number", "reuse_after", "own", "may"),
    [
        (1, 0, [], True),
        (1, 0, [(1, *WAITED_FOR)], False),
        (1, 0, [(1, *LAPSED)], True),  # it came back
        (1, 0, [(1, *COUNTED)], False),  # once a cycle, whatever the rest
        (2, 0, [(1, *COUNTED)], True),
        (2, 1, [(1, *COUNTED)], True),  # as artificienlib has it
        (2, 2, [(1, *COUNTED)], False),
        (3, 2, [(1, *COUNTED)], True),
        (4, 2, [(1, *COUNTED), (3, *COUNTED)], False),
        (5, 2, [(3, *COUNTED), (1, *COUNTED)], True),
        (2, 9, [(1, *WAITED_FOR)], True),  # nothing of it is in the model
        (2, 9, [(1, *LAPSED)], True),
    ],
)
def test_a_worker_may_enter_once_a_cycle_and_again_when_it_has_rested(number, reuse_after, own, may):
    """At second 100; `own` are its places: the cycle's number, whether its diff was counted, its end."""
    assert may_enter(cycle(number=number), [Place(*place) for place in own], reuse_after, 100.0) is may


@pytest.mark.parametrize(
    ("next_lapse", "now", "seconds"),
    [
        (None, 0.0, 600),
        (None, 599.5, 1),
        (300.0, 0.0, 300),
        (900.0, 0.0, 600),
        (900.0, 700.0, 200),
        (None, 600.0, 30),  # until the next good diff, whenever that comes
    ],
)
def test_a_worker_is_told_when_to_ask_again(next_lapse, now, seconds):
    """Whole seconds, since SwiftSyft decodes nothing else."""
    assert wait(cycle(), next_lapse, now) == seconds


@pytest.mark.parametrize(
    ("next_end", "now", "seconds"), [(None, 5.0, None), (7.5, 5.0, 2.5), (4.0, 5.0, 0.0)]
)
def test_the_timer_is_set_to_the_next_end(next_end, now, seconds):
    """A time that has passed meanwhile is none to wait for."""
    assert pause(next_end, now) == seconds
