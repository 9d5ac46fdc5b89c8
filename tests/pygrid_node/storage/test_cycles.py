"""Rules that hold on SQLite and on PostgreSQL, even if replicas act at the same moment."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from pygrid_node.averaging.closing import CycleCloser
from pygrid_node.entities import Worker
from pygrid_node.errors import AlreadyExists, CycleOver, InvalidRequest, ModelNotFound, WorkerNotFound
from pygrid_node.settings import Settings
from pygrid_node.storage.cycles import CycleStore, Outbox
from pygrid_node.storage.database import Database
from pygrid_node.storage.models import ModelStore
from pygrid_node.storage.schema import workers
from pygrid_node.uploads import read_upload
from pygrid_wire import decode_state
from tests.pygrid_node.helpers import wait_for

pytestmark = pytest.mark.moto

DATA = Path(__file__).parents[2] / "data" / "pygrid"
DIFF = (DATA / "linear" / "diff-1.bin").read_bytes()


@pytest.fixture
def start(start_node, database_url, node_id):
    """Start nodes on the database."""
    return lambda: start_node(database_url=database_url, node_id=node_id)


class Replica:
    """The stores of one node process; other replicas use the same database."""

    def __init__(self, url):
        self.database = Database(url)
        self.models, self.cycles = ModelStore(self.database), CycleStore(self.database, opening_delay=2.0)
        self.outbox = Outbox(self.database)
        self.closer = CycleCloser(self.models, self.cycles, clock=lambda: 1000.0)

    def enter(self, name, cycle):
        worker = Worker(name, cycle.model_id)
        self.cycles.add_worker(worker)
        self.assign(worker, cycle)
        [assignment] = self.cycles.assignments(worker.id)
        return assignment

    def assign(self, worker, cycle, most=None, now=0.0):
        return self.cycles.assign(worker, cycle, "key", now=now, expires_at=now + 10, most_assigned=most)


@pytest.fixture
def replicas(database_url, node_id):
    """Two replicas of one node."""
    settings = Settings(node_id=node_id, database_url=database_url, master_node_url="h:1")
    both = [Replica(settings.database) for _ in range(2)]
    yield both
    for replica in both:
        replica.database.close()


@pytest.fixture
def full(replicas, recorded):
    """A cycle with the one diff that it wants."""
    first = replicas[0]
    first.models.add(
        read_upload(recorded(server_config__max_diffs=1, server_config__num_cycles=3)["data"]), now=0.0
    )
    cycle = first.cycles.open_cycle(1)
    assert first.cycles.count_diff(first.enter("w", cycle), DIFF, now=1.0)
    return first.cycles.cycle(cycle.id)


def at_once(*calls):
    """Start calls at the same moment; return each result, or the class of its error."""
    together = threading.Barrier(len(calls))

    def run(call):
        together.wait()
        try:
            return call()
        except (AlreadyExists, CycleOver) as error:
            return type(error)

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


@pytest.mark.parametrize("process", ["linear", "linear-noavg"])
def test_recorded_process_ends_in_the_recorded_checkpoints(start, orchestrator, process):
    """Two cycles, to 1e-6 of what PyGrid calculated; the checkpoints are there after a restart."""
    expected = json.loads((DATA / process / "expected.json").read_text())
    node = start()
    node.frames((DATA / process / "upload.request.json").read_text())
    for number, over in [(1, "http"), (2, "http"), (3, "http"), (4, "ws"), (5, "ws"), (6, "ws")]:
        worker = node.worker(f"fixture-{process}", over)
        diff = (DATA / process / f"diff-{number}.bin").read_bytes()
        assert worker.report(diff) == {"status": "success"}
    wait_for(lambda: len(orchestrator.calls) == 2)
    node.close()
    again = start()

    for number in (1, 2, 3):
        arrays = decode_state(again.checkpoint(f"fixture-{process}", number).content)
        for array, want in zip(arrays, expected[f"checkpoint_{number}"], strict=True):
            assert np.abs(array - np.array(want)).max() <= 1e-6
    # A node that stops before it deletes an accepted message sends it again after the next start.
    assert [(call["percent_complete"], call["cycle"]) for call in orchestrator.calls[:2]] == [
        (50, 1),
        (100, 2),
    ]


def test_reports_at_the_same_time_all_count(start, recorded):
    """No report is lost, and the cycle is closed once."""
    size = 8
    node = start()
    node.upload(recorded(server_config__max_diffs=size, server_config__max_workers=size, averaging_plan=""))
    workers = [node.worker("fixture-linear") for _ in range(size)]
    with ThreadPoolExecutor(size) as threads:
        answers = list(threads.map(lambda worker: worker.report(DIFF), workers))
    wait_for(lambda: node.checkpoint("fixture-linear", 2).ok)
    before, after = (decode_state(node.checkpoint("fixture-linear", number).content) for number in (1, 2))

    assert answers == [{"status": "success"}] * size
    for old, new, step in zip(before, after, decode_state(DIFF), strict=True):
        assert np.abs(old - step - new).max() <= 1e-6


def test_progress_that_was_not_accepted_is_sent_after_a_restart(start, orchestrator, recorded):
    """The outbox is in the database."""
    node = start()
    node.upload(recorded(server_config__max_diffs=1))
    orchestrator.statuses = [503] * 10_000
    node.worker("fixture-linear").report(DIFF)
    wait_for(lambda: orchestrator.headers)
    node.close()
    orchestrator.statuses = []
    start()
    wait_for(lambda: orchestrator.calls)

    assert orchestrator.calls == [
        {"percent_complete": 50, "model_id": "fixture-linear", "cycle": 1, "cycles": 2}
    ]


def test_one_of_two_replicas_closes_a_cycle(replicas, full):
    """Both have averaged it; there is one checkpoint, one next cycle, one message."""
    first, second = replicas
    process = first.models.get(1)
    closed = at_once(
        lambda: first.cycles.close(full, process, b"first", 0.0),
        lambda: second.cycles.close(full, process, b"second", 0.0),
    )

    assert sorted(closed) == [False, True]
    assert second.models.checkpoint(1, 2).read() == (b"first" if closed[0] else b"second")
    assert first.cycles.open_cycle(1).number == 2
    [message] = second.outbox.oldest_of_each_model()
    assert message.model_id == 1
    first.outbox.delete(message, 0.0)
    assert second.outbox.oldest_of_each_model() == []


def test_two_replicas_that_average_at_once_close_the_cycle_once(replicas, full):
    """The second one finds the diffs deleted or the cycle closed, and stops."""
    first = replicas[0]
    outcomes = at_once(*(lambda each=each: list(each.closer.close(full.id)) for each in replicas))

    assert [None] in outcomes
    assert first.cycles.open_cycle(1).number == 2
    assert not any(cycle.is_due(0.0) for cycle in first.cycles.all_open())


def close(replica, cycle_id, now):
    """Close a cycle without its diffs; return the progress message of the model that is sent next."""
    cycle = replica.cycles.cycle(cycle_id)
    assert replica.cycles.skip(cycle, replica.models.get(cycle.model_id), "for a test", now)
    [message] = replica.outbox.oldest_of_each_model()
    return message


def test_next_cycle_opens_when_the_progress_is_accepted(replicas, full):
    """It is stored when its cycle closes, and has all its time from its opening on."""
    first, second = replicas
    message = close(first, full.id, now=100.0)
    before = second.cycles.open_cycle(1)
    second.outbox.delete(message, 100.5)
    after = first.cycles.open_cycle(1)

    assert before.is_pending(101.9)
    assert not after.is_pending(100.5)
    assert (before.ends_at, after.ends_at) == (702.0, 700.5)
    assert after.number == before.number == 2


def test_first_cycle_is_open(full):
    """No cycle before it has losses that the orchestrator could mix up with its own."""
    assert not full.is_pending(0.0)


def test_next_cycle_opens_after_its_delay_if_no_progress_is_accepted(replicas, full):
    """The orchestrator may be down for an hour; what it accepts later changes nothing."""
    first = replicas[0]
    message = close(first, full.id, now=100.0)
    before = first.cycles.open_cycle(1)
    first.outbox.delete(message, 3700.0)

    assert before.is_pending(101.9)
    assert not before.is_pending(102.0)
    assert first.cycles.open_cycle(1) == before


def test_cycle_stays_pending_while_the_progress_before_it_is_not_accepted(replicas, full):
    """The message of an earlier cycle, which was late, says nothing about this one."""
    first = replicas[0]
    late = close(first, full.id, now=100.0)
    close(first, first.cycles.open_cycle(1).id, now=200.0)
    first.outbox.delete(late, 200.5)
    [message] = first.outbox.oldest_of_each_model()

    assert first.cycles.open_cycle(1).is_pending(200.5)
    first.outbox.delete(message, 201.0)
    assert not first.cycles.open_cycle(1).is_pending(201.0)


def test_two_replicas_whose_message_is_accepted_open_the_cycle_once(replicas, full):
    """Both have sent it; the second acceptance takes no time from the cycle."""
    first, second = replicas
    message = close(first, full.id, now=100.0)
    at_once(*(lambda each=each: each.outbox.delete(message, 100.5) for each in replicas))

    assert second.cycles.open_cycle(1).ends_at == 700.5


def test_progress_of_one_model_opens_no_cycle_of_another(replicas, full, recorded):
    """Each model has an orchestrator's answer of its own."""
    first = replicas[0]
    first.models.add(read_upload(recorded(client_config__name="other")["data"]), now=0.0)
    message = close(first, full.id, now=100.0)
    other = first.cycles.open_cycle(2)
    first.cycles.skip(other, first.models.get(2), "for a test", 100.0)
    first.outbox.delete(message, 100.5)

    assert [first.cycles.open_cycle(model).is_pending(100.5) for model in (1, 2)] == [False, True]


