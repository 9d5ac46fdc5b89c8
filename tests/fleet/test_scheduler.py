"""Tasks take turns on one simulated clock."""

from collections.abc import Iterator

import pytest

from tests.builders import NOON
from tests.fakes import FakeClock
from tests.fleet.scheduler import Scheduler


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler(FakeClock())
    yield scheduler
    scheduler.close()


def test_task_that_is_due_first_runs_first(scheduler):
    """A task sleeps at any depth of its calls, and the others run meanwhile."""
    seen = []

    def task(name: str, pause: float) -> None:
        for _ in range(3):
            scheduler.sleep(pause)
            seen.append((name, scheduler.clock() - NOON))

    scheduler.spawn(lambda: task("slow", 5.0))
    scheduler.spawn(lambda: task("quick", 2.0), after=0.5)
    scheduler.run(100.0)

    order = [("quick", 2.5), ("quick", 4.5), ("slow", 5.0), ("quick", 6.5), ("slow", 10.0), ("slow", 15.0)]
    assert seen == order
    assert scheduler.clock() == NOON + 100.0


def test_task_continues_in_the_next_run(scheduler):
    """The clock stops at the end of the run, not at the next task."""
    woken = []

    def task() -> None:
        scheduler.sleep(10.0)
        woken.append(scheduler.clock() - NOON)

    scheduler.spawn(task)
    scheduler.run(6.0)
    before = list(woken)
    scheduler.run(6.0)

    assert (before, woken) == ([], [10.0])


def test_exception_of_a_task_ends_the_run(scheduler):
    """A failed task must not go unnoticed."""

    def faulty() -> None:
        scheduler.sleep(1.0)
        raise ZeroDivisionError

    scheduler.spawn(faulty)
    scheduler.spawn(lambda: scheduler.sleep(50.0))
    with pytest.raises(ZeroDivisionError):
        scheduler.run(10.0)


def test_sleeping_tasks_are_cancelled_on_close():
    """No thread is left, and no task continues."""
    scheduler, ended = Scheduler(FakeClock()), []

    def task() -> None:
        scheduler.sleep(1000.0)
        ended.append("completed")

    scheduler.spawn(task)
    scheduler.run(1.0)
    scheduler.close()

    assert ended == []
    assert not any(thread.is_alive() for thread in scheduler._threads)


def test_sleep_outside_of_a_task_advances_the_clock(scheduler):
    """The set-up of a simulation may sleep."""
    scheduler.sleep(3.0)

    assert scheduler.clock() == NOON + 3.0
