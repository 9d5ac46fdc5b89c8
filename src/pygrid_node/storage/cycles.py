"""Cycles: who is in them, what was reported, and how they end."""

import json
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from pygrid_node.entities import Assignment, Cycle, Place, Process, Worker
from pygrid_node.errors import CycleOver, WorkerNotFound
from pygrid_node.storage.blobs import Blob, Gone, Packed, pack
from pygrid_node.storage.database import Database, can_be_kept
from pygrid_node.storage.models import first_cycle, insert_checkpoint
from pygrid_node.storage.schema import assignments, cycles, diff_parts, diffs, outbox, workers
from pygrid_wire import Bytes


class CycleStore:
    """Keeps workers, cycles and diffs. What must not happen twice is a condition of its own statement."""

    def __init__(self, database: Database) -> None:
        """Keep them in `database`."""
        self._database = database

    def add_worker(self, worker: Worker) -> None:
        """Keep a new worker."""
        with self._database.writing(synced=False) as connection:
            connection.execute(insert(workers).values(id=worker.id, process_id=worker.process_id))

    def worker(self, worker_id: Any) -> Worker:
        """The worker of an id; raises `WorkerNotFound`."""
        if not can_be_kept(text := str(worker_id)):
            raise WorkerNotFound
        with self._database.reading() as connection:
            row = connection.execute(select(workers).where(workers.c.id == text)).first()
        if row is None:
            raise WorkerNotFound
        return Worker(row.id, row.process_id)

    def open_cycle(self, process_id: int) -> Cycle | None:
        """The cycle that runs now; None after the last one."""
        return self._cycle((cycles.c.process_id == process_id) & _OPEN)

    def cycle(self, cycle_id: int) -> Cycle | None:
        """The cycle of a number."""
        return self._cycle(cycles.c.id == cycle_id)

    def places(self, worker: Worker, process_id: int) -> list[Place]:
        """What a worker had, and has, in the cycles of a process."""
        columns = (cycles.c.number, assignments.c.reported_at.is_not(None), assignments.c.lapses_at)
        own = (assignments.c.worker_id == worker.id) & (cycles.c.process_id == process_id)
        with self._database.reading() as connection:
            query = select(*columns).join_from(assignments, cycles).where(own)
            return [Place(row[0], bool(row[1]), row[2]) for row in connection.execute(query)]

    def next_lapse(self, cycle: Cycle, now: float) -> float | None:
        """When the next place of a cycle lapses; None if all are of workers that have reported."""
        query = select(func.min(assignments.c.lapses_at)).where(
            (assignments.c.cycle_id == cycle.id) & _waited_for(now)
        )
        with self._database.reading() as connection:
            moment: float | None = connection.execute(query).scalar()
        return moment

    def assign(
        self,
        worker: Worker,
        cycle: Cycle,
        request_key: str,
        *,
        now: float,
        lapses_at: float,
        most: int | None,
    ) -> str | None:
        """Give a worker a place in a cycle that has at most `most` of them; the key that proves it.

        A place that has lapsed is given again, with its former key, so that a report that is on its way still
        counts. None, and no change, if the worker has a place, or if there is none left.
        """
        own = (assignments.c.worker_id == worker.id) & (assignments.c.cycle_id == cycle.id)
        lapsed = own & assignments.c.reported_at.is_(None) & (assignments.c.lapses_at <= now)
        again = update(assignments).where(lapsed).values(lapses_at=lapses_at)
        row = {"worker_id": worker.id, "cycle_id": cycle.id, "lapses_at": lapses_at}
        try:
            with self._database.writing(synced=False) as connection:
                key = connection.execute(again.returning(assignments.c.request_key)).scalar()
                if key is None:
                    connection.execute(insert(assignments).values(row | {"request_key": request_key}))
                if most is not None:
                    _check_places(connection, cycle, now, most)
        except (IntegrityError, _NoneLeftError):
            return None
        return request_key if key is None else str(key)

    def assignments(self, worker: Worker) -> list[Assignment]:
        """All places of a worker, in all cycles."""
        columns = (assignments.c.id, cycles.c.process_id, cycles.c.id, assignments.c.request_key)
        query = select(*columns).join_from(assignments, cycles).where(assignments.c.worker_id == worker.id)
        with self._database.reading() as connection:
            return [Assignment(*row) for row in connection.execute(query)]

    def count_diff(self, assignment: Assignment, body: Bytes, now: float) -> Cycle | None:
        """Keep a worker's diff, once, while its cycle wants diffs; the cycle as it is with this one.

        None, and no change, if the worker's diff was counted before. Raises `CycleOver`, and changes nothing,
        if the cycle takes no more.
        """
        diff = pack([body])
        with self._database.writing() as connection:
            first = (assignments.c.id == assignment.id) & assignments.c.reported_at.is_(None)
            if not connection.execute(update(assignments).where(first).values(reported_at=now)).rowcount:
                return None
            more = update(cycles).where((cycles.c.id == assignment.cycle_id) & _OPEN & ~_FULL)
            counted = more.values(counted=cycles.c.counted + 1).returning(*cycles.c)
            if (row := connection.execute(counted).first()) is None:
                raise CycleOver
            _insert_diff(connection, assignment.cycle_id, diff)
            return _cycle(row)

    def due(self, now: float) -> list[int]:
        """The open cycles that are to be averaged; see `cycle_rules.is_due`."""
        due = _OPEN & (_FULL | _late(now))
        with self._database.reading() as connection:
            return list(connection.execute(select(cycles.c.id).where(due).order_by(cycles.c.id)).scalars())

    def next_end(self, now: float) -> float | None:
        """When the next open cycle's time is over; None if that of all is."""
        with self._database.reading() as connection:
            ends = select(func.min(cycles.c.ends_at)).where(_OPEN & (cycles.c.ends_at > now))
            moment: float | None = connection.execute(ends).scalar()
        return moment

    def seal(self, cycle_id: int, now: float) -> None:
        """Let a cycle whose time is over want no more diffs than it has, if these are enough.

        From then on it is full like any other: no diff is accepted that its average will not hold.
        """
        with self._database.writing() as connection:
            late = (cycles.c.id == cycle_id) & _OPEN & _late(now)
            connection.execute(update(cycles).where(late).values(wanted=cycles.c.counted))

    def diff_ids(self, cycle_id: int) -> list[int]:
        """The diffs of a cycle, in the order of their arrival."""
        query = select(diffs.c.id).where(diffs.c.cycle_id == cycle_id).order_by(diffs.c.id)
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def diff(self, diff_id: int) -> Bytes | None:
        """One diff's serialized state; None if its cycle was closed meanwhile."""
        with self._database.reading() as connection:
            first = connection.execute(select(diffs.c.body).where(diffs.c.id == diff_id)).scalar()
        try:
            return None if first is None else Blob(first, partial(self._diff_part, diff_id)).read()
        except Gone:
            return None

    def _diff_part(self, diff_id: int, part: int) -> bytes | None:
        query = select(diff_parts.c.body).where(
            (diff_parts.c.diff_id == diff_id) & (diff_parts.c.part == part)
        )
        with self._database.reading() as connection:
            return connection.execute(query).scalar()

    def close(self, cycle: Cycle, process: Process, checkpoint: Bytes, now: float) -> bool:
        """End a cycle in one transaction: checkpoint, next cycle, progress message, diffs dropped.

        False, and no change, if somebody else ended it first.
        """
        state = pack([checkpoint])
        with self._database.writing() as connection:
            still_open = (cycles.c.id == cycle.id) & _OPEN
            if not connection.execute(update(cycles).where(still_open).values(closed_at=now)).rowcount:
                return False
            insert_checkpoint(connection, process.id, cycle.number + 1, state)
            _delete_diffs(connection, cycle.id)
            _open_next(connection, cycle, process, now)
            body = json.dumps(progress_of(cycle, process))
            connection.execute(insert(outbox).values(process_id=process.id, body=body))
            return True

    def _cycle(self, condition: ColumnElement[bool]) -> Cycle | None:
        with self._database.reading() as connection:
            row = connection.execute(select(cycles).where(condition)).first()
        return None if row is None else _cycle(row)


