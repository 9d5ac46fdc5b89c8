"""What a node must get right on any database, on SQLite and on a real PostgreSQL."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psycopg
import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import OperationalError

from pygrid_node.averaging.closing import CycleCloser
from pygrid_node.entities import Worker
from pygrid_node.errors import AlreadyExists, CycleOver, InvalidRequest, ProcessNotFound, WorkerNotFound
from pygrid_node.settings import Settings
from pygrid_node.storage import postgresql as storage
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.database import Database
from pygrid_node.storage.models import ProcessStore
from pygrid_node.storage.outbox import Outbox
from pygrid_node.storage.schema import metadata, workers
from pygrid_node.uploads import read_upload
from pygrid_wire import decode_state

pytestmark = pytest.mark.moto

DATA = Path(__file__).parents[1] / "data" / "pygrid"
DIFF = (DATA / "linear" / "diff-1.bin").read_bytes()


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def start(start_node, database_url, node_id):
    """Start nodes on the database."""
    return lambda: start_node(database_url=database_url, node_id=node_id)


class Process:
    """The stores of one node process, on a database that others may use."""

    def __init__(self, url):
        self.database = Database(url)
        self.processes, self.cycles = ProcessStore(self.database), CycleStore(self.database)
        self.outbox = Outbox(self.database)
        self.closer = CycleCloser(self.processes, self.cycles, clock=lambda: 1000.0)

    def place(self, name, cycle):
        worker = Worker(name, cycle.process_id)
        self.cycles.add_worker(worker)
        self.assign(worker, cycle)
        [assignment] = self.cycles.assignments(worker)
        return assignment

    def assign(self, worker, cycle, most=None, now=0.0):
        return self.cycles.assign(worker, cycle, "key", now=now, lapses_at=now + 10, most=most)


@pytest.fixture
def processes(database_url, node_id):
    """Two processes of one node."""
    settings = Settings(node_id=node_id, database_url=database_url, master_node_url="h:1")
    both = [Process(settings.database) for _ in range(2)]
    yield both
    for process in both:
        process.database.close()


@pytest.fixture
def full(processes, recorded):
    """A cycle that has the one diff that it wants."""
    first = processes[0]
    first.processes.add(read_upload(recorded(server_config__max_diffs=1)["data"]), now=0.0)
    cycle = first.cycles.open_cycle(1)
    assert first.cycles.count_diff(first.place("w", cycle), DIFF, now=1.0)
    return first.cycles.cycle(cycle.id)


def at_once(*calls):
    """What each of these gives, or which error of the node's own; all begun at the same moment."""
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
def test_a_recorded_process_ends_in_the_recorded_checkpoints(start, master, process):
    """Two cycles, to 1e-6 of what the original calculated; and another life of the node has them still."""
    expected = json.loads((DATA / process / "expected.json").read_text())
    node = start()
    node.frames((DATA / process / "upload.request.json").read_text())
    for number, over in [(1, "http"), (2, "http"), (3, "http"), (4, "ws"), (5, "ws"), (6, "ws")]:
        worker = node.worker(f"fixture-{process}", over)
        diff = (DATA / process / f"diff-{number}.bin").read_bytes()
        assert worker.report(diff) == {"status": "success"}
    wait_for(lambda: len(master.calls) == 2)
    node.close()
    again = start()

    for number in (1, 2, 3):
        arrays = decode_state(again.checkpoint(f"fixture-{process}", number).content)
        for array, want in zip(arrays, expected[f"checkpoint_{number}"], strict=True):
            assert np.abs(array - np.array(want)).max() <= 1e-6
    # A life that ended before it had noted the second answer has the next one send it once more.
    assert [(call["percent_complete"], call["cycle"]) for call in master.calls[:2]] == [(50, 1), (100, 2)]


def test_reports_at_the_same_time_all_count(start, recorded):
    """Nobody's report is lost, and the cycle is closed once."""
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


def test_progress_that_was_not_taken_is_sent_by_the_next_life(start, master, recorded):
    """The outbox is in the database."""
    node = start()
    node.upload(recorded(server_config__max_diffs=1))
    master.statuses = [503] * 10_000
    node.worker("fixture-linear").report(DIFF)
    wait_for(lambda: master.headers)
    node.close()
    master.statuses = []
    start()
    wait_for(lambda: master.calls)

    assert master.calls == [{"percent_complete": 50, "model_id": "fixture-linear", "cycle": 1}]