def test_last_cycle_has_no_next_one(replicas, recorded):
    """Its message is deleted like any other."""
    first = replicas[0]
    first.models.add(read_upload(recorded(server_config__num_cycles=1)["data"]), now=0.0)
    message = close(first, first.cycles.open_cycle(1).id, now=100.0)
    first.outbox.delete(message, 100.5)

    assert first.cycles.open_cycle(1) is None
    assert first.outbox.oldest_of_each_model() == []


def test_without_a_delay_the_next_cycle_opens_at_once(replicas, full):
    """A node without an orchestrator waits for nothing."""
    first = replicas[0]
    cycles = CycleStore(first.database)
    cycles.skip(cycles.cycle(full.id), first.models.get(1), "for a test", 100.0)
    opened = cycles.open_cycle(1)

    assert not opened.is_pending(100.0)
    assert opened.ends_at == 700.0


def test_one_of_two_uploads_gets_a_name(replicas, recorded):
    """The other one is refused and leaves nothing."""
    upload = read_upload(recorded()["data"])
    outcomes = at_once(*(lambda each=each: each.models.add(upload, 0.0) for each in replicas))

    assert {str(outcome) for outcome in outcomes} == {str(None), str(AlreadyExists)}
    assert replicas[0].models.find("fixture-linear").plans.keys() == {"training_plan"}


