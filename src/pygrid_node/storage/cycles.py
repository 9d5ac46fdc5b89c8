"""Cycles: who is in them, what was reported, and how they end."""

import json
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from pygrid_node.entities import Assignment, Cycle, Process, Worker
from pygrid_node.errors import WorkerNotFound
from pygrid_node.storage.database import Database, can_be_kept
from pygrid_node.storage.processes import first_cycle
from pygrid_node.storage.schema import assignments, checkpoints, cycles, diffs, outbox, workers


class CycleStore:
    """Keeps workers, cycles and diffs. What must not happen twice is a condition of its own statement."""

    def __init__(self, database: Database) -> None:
        """Keep them in `database`."""
        self._database = database

    def add_worker(self, worker: Worker) -> None:
        """Keep a new worker."""
        with self._database.writing() as connection:
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
        return self._cycle((cycles.c.process_id == process_id) & cycles.c.closed_at.is_(None))

    def cycle(self, cycle_id: int) -> Cycle | None:
        """The cycle of a number."""
        return self._cycle(cycles.c.id == cycle_id)

    def assign(self, worker: Worker, cycle: Cycle, request_key: str) -> bool:
        """Give a worker a place in a cycle; False, and no change, if it has one there."""
        row = {"worker_id": worker.id, "cycle_id": cycle.id, "request_key": request_key}
        try:
            with self._database.writing() as connection:
                connection.execute(insert(assignments).values(row))
        except IntegrityError:
            return False
        return True

    def assignments(self, worker: Worker) -> list[Assignment]:
        """All places of a worker, in all cycles."""
        columns = (assignments.c.id, cycles.c.process_id, cycles.c.id, assignments.c.request_key)
        query = select(*columns).join_from(assignments, cycles).where(assignments.c.worker_id == worker.id)
        with self._database.reading() as connection:
            return [Assignment(*row) for row in connection.execute(query)]

    def count_diff(self, assignment: Assignment, body: bytes, now: float) -> bool:
        """Keep a worker's diff, once, while its cycle wants diffs; else change nothing.

        True if the cycle has all its diffs with this one.
        """
        with self._database.writing() as connection:
            first = (assignments.c.id == assignment.id) & assignments.c.reported_at.is_(None)
            if not connection.execute(update(assignments).where(first).values(reported_at=now)).rowcount:
                return False
            wants = cycles.c.closed_at.is_(None) & (cycles.c.counted < cycles.c.wanted)
            more = update(cycles).where((cycles.c.id == assignment.cycle_id) & wants)
            if not connection.execute(more.values(counted=cycles.c.counted + 1)).rowcount:
                return False
            connection.execute(insert(diffs).values(cycle_id=assignment.cycle_id, body=body))
            full = (cycles.c.id == assignment.cycle_id) & (cycles.c.counted >= cycles.c.wanted)
            return connection.execute(select(cycles.c.id).where(full)).first() is not None

    def due(self) -> list[int]:
        """The cycles that have all their diffs and are still open."""
        full = cycles.c.closed_at.is_(None) & (cycles.c.counted >= cycles.c.wanted)
        with self._database.reading() as connection:
            return list(connection.execute(select(cycles.c.id).where(full).order_by(cycles.c.id)).scalars())

    def diff_ids(self, cycle_id: int) -> list[int]:
        """The diffs of a cycle, in the order of their arrival."""
        query = select(diffs.c.id).where(diffs.c.cycle_id == cycle_id).order_by(diffs.c.id)
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def diff(self, diff_id: int) -> bytes | None:
        """One diff's serialized state; None if its cycle was closed meanwhile."""
        with self._database.reading() as connection:
            return connection.execute(select(diffs.c.body).where(diffs.c.id == diff_id)).scalar()

    def close(self, cycle: Cycle, process: Process, checkpoint: bytes, now: float) -> bool:
        """End a cycle in one transaction: checkpoint, next cycle, progress message, diffs dropped.

        False, and no change, if somebody else ended it first.
        """
        with self._database.writing() as connection:
            still_open = (cycles.c.id == cycle.id) & cycles.c.closed_at.is_(None)
            if not connection.execute(update(cycles).where(still_open).values(closed_at=now)).rowcount:
                return False
            number = cycle.number + 1
            connection.execute(
                insert(checkpoints).values(process_id=process.id, number=number, body=checkpoint)
            )
            connection.execute(delete(diffs).where(diffs.c.cycle_id == cycle.id))
            _open_next(connection, cycle, process, now)
            body = json.dumps(progress_of(cycle, process))
            connection.execute(insert(outbox).values(process_id=process.id, body=body))
            return True

    def _cycle(self, condition: ColumnElement[bool]) -> Cycle | None:
        with self._database.reading() as connection:
            row = connection.execute(select(cycles).where(condition)).first()
        if row is None:
            return None
        closed = row.closed_at is not None
        return Cycle(row.id, row.process_id, row.number, row.ends_at, row.wanted, row.counted, closed)


def progress_of(cycle: Cycle, process: Process) -> dict[str, Any]:
    """What the orchestration node is told when `cycle` ends; `cycle` lets it tell one call from another."""
    percent = 100 * cycle.number // process.server_config.num_cycles
    return {"percent_complete": percent, "model_id": process.name, "cycle": cycle.number}


def _open_next(connection: Connection, cycle: Cycle, process: Process, now: float) -> None:
    if cycle.number < process.server_config.num_cycles:
        row = first_cycle(process.id, process.server_config, now) | {"number": cycle.number + 1}
        connection.execute(insert(cycles).values(row))
