"""A cycle ends when its time is over, though nobody reports."""

import asyncio
import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from pygrid_node.averaging.timekeeper import Timekeeper
from pygrid_wire import decode_state

DIFF = (Path(__file__).parents[1] / "data" / "pygrid" / "linear" / "diff-1.bin").read_bytes()


class Cycles:
    """Cycles that are due at a second, on a clock that is set by hand."""

    def __init__(self, ends, failures=0):
        self.now = 0.0
        self.ends = ends
        self.failures = failures
        self.looks = 0

    def clock(self):
        return self.now

    def due(self, now):
        self.looks += 1
        if self.looks <= self.failures:
            raise OperationalError("no connection", None, Exception())
        return [cycle_id for cycle_id, end in self.ends.items() if end <= now]

    def next_end(self, now):
        return min((end for end in self.ends.values() if end > now), default=None)


@contextlib.asynccontextmanager
async def running(cycles):
    """A timekeeper; yields it and the queue of what it names."""
    named = asyncio.Queue()
    keeper = Timekeeper(cycles, named.put_nowait, cycles.clock)
    keeper.look_from_thread()
    await keeper.start()
    yield keeper, named
    await keeper.stop()


def test_what_is_due_is_named_at_the_start_and_when_a_cycle_was_opened():
    """At the start: what a former life left, and what ended while nobody ran."""
    cycles = Cycles({1: 0.0, 2: 5000.0})

    async def run():
        async with running(cycles) as (keeper, named):
            at_start = await named.get()
            cycles.now, cycles.ends = 100.0, {3: 90.0}
            await asyncio.to_thread(keeper.look_from_thread)
            return [at_start, await named.get()]

    assert asyncio.run(run()) == [1, 3]


def test_the_timer_itself_looks_again():
    """When the next cycle's time is over, and not before."""
    cycles = Cycles({7: 0.05})
    began = time.monotonic()
    cycles.clock = lambda: time.monotonic() - began

    async def run():
        async with running(cycles) as (_, named):
            return await asyncio.wait_for(named.get(), timeout=10)

    assert asyncio.run(run()) == 7
    assert cycles.looks <= 3


def test_a_database_that_is_away_ends_nothing(monkeypatch):
    """It is looked into again after a pause."""
    monkeypatch.setattr("pygrid_node.averaging.timekeeper._PAUSE_AFTER_FAULT", 0.01)
    cycles = Cycles({1: 0.0}, failures=2)

    async def run():
        async with running(cycles) as (_, named):
            return await asyncio.wait_for(named.get(), timeout=10)

    assert asyncio.run(run()) == 1


def test_a_timekeeper_that_never_ran_can_be_stopped():
    """A node may fail to start."""
    asyncio.run(Timekeeper(Cycles({}), lambda _: None).stop())


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def timed(recorded, length, **changes):
    limits = {"cycle_length": length, "max_diffs": 5, "num_cycles": 1} | changes
    return recorded(**{f"server_config__{key}": value for key, value in limits.items()})


def differs_by(node, diff, cycle=1):
    checkpoints = (node.checkpoint("fixture-linear", number) for number in (cycle, cycle + 1))
    old, new = (decode_state(checkpoint.content) for checkpoint in checkpoints)
    steps = decode_state(diff)
    return all(
        np.abs(before - step - after).max() < 1e-6
        for before, step, after in zip(old, steps, new, strict=True)
    )


@pytest.mark.moto
def test_each_cycle_ends_by_time_with_the_diffs_it_has(node, master, recorded):
    """Nobody reports after the one worker of each; its diff is the average."""
    node.upload(timed(recorded, 0.5, num_cycles=2))
    for cycle in (1, 2):
        worker = node.worker("fixture-linear")
        assert worker.report(DIFF) == {"status": "success"}
        wait_for(lambda cycle=cycle: len(master.calls) == cycle)
        assert differs_by(node, DIFF, cycle)

    assert [call["percent_complete"] for call in master.calls] == [50, 100]


@pytest.mark.moto
@pytest.mark.parametrize("limit", ["min_diffs", "min_workers"])
def test_a_cycle_that_has_not_enough_diffs_goes_on_and_ends_with_the_one_that_was_missing(
    node, recorded, limit
):
    """Its time is over from the beginning; two reports are too few, the third ends it at once."""
    node.upload(timed(recorded, 0, **{limit: 3}))
    workers = [node.worker("fixture-linear") for _ in range(4)]
    for worker in workers[:2]:
        assert worker.report(DIFF) == {"status": "success"}
    assert node.worker("fixture-linear").accepted["status"] == "accepted"
    assert not node.checkpoint("fixture-linear", 2).ok
    assert workers[2].report(DIFF) == {"status": "success"}
    wait_for(lambda: node.checkpoint("fixture-linear", 2).ok)

    assert differs_by(node, DIFF)
    assert "too late" in workers[3].report(DIFF)["error"]


@pytest.mark.moto
def test_a_cycle_whose_time_was_over_while_no_node_ran_ends_at_the_start(start_node, recorded):
    """The timer is made anew from the database."""
    first = start_node()
    first.upload(timed(recorded, 2))
    assert first.worker("fixture-linear").report(DIFF) == {"status": "success"}
    assert not first.checkpoint("fixture-linear", 2).ok
    first.close()
    second = start_node()
    wait_for(lambda: second.checkpoint("fixture-linear", 2).ok)

    assert differs_by(second, DIFF)
