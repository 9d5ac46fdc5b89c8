"""A due cycle is closed once, in one transaction, even if replicas fail or close it concurrently."""

import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from pygrid_node.averaging.closing import CycleCloser
from pygrid_node.entities import Worker
from pygrid_node.errors import CheckpointNotFound, CycleOver, InvalidRequest
from pygrid_node.settings import Settings
from pygrid_node.storage.cycles import CycleStore, Outbox
from pygrid_node.storage.database import Database
from pygrid_node.storage.models import ModelStore
from pygrid_node.uploads import read_upload
from pygrid_wire import decode_state, encode_state

DIFF = (Path(__file__).parents[2] / "data" / "pygrid" / "linear" / "diff-1.bin").read_bytes()


class Scene:
    """The stores of a node with a model whose first cycle has the one diff that it wants."""

    def __init__(self, url, upload, diff=DIFF):
        self.database = Database(url)
        self.models, self.cycles = ModelStore(self.database), CycleStore(self.database)
        self.outbox = Outbox(self.database)
        self.closer = CycleCloser(self.models, self.cycles, clock=lambda: 1000.0)
        self.models.add(read_upload(upload), now=0.0)
        self.cycle = self.cycles.open_cycle(1)
        assert self.cycles.count_diff(self.assign("w"), diff, now=1.0)

    def assign(self, worker_id):
        worker = Worker(worker_id, 1)
        self.cycles.add_worker(worker)
        self.cycles.assign(worker, self.cycle, "key", now=0.0, expires_at=300.0, most_assigned=None)
        [assignment] = self.cycles.assignments(worker_id)
        return assignment

    def close(self):
        for _ in self.closer.close(self.cycle.id):
            pass

    def close_as_another_replica(self):
        assert self.cycles.close(self.cycle, self.models.get(1), b"theirs", 0.0)

    @property
    def checkpoints(self):
        """The numbers of the checkpoints."""
        return [number for number in (1, 2, 3, 4) if self.has_checkpoint(number)]

    def has_checkpoint(self, number):
        try:
            return bool(self.models.checkpoint(1, number))
        except CheckpointNotFound:
            return False

    @property
    def is_due(self):
        return [cycle.id for cycle in self.cycles.all_open() if cycle.is_due(0.0)] == [self.cycle.id]


@pytest.fixture
def scene(tmp_path, recorded):
    """See `Scene`."""
    scene = Scene(f"sqlite:///{tmp_path}/db", recorded(server_config__max_diffs=1)["data"])
    yield scene
    scene.database.close()


def test_cycle_is_closed_in_one_transaction(scene):
    """Checkpoint, next cycle and progress message exist; the diffs are deleted."""
    scene.close()
    following = scene.cycles.open_cycle(1)
    with scene.database.reading() as connection:
        diffs = connection.execute(text("SELECT count(*) FROM diffs")).scalar()

    assert scene.checkpoints == [1, 2]
    assert (following.number, following.ends_at, following.counted) == (2, 1600.0, 0)
    [message] = scene.outbox.oldest_of_each_model()
    assert json.loads(message.body) == {
        "percent_complete": 50,
        "model_id": "fixture-linear",
        "cycle": 1,
        "cycles": 2,
    }
    assert diffs == 0


def test_cycle_is_not_closed_twice(scene):
    """The transaction of the second of two replicas changes nothing."""
    scene.close_as_another_replica()
    again = scene.cycles.close(scene.cycle, scene.models.get(1), b"state", 0.0)
    scene.close()

    assert again is False
    assert scene.checkpoints == [1, 2]
    assert scene.cycles.open_cycle(1).number == 2


def test_cycle_that_another_replica_closes_after_it_was_sealed_is_left_alone(scene):
    """Its diffs are deleted before the first one is read."""
    seal = scene.cycles.seal

    class Overtaken(CycleStore):
        def seal(self, cycle_id, now):
            sealed = seal(cycle_id, now)
            scene.close_as_another_replica()
            return sealed

    closer = CycleCloser(scene.models, Overtaken(scene.database), clock=lambda: 1000.0)

    assert list(closer.close(scene.cycle.id)) == []
    assert scene.models.checkpoint(1, 2).read() == b"theirs"


