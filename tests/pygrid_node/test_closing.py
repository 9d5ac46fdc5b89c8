"""A full cycle is closed once, whoever dies or comes second, and without holding anybody up."""

import asyncio
import json
import threading
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from pygrid_node.averaging.averager import Averager
from pygrid_node.averaging.closing import CycleCloser
from pygrid_node.entities import Worker
from pygrid_node.errors import CycleFull, CycleOver, NodeError
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.database import Database
from pygrid_node.storage.models import ProcessStore
from pygrid_node.storage.outbox import Outbox
from pygrid_node.training import Listener, Training
from pygrid_node.transport.messages import CYCLE_REQUEST, Messages
from pygrid_node.uploads import read_upload

DIFF = (Path(__file__).parents[1] / "data" / "pygrid" / "linear" / "diff-1.bin").read_bytes()


class Scene:
    """A node's stores, with a process whose first cycle has the one diff that it wants."""

    def __init__(self, url, upload):
        self.database = Database(url)
        self.processes, self.cycles = ProcessStore(self.database), CycleStore(self.database)
        self.outbox = Outbox(self.database)
        self.closer = CycleCloser(self.processes, self.cycles, clock=lambda: 1000.0)
        self.now = 500.0
        self.told = []
        self.training = self.new_training()
        self.processes.add(read_upload(upload), now=0.0)
        self.cycle = self.cycles.open_cycle(1)
        self.worker = Worker("w", 1)
        self.cycles.add_worker(self.worker)
        self.assignment = self.place(self.worker, "key")
        assert self.cycles.count_diff(self.assignment, DIFF, now=1.0)

    def new_training(self, on_due=None):
        listener = Listener(on_due or self.told.append, on_open=lambda: None)
        clock = lambda: self.now  # noqa: E731
        return Training(self.processes, self.cycles, listener, place_lifetime=300, clock=clock)

    def place(self, worker, key):
        self.cycles.assign(worker, self.cycle, key, now=0.0, lapses_at=300.0, most=None)
        [assignment] = self.cycles.assignments(worker)
        return assignment

    def request(self):
        return {"worker_id": "w", "model": "fixture-linear", "ping": 1, "download": 1, "upload": 1}

    def numbers(self):
        """The checkpoints that there are."""
        return [number for number in (1, 2, 3, 4) if self.has_checkpoint(number)]

    def has_checkpoint(self, number):
        try:
            return bool(self.processes.checkpoint(1, number))
        except NodeError:
            return False


def close(scene):
    for _ in scene.closer.close(scene.cycle.id):
        pass


@pytest.fixture
def scene(tmp_path, recorded):
    """See `Scene`."""
    scene = Scene(f"sqlite:///{tmp_path}/db", recorded(server_config__max_diffs=1)["data"])
    yield scene
    scene.database.close()


def test_a_cycle_is_closed_in_one_transaction(scene):
    """Checkpoint, next cycle and progress are there together; the diffs are gone."""
    close(scene)
    following = scene.cycles.open_cycle(1)

    assert scene.numbers() == [1, 2]
    assert (following.number, following.ends_at, following.counted) == (2, 1600.0, 0)
    assert json.loads(scene.outbox.first(1).body) == {
        "percent_complete": 50,
        "model_id": "fixture-linear",
        "cycle": 1,
    }
    assert scene.cycles.diff_ids(scene.cycle.id) == []


def test_a_cycle_is_not_closed_twice(scene):
    """Of two processes that averaged the same cycle, the second one's transaction changes nothing."""
    process = scene.processes.get(1)
    closed = [scene.cycles.close(scene.cycle, process, b"state", 0.0) for _ in range(2)]
    close(scene)

    assert closed == [True, False]
    assert scene.numbers() == [1, 2]
    assert scene.cycles.open_cycle(1).number == 2


@pytest.mark.parametrize("moment", ["diff_ids", "diff"])
def test_diffs_that_vanish_while_averaging_mean_that_somebody_was_first(scene, moment, monkeypatch):
    """Whoever closes a cycle deletes its diffs; the other one leaves it at that."""
    original = getattr(scene.cycles, moment)

    def overtaken(*args):
        scene.cycles.close(scene.cycle, scene.processes.get(1), b"theirs", 0.0)
        return original(*args)

    monkeypatch.setattr(scene.cycles, moment, overtaken)
    close(scene)

    assert scene.processes.checkpoint(1, 2).read() == b"theirs"


def test_a_crash_in_the_closing_transaction_changes_nothing(scene, monkeypatch):
    """The cycle stays full and open, which is what the next start looks for."""

    def crash(*_args):
        raise OperationalError("disk full", None, Exception())

    monkeypatch.setattr("pygrid_node.storage.cycles._open_next", crash)
    with pytest.raises(OperationalError):
        close(scene)

    assert scene.numbers() == [1]
    assert scene.outbox.waiting() == []
    assert scene.cycles.due(0.0) == [scene.cycle.id]