def test_worker_that_asks_several_times_at_once_gets_one_assignment(replicas, recorded):
    """One of its requests is accepted."""
    first = replicas[0]
    first.models.add(read_upload(recorded()["data"]), now=0.0)
    cycle = first.cycles.open_cycle(1)
    worker = Worker("w", 1)
    first.cycles.add_worker(worker)
    outcomes = at_once(*(lambda each=each: each.assign(worker, cycle) for each in replicas * 3))

    assert sorted(outcomes, key=bool) == [None] * 5 + ["key"]
    assert len(first.cycles.assignments(worker.id)) == 1


def test_diff_that_is_reported_several_times_at_once_is_counted_once(replicas, recorded):
    """A cycle never counts more diffs than it wants."""
    first = replicas[0]
    first.models.add(read_upload(recorded(server_config__max_diffs=3)["data"]), now=0.0)
    cycle = first.cycles.open_cycle(1)
    assigned = [first.enter(f"w{number}", cycle) for number in range(4)]
    again = at_once(
        *(lambda each=each: each.cycles.count_diff(assigned[0], DIFF, 1.0) for each in replicas * 2)
    )
    rest = at_once(*(lambda each=each: first.cycles.count_diff(each, DIFF, 1.0) for each in assigned[1:]))

    assert [cycle and cycle.counted for cycle in again].count(1) == 1
    assert again.count(None) == 3
    assert sorted(2 if each is CycleOver else each.is_due(0.0) for each in rest) == [False, True, 2]
    assert len(list(first.cycles.diffs(first.cycles.cycle(cycle.id)))) == 3
    assert first.cycles.cycle(cycle.id).is_due(0.0)


def test_cycle_has_at_most_so_many_workers_when_many_ask_at_once(replicas, recorded):
    """An expired assignment goes to one other worker; the report of the first one still counts."""
    first = replicas[0]
    first.models.add(read_upload(recorded()["data"]), now=0.0)
    cycle = first.cycles.open_cycle(1)
    crowd = [Worker(f"w{number}", 1) for number in range(16)]
    for worker in crowd:
        first.cycles.add_worker(worker)

    def all_ask(now):
        requests = zip(crowd, replicas * 8, strict=True)
        return at_once(*(lambda pair=pair: pair[1].assign(pair[0], cycle, 2, now) for pair in requests))

    early, soon, late = all_ask(now=0.0), all_ask(now=9.0), all_ask(now=11.0)
    had = crowd[early.index("key")]

    assert [outcome.count("key") for outcome in (early, soon, late)] == [2, 0, 2]
    assert first.cycles.next_expiry(cycle, 11.0) == 21.0
    assert first.cycles.count_diff(first.cycles.assignments(had.id)[0], DIFF, 12.0).counted == 1