def test_cycle_that_another_replica_closes_during_the_averaging_is_left_alone(tmp_path, recorded):
    """Its diffs are deleted after the first one was read."""
    scene = Scene(f"sqlite:///{tmp_path}/db", recorded(server_config__max_diffs=2)["data"])
    assert scene.cycles.count_diff(scene.assign("second"), DIFF, now=2.0)
    steps = scene.closer.close(scene.cycle.id)
    next(steps)
    scene.close_as_another_replica()

    assert list(steps) == []
    assert scene.models.checkpoint(1, 2).read() == b"theirs"
    scene.database.close()


def test_crash_in_the_closing_transaction_changes_nothing(scene):
    """The cycle stays due; here the row of the next cycle violates a constraint."""
    with scene.database.writing() as connection:
        connection.execute(
            text(
                "INSERT INTO cycles (process_id, number, ends_at, wanted, counted, closed_at)"
                " VALUES (1, 2, 0, 1, 0, 1)"
            )
        )
    with pytest.raises(IntegrityError) as error:
        scene.close()

    assert isinstance(error.value.orig, sqlite3.IntegrityError)
    assert scene.checkpoints == [1]
    assert scene.outbox.oldest_of_each_model() == []
    assert scene.is_due


def test_averaging_that_stops_between_two_diffs_changes_nothing(scene):
    """A node that stops does not finish a long averaging; it starts again with the node."""
    next(scene.closer.close(scene.cycle.id))

    assert scene.checkpoints == [1]
    assert scene.is_due


def fail(scene, times):
    """Let the averaging fail, as a model does that needs more memory than the node has."""
    closer = CycleCloser(scene.models, scene.cycles, clock=lambda: 1000.0, most_memory=1)
    for _ in range(times):
        with pytest.raises(InvalidRequest, match="bytes of memory; this node has 1 "):
            list(closer.close(scene.cycle.id))


def test_cycle_whose_averaging_failed_three_times_is_skipped(scene):
    """The model goes on from the same numbers; the progress message says why."""
    fail(scene, 3)
    assert scene.checkpoints == [1]
    scene.close()
    following = scene.cycles.open_cycle(1)
    with scene.database.reading() as connection:
        diffs = connection.execute(text("SELECT count(*) FROM diffs")).scalar()

    assert scene.models.checkpoint(1, 2).read() == scene.models.checkpoint(1, 1).read()
    assert (following.number, following.ends_at, following.attempts, diffs) == (2, 1600.0, 0, 0)
    [message] = scene.outbox.oldest_of_each_model()
    assert json.loads(message.body) == {
        "percent_complete": 50,
        "model_id": "fixture-linear",
        "cycle": 1,
        "cycles": 2,
        "skipped": "Cycle 1 was closed without its reports, and the model is unchanged:"
        " averaging them failed 3 times.",
    }


def test_cycle_whose_averaging_failed_twice_is_averaged(scene):
    """The next cycle starts with no failure."""
    fail(scene, 2)
    scene.close()

    assert scene.models.checkpoint(1, 2).read() != scene.models.checkpoint(1, 1).read()
    assert "skipped" not in json.loads(scene.outbox.oldest_of_each_model()[0].body)


def test_end_of_the_process_counts_as_a_failure(scene):
    """Nothing else is seen of an averaging that needs too much memory."""
    for _ in range(3):
        next(CycleCloser(scene.models, scene.cycles, clock=lambda: 1000.0).close(scene.cycle.id))
    assert scene.checkpoints == [1]
    scene.close()

    assert "skipped" in json.loads(scene.outbox.oldest_of_each_model()[0].body)


def test_planned_stop_does_not_count_as_a_failure(scene):
    """A node may be replaced often while a large model is averaged."""
    for _ in range(5):
        closer = CycleCloser(scene.models, scene.cycles, clock=lambda: 1000.0)
        next(closer.close(scene.cycle.id))
        assert scene.cycles.open_cycle(1).attempts == 1
        closer.stop()
        assert scene.cycles.open_cycle(1).attempts == 0
    scene.close()

    assert "skipped" not in json.loads(scene.outbox.oldest_of_each_model()[0].body)


def test_failure_of_the_database_does_not_count(scene):
    """The attempt goes on as soon as the database answers, also if it is the last one."""
    fail(scene, 2)

    class Away(CycleStore):
        def diffs(self, _cycle):
            raise OperationalError("SELECT", {}, OSError("no connection"))

    closer = CycleCloser(scene.models, Away(scene.database), clock=lambda: 1000.0)
    for _ in range(5):
        with pytest.raises(OperationalError):
            list(closer.close(scene.cycle.id))
    assert scene.cycles.open_cycle(1).attempts == 3
    closer.stop()
    scene.close()

    assert "skipped" not in json.loads(scene.outbox.oldest_of_each_model()[0].body)