def test_of_two_processes_that_close_a_cycle_one_does(processes, full):
    """Both have averaged it; one checkpoint, one next cycle, one message."""
    first, second = processes
    process = first.processes.get(1)
    closed = at_once(
        lambda: first.cycles.close(full, process, b"first", 0.0),
        lambda: second.cycles.close(full, process, b"second", 0.0),
    )

    assert sorted(closed) == [False, True]
    assert second.processes.checkpoint(1, 2).read() == (b"first" if closed[0] else b"second")
    assert first.cycles.open_cycle(1).number == 2
    assert first.outbox.waiting() == [1]
    first.outbox.remove(first.outbox.first(1))
    assert second.outbox.first(1) is None


def test_two_processes_that_average_at_once_end_the_cycle_once(processes, full):
    """Whoever comes second finds the diffs gone or the cycle closed, and leaves it at that."""
    first = processes[0]
    outcomes = at_once(*(lambda each=each: list(each.closer.close(full.id)) for each in processes))

    assert [None] in outcomes
    assert first.cycles.open_cycle(1).number == 2
    assert first.cycles.due(0.0) == []


def test_a_name_is_given_to_one_of_two_uploads(processes, recorded):
    """The other one is refused, and leaves nothing behind."""
    upload = read_upload(recorded()["data"])
    outcomes = at_once(*(lambda each=each: each.processes.add(upload, 0.0) for each in processes))

    assert {str(outcome) for outcome in outcomes} == {str(None), str(AlreadyExists)}
    assert processes[0].processes.find("fixture-linear").plans.keys() == {"training_plan"}


def test_a_worker_has_one_place_in_a_cycle_however_often_it_asks_at_once(processes, recorded):
    """One of its requests is accepted."""
    first = processes[0]
    first.processes.add(read_upload(recorded()["data"]), now=0.0)
    cycle = first.cycles.open_cycle(1)
    worker = Worker("w", 1)
    first.cycles.add_worker(worker)
    outcomes = at_once(*(lambda each=each: each.assign(worker, cycle) for each in processes * 3))

    assert sorted(outcomes, key=bool) == [None] * 5 + ["key"]
    assert len(first.cycles.assignments(worker)) == 1


def test_a_workers_diff_is_counted_once_however_often_it_comes_at_once(processes, recorded):
    """And never more diffs than the cycle wants."""
    first = processes[0]
    first.processes.add(read_upload(recorded(server_config__max_diffs=3)["data"]), now=0.0)
    cycle = first.cycles.open_cycle(1)
    places = [first.place(f"w{number}", cycle) for number in range(4)]
    again = at_once(
        *(lambda each=each: each.cycles.count_diff(places[0], DIFF, 1.0) for each in processes * 2)
    )
    rest = at_once(*(lambda place=place: first.cycles.count_diff(place, DIFF, 1.0) for place in places[1:]))

    assert [cycle and cycle.counted for cycle in again].count(1) == 1
    assert again.count(None) == 3
    assert sorted(2 if each is CycleOver else each.is_full for each in rest) == [False, True, 2]
    assert len(first.cycles.diff_ids(cycle.id)) == 3
    assert first.cycles.due(0.0) == [cycle.id]


def test_a_cycle_has_no_more_places_than_it_may_however_many_ask_at_once(processes, recorded):
    """A lapsed one is given to one other worker; what its first owner reports still counts."""
    first = processes[0]
    first.processes.add(read_upload(recorded()["data"]), now=0.0)
    cycle = first.cycles.open_cycle(1)
    crowd = [Worker(f"w{number}", 1) for number in range(16)]
    for worker in crowd:
        first.cycles.add_worker(worker)

    def all_ask(now):
        asking = zip(crowd, processes * 8, strict=True)
        return at_once(*(lambda pair=pair: pair[1].assign(pair[0], cycle, 2, now) for pair in asking))

    early, soon, late = all_ask(now=0.0), all_ask(now=9.0), all_ask(now=11.0)
    had = crowd[early.index("key")]

    assert [outcome.count("key") for outcome in (early, soon, late)] == [2, 0, 2]
    assert first.cycles.next_lapse(cycle, 11.0) == 21.0
    assert first.cycles.count_diff(first.cycles.assignments(had)[0], DIFF, 12.0).counted == 1


def test_a_diff_is_in_the_average_or_refused_when_the_time_is_over_meanwhile(processes, recorded):
    """Whoever seals a cycle and whoever reports at the same moment agree on what it holds."""
    first, second = processes
    first.processes.add(read_upload(recorded(server_config__max_diffs=50)["data"]), now=0.0)
    cycle = first.cycles.open_cycle(1)
    places = [first.place(f"w{number}", cycle) for number in range(12)]
    first.cycles.count_diff(places[0], DIFF, 1.0)
    reports = [lambda place=place: first.cycles.count_diff(place, DIFF, 601.0) for place in places[1:]]
    *outcomes, _ = at_once(*reports, lambda: second.cycles.seal(cycle.id, 601.0))
    sealed = first.cycles.cycle(cycle.id)

    assert sealed.wanted == sealed.counted == 12 - outcomes.count(CycleOver)
    assert len(first.cycles.diff_ids(cycle.id)) == sealed.counted


