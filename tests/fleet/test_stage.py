"""Actors take turns on one clock."""

from collections.abc import Iterator

import pytest

from tests.builders import NOON
from tests.fakes import FakeClock
from tests.fleet.stage import Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(FakeClock())
    yield stage
    stage.close()


def test_whoever_wakes_first_plays_first(stage):
    """However deep in its code an actor sleeps, the others go on meanwhile."""
    seen = []

    def actor(name: str, pause: float) -> None:
        for _ in range(3):
            stage.sleep(pause)
            seen.append((name, stage.clock() - NOON))

    stage.enter(lambda: actor("slow", 5.0))
    stage.enter(lambda: actor("quick", 2.0), after=0.5)
    stage.run(100.0)

    order = [("quick", 2.5), ("quick", 4.5), ("slow", 5.0), ("quick", 6.5), ("slow", 10.0), ("slow", 15.0)]
    assert seen == order
    assert stage.clock() == NOON + 100.0


def test_a_play_that_is_not_over_goes_on_with_the_next_run(stage):
    """The clock stops where the run ends, not where somebody wakes."""
    woken = []

    def actor() -> None:
        stage.sleep(10.0)
        woken.append(stage.clock() - NOON)

    stage.enter(actor)
    stage.run(6.0)
    before = list(woken)
    stage.run(6.0)

    assert (before, woken) == ([], [10.0])


def test_what_an_actor_raises_ends_the_run(stage):
    """A fault must not go down in the crowd."""

    def faulty() -> None:
        stage.sleep(1.0)
        raise ZeroDivisionError

    stage.enter(faulty)
    stage.enter(lambda: stage.sleep(50.0))
    with pytest.raises(ZeroDivisionError):
        stage.run(10.0)


def test_actors_that_still_sleep_leave_when_the_curtain_falls():
    """No thread is left behind, and nobody plays on."""
    stage, ended = Stage(FakeClock()), []

    def actor() -> None:
        stage.sleep(1000.0)
        ended.append("of its own accord")

    stage.enter(actor)
    stage.run(1.0)
    stage.close()

    assert ended == []
    assert not any(thread.is_alive() for thread in stage._threads)


def test_the_director_only_moves_the_clock(stage):
    """While nobody is on stage, sleeping is what sets the scene."""
    stage.sleep(3.0)

    assert stage.clock() == NOON + 3.0