def test_node_stops_even_if_its_attempts_cannot_be_taken_back(scene):
    """The database may be away; then they count."""

    class Away(CycleStore):
        def take_back_attempts(self, _cycle_ids):
            raise OperationalError("UPDATE", {}, OSError("no connection"))

    closer = CycleCloser(scene.models, Away(scene.database), clock=lambda: 1000.0)
    next(closer.close(scene.cycle.id))
    closer.stop()

    assert scene.cycles.open_cycle(1).attempts == 1


def test_cycle_is_not_skipped_if_another_replica_has_closed_it_or_stopped(scene):
    """The last of the three attempts may be that of a replica that is being replaced."""
    fail(scene, 3)
    failed = scene.cycles.open_cycle(1)
    model = scene.models.get(1)
    scene.cycles.take_back_attempts([failed.id])
    skipped = [scene.cycles.skip(failed, model, "why", 1000.0)]
    scene.cycles.begin_attempt(failed.id)
    scene.close_as_another_replica()
    skipped.append(scene.cycles.skip(failed, model, "why", 1000.0))

    assert skipped == [False, False]
    assert scene.models.checkpoint(1, 2).read() == b"theirs"


def test_only_a_small_averaging_that_has_not_failed_is_small(tmp_path, recorded):
    """Of the others one runs at a time, so that none fails because of another one."""
    upload = recorded(model=encode_state([np.zeros(1_200_000, np.float32)]).hex(), averaging_plan="")
    scene = Scene(f"sqlite:///{tmp_path}/db", recorded(server_config__max_diffs=1, averaging_plan="")["data"])
    upload["data"]["client_config"]["name"] = "large"
    scene.models.add(read_upload(upload["data"]), now=0.0)
    small, large = scene.cycles.all_open()
    refusing = CycleCloser(scene.models, scene.cycles, most_memory=1)

    assert [scene.closer.is_large(each) for each in (small.id, large.id, 99)] == [False, True, True]
    assert refusing.is_large(small.id)
    fail(scene, 1)
    assert scene.closer.is_large(small.id)
    scene.database.close()


@pytest.mark.moto
def test_cycle_of_a_model_of_several_parts_is_skipped(database_url, node_id, recorded):
    """The database copies the checkpoint: the node might not have the memory."""
    body = encode_state([np.random.default_rng(1).normal(size=600_000).astype(np.float32)])
    changes = {"model": body.hex(), "averaging_plan": "", "server_config__max_diffs": 1}
    settings = Settings(node_id=node_id, database_url=database_url)
    scene = Scene(settings.database, recorded(**changes)["data"], body)
    for _ in range(3):
        scene.cycles.begin_attempt(scene.cycle.id)
    scene.close()
    again = scene.models.checkpoint(1, 2).read()
    scene.database.close()

    assert again == body


def test_cycle_that_is_not_due_is_not_averaged(tmp_path, recorded):
    """It has one of three diffs, and its time is not over."""
    scene = Scene(f"sqlite:///{tmp_path}/db", recorded(server_config__cycle_length=2000)["data"])
    scene.close()

    assert scene.checkpoints == [1]
    assert scene.cycles.cycle(scene.cycle.id) == scene.cycles.open_cycle(1)
    scene.database.close()


def test_more_diffs_than_wanted_are_refused(scene):
    """The average contains exactly the diffs whose workers got "success"."""
    late = scene.assign("late")
    with pytest.raises(CycleOver):
        scene.cycles.count_diff(late, DIFF, now=2.0)

    assert scene.cycles.cycle(scene.cycle.id).counted == 1
    assert not scene.cycles.leases(Worker("late", 1), 1)[0].is_counted


def test_model_of_several_parts_is_averaged(tmp_path, recorded):
    """Model and diffs are stored in parts of 1 MB, and read one after the other."""
    old, step = (np.random.default_rng(seed).normal(size=600_000).astype(np.float32) for seed in (1, 2))
    upload = recorded(model=encode_state([old]).hex(), averaging_plan="", server_config__max_diffs=1)["data"]
    scene = Scene(f"sqlite:///{tmp_path}/db", upload, encode_state([step]))
    scene.close()
    [new] = decode_state(scene.models.checkpoint(1, 2).read())
    scene.database.close()

    assert np.array_equal(new, (old - step.astype(np.float64)).astype(np.float32))