def test_no_more_reports_count_than_the_rules_allow_if_more_workers_are_assigned(replicas, recorded):
    """The spare workers ask, and report, at the same moment as the others, to two replicas."""
    first = replicas[0]
    rules = {"server_config__max_diffs": None, "server_config__max_workers": 4}
    first.models.add(read_upload(recorded(**rules)["data"]), now=0.0)
    cycle = first.cycles.open_cycle(1)
    crowd = [Worker(f"w{number}", 1) for number in range(12)]
    for worker in crowd:
        first.cycles.add_worker(worker)
    pairs = list(zip(crowd, replicas * 6, strict=True))
    keys = at_once(*(lambda pair=pair: pair[1].assign(pair[0], cycle, most=5) for pair in pairs))
    assigned = [pair for pair, key in zip(pairs, keys, strict=True) if key]
    reports = [(replica, first.cycles.assignments(worker.id)[0]) for worker, replica in assigned]
    outcomes = at_once(*(lambda pair=pair: pair[0].cycles.count_diff(pair[1], DIFF, 1.0) for pair in reports))

    assert len(outcomes) == 5
    assert outcomes.count(CycleOver) == 1
    assert first.cycles.cycle(cycle.id).counted == 4
    assert len(list(first.cycles.diffs(first.cycles.cycle(cycle.id)))) == 4


def test_diff_that_arrives_while_its_cycle_is_sealed_is_averaged_or_refused(replicas, recorded):
    """The sealed cycle has exactly the diffs whose workers got "success"."""
    first, second = replicas
    first.models.add(read_upload(recorded(server_config__max_diffs=50)["data"]), now=0.0)
    cycle = first.cycles.open_cycle(1)
    assigned = [first.enter(f"w{number}", cycle) for number in range(12)]
    first.cycles.count_diff(assigned[0], DIFF, 1.0)
    reports = [lambda each=each: first.cycles.count_diff(each, DIFF, 601.0) for each in assigned[1:]]
    *outcomes, _ = at_once(*reports, lambda: second.cycles.seal(cycle.id, 601.0))
    sealed = first.cycles.cycle(cycle.id)

    assert sealed.wanted == sealed.counted == 12 - outcomes.count(CycleOver)
    assert len(list(first.cycles.diffs(sealed))) == sealed.counted


def test_reading_transaction_sees_one_state(replicas, full):
    """It does not see concurrent writes of another replica."""
    first, second = replicas
    with first.database.reading() as connection:
        before = connection.execute(select(workers.c.id)).all()
        second.cycles.add_worker(Worker("later", 1))
        after = connection.execute(select(workers.c.id)).all()

    assert before == after == [("w",)]
    assert first.cycles.worker("later") == Worker("later", 1)


def test_nul_is_not_part_of_a_name(replicas, recorded):
    """PostgreSQL cannot store it: requests for such a name find nothing, uploads are refused."""
    first = replicas[0]
    for wrong in ("\0", "\ud800"):
        for find in (first.cycles.worker, first.cycles.assignments):
            with pytest.raises(WorkerNotFound):
                find("w" + wrong)
        for name, version in (("fixture" + wrong, None), ("fixture-linear", "0.1" + wrong)):
            with pytest.raises(ModelNotFound):
                first.models.find(name, version)
        with pytest.raises(InvalidRequest):
            first.models.add(read_upload(recorded(client_config__name="a" + wrong)["data"]), now=0.0)


def test_model_is_read_once(replicas, recorded):
    """It never changes. Without a version, the newest is read, also if another replica stored it."""
    first, second = replicas
    first.models.add(read_upload(recorded()["data"]), now=0.0)
    known = first.models.find("fixture-linear", "0.1")
    second.models.add(read_upload(recorded(client_config__version="0.2")["data"]), now=0.0)

    assert first.models.find("fixture-linear", "0.1") is known
    assert first.models.get(known.id) is known
    assert first.models.find("fixture-linear").version == "0.2"
    assert second.models.find("fixture-linear", "0.1") == known
