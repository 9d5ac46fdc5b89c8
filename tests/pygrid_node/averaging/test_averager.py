"""Cycles are closed when they are due: by count, by time, after failures, and after a restart."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pygrid_node.averaging.averager import Averager
from pygrid_node.backoff import Backoff
from pygrid_node.entities import Cycle
from pygrid_wire import decode_state, encode_state
from tests.pygrid_node.helpers import wait_for

DIFF = (Path(__file__).parents[2] / "data" / "pygrid" / "linear" / "diff-1.bin").read_bytes()
SOON = Backoff(first=0.01, longest=0.01)


class Cycles:
    """Open cycles by id and end, each with a diff, on a clock that tests set. Closes them, too."""

    def __init__(self, ends, failures=0, opens_at=None):
        self.now = 0.0
        self.opens_at = opens_at
        self.ends = ends
        self.failures = failures
        self.reads = 0
        self.closed = []

    def clock(self):
        return self.now

    def all_open(self):
        self.reads += 1
        if self.reads <= self.failures:
            raise OSError("no connection")
        return [
            Cycle(each, 1, 1, end, 2, 1, 1, is_closed=False, opens_at=self.opens_at)
            for each, end in self.ends.items()
        ]

    def is_large(self, _cycle_id):
        return False

    def close(self, cycle_id):
        self.closed.append(cycle_id)
        self.ends.pop(cycle_id, None)
        yield


@contextlib.asynccontextmanager
async def running(closer, cycles=None):
    """Run an averager; yields it and an event that is set after each closed cycle."""
    cycles = cycles or Cycles({})
    closed = asyncio.Event()
    averager = Averager(closer, cycles, closed.set, clock=cycles.clock, backoff=SOON)
    averager.cycle_was_opened()
    averager.cycle_is_due(1)
    await averager.start()
    yield averager, closed
    await averager.stop()


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, timeout=10))


def test_due_cycles_are_closed_at_the_start_and_when_a_cycle_was_opened():
    """Cycles may become due while the node does not run."""
    cycles = Cycles({1: 0.0, 2: 5000.0})

    async def story():
        async with running(cycles, cycles) as (averager, closed):
            await closed.wait()
            closed.clear()
            cycles.now = 100.0
            cycles.ends[3] = 90.0
            await asyncio.to_thread(averager.cycle_was_opened)
            await closed.wait()

    run(story())
    assert cycles.closed == [1, 3]


def test_timer_closes_a_cycle_when_its_time_is_over():
    """The timer reads the database only for that."""
    cycles = Cycles({7: 0.05})
    started = time.monotonic()
    cycles.clock = lambda: time.monotonic() - started

    async def story():
        async with running(cycles, cycles) as (_, closed):
            await closed.wait()

    run(story())
    assert cycles.closed == [7]
    assert cycles.reads <= 4


def test_timer_looks_again_when_a_pending_cycle_opens():
    """The cycle may have opened, and so end, earlier than was planned when the timer was set."""
    cycles = Cycles({7: 5000.0}, opens_at=0.05)
    started = time.monotonic()
    cycles.clock = lambda: time.monotonic() - started

    async def story():
        async with running(cycles, cycles) as (_, closed):
            while not cycles.reads:
                await asyncio.sleep(0.01)
            cycles.ends[7], cycles.opens_at = 0.2, None
            await closed.wait()

    run(story())
    assert cycles.closed == [7]


def test_timer_survives_a_database_that_fails():
    """It reads again after a pause."""
    cycles = Cycles({1: 0.0}, failures=2)

    async def story():
        async with running(cycles, cycles) as (_, closed):
            await closed.wait()

    run(story())
    assert cycles.closed == [1]


@pytest.mark.parametrize("turns", range(5))
def test_timer_can_be_stopped_at_the_moment_when_it_is_set(turns):
    """A node that closes a cycle while it stops must not hang."""
    cycles = Cycles({1: 5000.0})

    async def story():
        async with running(cycles, cycles) as (averager, _):
            while not cycles.reads:
                await asyncio.sleep(0.01)
            averager.cycle_was_opened()
            for _ in range(turns):
                await asyncio.sleep(0)

    run(story())
    assert cycles.closed == []


def test_averager_that_was_not_started_can_be_stopped():
    """A node may fail to start."""
    run(Averager(None, None, lambda: None).stop())


class FailingCloser:
    """Fails twice, then closes a cycle."""

    def __init__(self):
        self.attempts = 0

    def is_large(self, _cycle_id):
        return True

    def close(self, _cycle_id):
        self.attempts += 1
        if self.attempts <= 2:
            raise OSError("locked")
        yield


def test_failed_averaging_is_repeated_until_it_succeeds():
    """No further report is needed."""
    closer = FailingCloser()

    async def story():
        async with running(closer) as (averager, closed):
            averager.cycle_is_due(1)
            averager.cycle_is_due(1)
            await asyncio.sleep(0)
            await averager.wait_until_closed(1, at_most=5)
            await averager.wait_until_closed(1, at_most=5)
            return closed.is_set()

    assert run(story())
    assert closer.attempts == 3


class SlowCloser:
    """Its first step waits for the test."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.finished = False

    def is_large(self, _cycle_id):
        return False

    def close(self, _cycle_id):
        self.reached.set()
        self.go_on.wait(5)
        time.sleep(0.1)  # longer than a time slice
        yield
        self.finished = True