def test_averaging_that_stops_between_two_diffs_changes_nothing(scene):
    """A node that goes down does not finish a long average; its next life does."""
    next(scene.closer.close(scene.cycle.id))

    assert scene.numbers() == [1]
    assert scene.cycles.due(0.0) == [scene.cycle.id]


def test_more_diffs_than_wanted_are_refused(scene):
    """The mean is of exactly the diffs whose workers were told so."""
    late = Worker("late", 1)
    scene.cycles.add_worker(late)
    assignment = scene.place(late, "other")
    with pytest.raises(CycleOver):
        scene.cycles.count_diff(assignment, DIFF, now=2.0)

    assert len(scene.cycles.diff_ids(scene.cycle.id)) == 1
    assert not scene.cycles.places(late, 1)[0].is_counted


def test_a_failed_averaging_is_tried_again(scene, monkeypatch):
    """Until it succeeds; nobody has to ask for it."""
    monkeypatch.setattr("pygrid_node.averaging.averager._FIRST_PAUSE", 0.01)
    original, failures, told = scene.cycles.diff_ids, [1, 2], []

    def failing(cycle_id):
        if failures:
            raise OperationalError("locked", None, Exception(failures.pop()))
        return original(cycle_id)

    monkeypatch.setattr(scene.cycles, "diff_ids", failing)

    async def run():
        averager = Averager(scene.closer, on_closed=lambda: told.append(True))
        averager.wake_from_thread(scene.cycle.id)
        await averager.start()
        averager.wake(scene.cycle.id)
        await averager.settled(scene.cycle.id, within=5)
        await averager.settled(scene.cycle.id, within=5)
        await averager.stop()

    asyncio.run(run())
    assert scene.numbers() == [1, 2]
    assert told == [True]


def test_a_long_averaging_ends_with_the_node(scene, monkeypatch):
    """`stop` waits for the step that runs, not for the cycle."""
    reached, go_on = threading.Event(), threading.Event()
    original = scene.cycles.diff_ids

    def slow(cycle_id):
        reached.set()
        go_on.wait(5)
        return original(cycle_id)

    monkeypatch.setattr(scene.cycles, "diff_ids", slow)

    async def run():
        averager = Averager(scene.closer, on_closed=lambda: None)
        averager.wake(scene.cycle.id)
        await asyncio.to_thread(reached.wait)
        stopping = asyncio.create_task(averager.stop())
        await asyncio.sleep(0.01)
        go_on.set()
        await stopping

    asyncio.run(run())
    assert scene.numbers() == [1]


class EndlessCloser:
    """Averages cycle 99 in two steps, and every other one for as long as it is let."""

    def __init__(self):
        self.begun = set()

    def close(self, cycle_id):
        while cycle_id != 99 or cycle_id not in self.begun:
            self.begun.add(cycle_id)
            yield


def test_averaging_of_one_model_holds_up_no_other():
    """There are fewer threads than models that never come to their end, and a small one ends all the same."""
    closer, closed = EndlessCloser(), asyncio.Event()

    async def run():
        averager = Averager(closer, on_closed=closed.set)
        await averager.start()
        for cycle_id in (*range(20), 99):
            averager.wake(cycle_id)
        await asyncio.wait_for(closed.wait(), timeout=10)
        await averager.stop()

    asyncio.run(run())
    assert closer.begun == {*range(20), 99}


def test_a_worker_that_comes_to_a_full_cycle_is_kept_waiting_or_sent_away(scene, monkeypatch):
    """It enters the next cycle if that opens soon enough, else it hears to come again in a second."""
    monkeypatch.setattr("pygrid_node.transport.messages._PATIENCE", 0.01)
    with pytest.raises(CycleFull):
        scene.training.request_cycle(scene.request())

    async def ask(averages):
        averager = Averager(scene.closer, on_closed=lambda: None)
        await averager.start()
        training = scene.new_training(on_due=averager.wake_from_thread if averages else None)
        monkeypatch.setattr("pygrid_node.transport.messages._PATIENCE", 5 if averages else 0.01)
        try:
            return await Messages(training, averager, admission=None).answer(CYCLE_REQUEST, scene.request())
        finally:
            await averager.stop()

    rejected = asyncio.run(ask(False))
    accepted = asyncio.run(ask(True))
    assert (rejected["status"], rejected["timeout"]) == ("rejected", 1)
    assert accepted["status"] == "accepted"
    assert scene.told == [scene.cycle.id] * 3


def test_a_worker_is_not_told_a_time_that_has_passed(scene):
    """A cycle that is late ends with the next good diff, which may be soon."""
    close(scene)
    scene.now = 9000.0
    scene.training.request_cycle(scene.request())

    assert scene.training.request_cycle(scene.request())["timeout"] == 30


def test_what_a_worker_was_told_is_accepted_is_on_the_disk(scene):
    """A power cut takes nothing back but what was asked for since, and can be asked for again."""
    settings = []
    for synced in (False, True, False):
        with scene.database.writing(synced=synced) as connection:
            settings.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())
    with scene.database.writing() as connection:
        settings.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())

    assert settings == [1, 2, 1, 2]  # 1: NORMAL, 2: FULL
