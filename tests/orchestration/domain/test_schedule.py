"""The back-off and the schedule in memory."""

from itertools import pairwise

from orchestration.domain.schedule import LONGEST_PAUSE, Schedule, pause_after


def test_pauses_double_up_to_an_hour():
    """Before the first failure the pause is 0."""
    pauses = [pause_after(failures) for failures in range(30)]

    assert pauses[:4] == [0, 30, 60, 120]
    assert all(later >= earlier for earlier, later in pairwise(pauses))
    assert pauses[-1] == LONGEST_PAUSE


def test_unknown_key_is_due():
    """In a new process the schedule is empty, so every key is due once."""
    assert Schedule().is_due("heart", now=0)


def test_key_is_due_from_its_time_on():
    """Setting the time of one key does not affect other keys."""
    schedule = Schedule()
    schedule.set("heart", 10)

    assert not schedule.is_due("heart", now=9.9)
    assert schedule.is_due("heart", now=10)
    assert schedule.is_due("lung", now=9.9)


def test_back_off_doubles_until_the_key_is_removed():
    """Success removes the key, and the next failure starts with the shortest pause."""
    schedule = Schedule()
    schedule.back_off("heart", now=100)
    schedule.back_off("heart", now=100)

    assert not schedule.is_due("heart", now=159)
    assert schedule.is_due("heart", now=160)

    schedule.remove("heart")
    assert schedule.is_due("heart", now=100)
    schedule.back_off("heart", now=100)
    assert schedule.is_due("heart", now=130)


def test_oldest_key_is_forgotten_when_the_schedule_is_full():
    """Memory stays bounded; the key that is forgotten is due once more."""
    schedule = Schedule(capacity=2)
    for key in ("first", "second", "first", "third"):
        schedule.set(key, 10)

    assert schedule.is_due("second", now=0)
    assert not schedule.is_due("first", now=0)
    assert not schedule.is_due("third", now=0)