def test_stopping_waits_for_the_step_that_runs_and_not_for_the_cycle():
    """The rest of a long averaging is done after the next start."""
    closer = SlowCloser()

    async def story():
        async with running(closer) as (averager, closed):
            averager.cycle_is_due(1)
            await asyncio.to_thread(closer.reached.wait)
            stopping = asyncio.create_task(averager.stop())
            await asyncio.sleep(0.01)
            closer.go_on.set()
            await stopping
            return closed.is_set()

    assert not run(story())
    assert not closer.finished


class EndlessCloser:
    """Averages cycle 99 in two steps, and every other cycle forever; cycles from 10 on are small."""

    def __init__(self):
        self.started = set()

    def is_large(self, cycle_id):
        return cycle_id < 10

    def close(self, cycle_id):
        while cycle_id != 99 or cycle_id not in self.started:
            self.started.add(cycle_id)
            yield
            time.sleep(0.001)


def test_averaging_of_large_models_does_not_delay_a_small_one():
    """There are more endless averagings than threads; one large model at a time takes memory."""
    closer = EndlessCloser()

    async def story():
        async with running(closer) as (averager, closed):
            for cycle_id in (*range(20), 99):
                averager.cycle_is_due(cycle_id)
            await closed.wait()

    run(story())
    assert {*range(10, 20), 99} < closer.started
    assert len([cycle_id for cycle_id in closer.started if cycle_id < 10]) == 1


class CountingCloser:
    """Averages a cycle in two time slices, and counts how many are in progress at the same time."""

    def __init__(self, *, large):
        self.large = large
        self.in_progress = self.most = self.closed = 0

    def is_large(self, _cycle_id):
        return self.large

    def close(self, _cycle_id):
        self.in_progress += 1
        self.most = max(self.most, self.in_progress)
        time.sleep(0.06)  # longer than a time slice
        yield
        self.in_progress -= 1
        self.closed += 1
        if self.closed == 1:
            raise MemoryError


@pytest.mark.parametrize(("large", "most"), [(True, 1), (False, 16)])
def test_memory_does_not_grow_with_the_number_of_due_cycles(large, most):
    """A large averaging waits for the one before it, a small one for sixteen; a failure is no exception."""
    closer = CountingCloser(large=large)

    async def story():
        async with running(closer) as (averager, _):
            for cycle_id in range(1, 5 * most):
                averager.cycle_is_due(cycle_id)
            while closer.closed < 5 * most:
                await asyncio.sleep(0.01)

    run(story())
    assert closer.most == most


def timed(recorded, length, **changes):
    limits = {"cycle_length": length, "max_diffs": 5, "num_cycles": 1} | changes
    data = {key: limits.pop(key) for key in ("model", "averaging_plan") if key in limits}
    return recorded(**data, **{f"server_config__{key}": value for key, value in limits.items()})