def test_processes_that_start_at_once_make_the_tables_once(database_url, node_id):
    """None fails, whoever is first."""
    url = Settings(node_id=node_id, database_url=database_url, master_node_url="h:1").database
    made = at_once(*(lambda: Database(url) for _ in range(4)))
    with made[0].reading() as connection:
        found = [connection.execute(select(table)).all() for table in metadata.sorted_tables]
    for database in made:
        database.close()

    assert not any(found)


def test_a_transaction_that_reads_sees_one_state(processes, full):
    """What another process writes meanwhile it doesn't see, and it can't write itself."""
    first, second = processes
    with first.database.reading() as connection:
        before = connection.execute(select(workers.c.id)).all()
        second.cycles.add_worker(Worker("later", 1))
        after = connection.execute(select(workers.c.id)).all()

    assert before == after == [("w",)]
    assert first.cycles.worker("later") == Worker("later", 1)


def test_a_nul_is_no_name(processes, recorded):
    """JSON can say it and PostgreSQL can't keep it: absent where asked for, refused where given."""
    first = processes[0]
    with pytest.raises(WorkerNotFound):
        first.cycles.worker("w\0")
    for name, version in (("fixture\0", None), ("fixture-linear", "0.1\0")):
        with pytest.raises(ProcessNotFound):
            first.processes.find(name, version)
    with pytest.raises(InvalidRequest):
        first.processes.add(read_upload(recorded(client_config__name="a\0")["data"]), now=0.0)


def test_a_process_is_read_once(processes, recorded):
    """It never changes. Without a version the newest is meant, also when another process has kept it."""
    first, second = processes
    first.processes.add(read_upload(recorded()["data"]), now=0.0)
    known = first.processes.find("fixture-linear", "0.1")
    second.processes.add(read_upload(recorded(client_config__version="0.2")["data"]), now=0.0)

    assert first.processes.find("fixture-linear", "0.1") is known
    assert first.processes.get(known.id) is known
    assert first.processes.find("fixture-linear").version == "0.2"
    assert second.processes.find("fixture-linear", "0.1") == known


class TestPostgresql:
    @pytest.fixture
    def database(self, postgresql_url):
        name = make_url(postgresql_url).username
        database = Database(f"{postgresql_url}{name}db", idle=0.2)
        yield database
        database.close()

    @pytest.fixture
    def connections(self, server, database):
        """How many connections the node has open."""
        name = database._engine.url.username
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
        return lambda: server.ask(query, name)[0][0]

    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
    def test_a_url_without_a_driver_is_read_as_one_for_ours(self, scheme):
        """The original image takes no other, and both are given the same secret."""
        assert storage.with_driver(make_url(f"{scheme}://u:p@h:5432/d")) == make_url(
            "postgresql+psycopg://u:p@h:5432/d"
        )

    def test_a_node_that_rests_holds_no_connection(self, database, connections):
        """A database with a connection never pauses, and is paid for."""
        at_once(*(lambda: _slow_read(database) for _ in range(4)))
        busy = connections()
        wait_for(lambda: connections() == 0)
        with database.reading() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1

        assert busy == 4

    def test_a_transaction_that_runs_keeps_its_connection(self, database):
        """However long it takes; what it has written is kept."""
        with database.writing() as connection:
            connection.execute(text("CREATE TABLE kept (value integer)"))
            time.sleep(0.6)
        with database.reading() as connection:
            assert connection.execute(text("SELECT count(*) FROM kept")).scalar() == 0

    def test_a_connection_that_the_server_ended_is_not_used_again(self, server, database):
        """A restart or a move of the database costs the transactions that ran, and no other."""
        with database.reading():
            pass
        server.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
            database._engine.url.username,
        )
        with database.reading() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1

    def test_reading_can_not_write(self, database):
        """PostgreSQL itself refuses."""
        with (
            pytest.raises(Exception, match="read-only transaction"),
            database.reading() as connection,
        ):
            connection.execute(workers.insert().values(id="w", process_id=1))

    def test_no_password_is_in_the_error_of_a_database_that_refuses(self, server, postgresql_url):
        """The node logs it when it can't start."""
        name = make_url(postgresql_url).username
        with pytest.raises(OperationalError) as refusal:
            Database(f"postgresql://{name}:not-this-one@{server.endpoint}/{name}db")

        assert "not-this-one" not in f"{refusal.value} {refusal.value!r} {refusal.value.__cause__!r}"
        assert isinstance(refusal.value.orig, psycopg.OperationalError)


def _slow_read(database):
    with database.reading() as connection:
        connection.execute(text("SELECT pg_sleep(0.1)"))