class _NoneLeftError(Exception):
    """All places of a cycle are taken."""


_OPEN = cycles.c.closed_at.is_(None)
_FULL = cycles.c.counted >= cycles.c.wanted


def _late(now: float) -> ColumnElement[bool]:
    return (cycles.c.ends_at <= now) & (cycles.c.counted >= cycles.c.needed)


def _waited_for(now: float) -> ColumnElement[bool]:
    return assignments.c.reported_at.is_(None) & (assignments.c.lapses_at > now)


def _check_places(connection: Connection, cycle: Cycle, now: float, most: int) -> None:
    """Raise if more than `most` places are taken, counting those of every transaction that came before.

    The lock is one that a new place's reference to its cycle goes along with: two transactions that have both
    written their place must not wait for each other.
    """
    lock = select(cycles.c.id).where(cycles.c.id == cycle.id).with_for_update(key_share=True)
    connection.execute(lock)
    taken = assignments.c.reported_at.is_not(None) | _waited_for(now)
    places = select(func.count()).where((assignments.c.cycle_id == cycle.id) & taken)
    if connection.execute(places).scalar_one() > most:
        raise _NoneLeftError


def _cycle(row: Row[Any]) -> Cycle:
    closed = row.closed_at is not None
    return Cycle(row.id, row.process_id, row.number, row.ends_at, row.wanted, row.needed, row.counted, closed)


def progress_of(cycle: Cycle, process: Process) -> dict[str, Any]:
    """What the orchestration node is told when `cycle` ends; `cycle` lets it tell one call from another."""
    percent = 100 * cycle.number // process.server_config.num_cycles
    return {"percent_complete": percent, "model_id": process.name, "cycle": cycle.number}


def _insert_diff(connection: Connection, cycle_id: int, diff: Packed) -> None:
    row = insert(diffs).values(cycle_id=cycle_id, body=diff.first).returning(diffs.c.id)
    diff_id = connection.execute(row).scalar_one()
    for part, body in enumerate(diff.others, start=1):
        connection.execute(insert(diff_parts).values(diff_id=diff_id, part=part, body=body))


def _delete_diffs(connection: Connection, cycle_id: int) -> None:
    of_cycle = select(diffs.c.id).where(diffs.c.cycle_id == cycle_id)
    connection.execute(delete(diff_parts).where(diff_parts.c.diff_id.in_(of_cycle)))
    connection.execute(delete(diffs).where(diffs.c.cycle_id == cycle_id))


def _open_next(connection: Connection, cycle: Cycle, process: Process, now: float) -> None:
    if cycle.number < process.server_config.num_cycles:
        row = first_cycle(process.id, process.server_config, now) | {"number": cycle.number + 1}
        connection.execute(insert(cycles).values(row))