def differs_by(node, diff, cycle=1):
    checkpoints = (node.checkpoint("fixture-linear", number) for number in (cycle, cycle + 1))
    old, new = (decode_state(checkpoint.content) for checkpoint in checkpoints)
    steps = decode_state(diff)
    return all(
        np.abs(before - step - after).max() < 1e-6
        for before, step, after in zip(old, steps, new, strict=True)
    )


@pytest.mark.moto
def test_each_cycle_ends_by_time_with_the_diffs_it_has(node, orchestrator, recorded):
    """Each cycle has one worker, so its diff is the average."""
    node.upload(timed(recorded, 0.5, num_cycles=2))
    for cycle in (1, 2):
        worker = node.worker("fixture-linear")
        assert worker.report(DIFF) == {"status": "success"}
        wait_for(lambda cycle=cycle: len(orchestrator.calls) == cycle)
        assert differs_by(node, DIFF, cycle)

    assert [call["percent_complete"] for call in orchestrator.calls] == [50, 100]


@pytest.mark.moto
@pytest.mark.parametrize("limit", ["min_diffs", "min_workers"])
def test_late_cycle_without_enough_diffs_ends_with_the_missing_one(node, recorded, limit):
    """Its time is over at the start; the third diff is enough."""
    node.upload(timed(recorded, 0, **{limit: 3}))
    workers = [node.worker("fixture-linear") for _ in range(4)]
    for worker in workers[:2]:
        assert worker.report(DIFF) == {"status": "success"}
    assert node.worker("fixture-linear").accepted["status"] == "accepted"
    assert not node.checkpoint("fixture-linear", 2).ok
    assert workers[2].report(DIFF) == {"status": "success"}
    wait_for(lambda: node.checkpoint("fixture-linear", 2).ok)

    assert differs_by(node, DIFF)
    assert not workers[3].report(DIFF)["counted"]


@pytest.mark.moto
def test_cycle_that_became_due_while_the_node_was_stopped_is_closed_at_the_start(start_node, recorded):
    """The timer is set from the database."""
    first = start_node()
    first.upload(timed(recorded, 2))
    assert first.worker("fixture-linear").report(DIFF) == {"status": "success"}
    assert not first.checkpoint("fixture-linear", 2).ok
    first.close()
    second = start_node()
    wait_for(lambda: second.checkpoint("fixture-linear", 2).ok)

    assert differs_by(second, DIFF)


@pytest.mark.moto
def test_cycle_that_cannot_be_averaged_is_skipped_and_reported(start_node, orchestrator, recorded):
    """Here the node has less memory than before; workers go on with the next cycle."""
    first = start_node()
    first.upload(timed(recorded, 600, max_diffs=1, num_cycles=2))
    first.close()
    second = start_node(max_averaging_bytes=8)
    worker = second.worker("fixture-linear")
    assert worker.report(DIFF) == {"status": "success"}
    [message] = wait_for(lambda: list(orchestrator.calls))
    checkpoints = [second.checkpoint("fixture-linear", number).content for number in (1, 2)]

    assert (message["percent_complete"], message["cycle"]) == (50, 1)
    assert message["skipped"].endswith("averaging them failed 3 times.")
    assert checkpoints[0] == checkpoints[1]
    assert second.worker("fixture-linear").accepted["status"] == "accepted"


@pytest.mark.moto
def test_node_that_stops_counts_no_attempt(start_node, tmp_path, recorded):
    """The averaging of a large model is stopped in the middle, or has ended."""
    model = encode_state([np.zeros(5_000_000, np.float32)])
    node = start_node()
    node.upload(timed(recorded, 600, max_diffs=2, averaging_plan="", model=model.hex()))
    for worker in [node.worker("fixture-linear") for _ in range(2)]:
        assert worker.report(model) == {"status": "success"}
    with contextlib.closing(sqlite3.connect(tmp_path / "database" / "fixturenodedb")) as database:
        read = "SELECT sum(attempts) FROM cycles WHERE closed_at IS NULL"
        opened = "SELECT sum(attempts) + count(closed_at) FROM cycles"
        wait_for(lambda: database.execute(opened).fetchone() != (0,))
        node.close()

        assert database.execute(read).fetchone() in ((0,), (None,))
