"""Workers, cycles, assignments and diffs, and the progress messages of closed cycles."""

import json
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, delete, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from pygrid_node.entities import Assignment, Cycle, HostedModel, Lease, Progress, Worker
from pygrid_node.errors import CycleOver, WorkerNotFound
from pygrid_node.storage.blobs import Blob, Deleted, Packed, pack
from pygrid_node.storage.database import Database, is_storable
from pygrid_node.storage.models import copy_checkpoint, first_cycle, insert_checkpoint
from pygrid_node.storage.schema import assignments, cycles, diff_parts, diffs, outbox, workers
from pygrid_wire import Bytes

_OPEN = cycles.c.closed_at.is_(None)
_FULL = cycles.c.counted >= cycles.c.wanted


class CycleStore:
    """Stores workers, cycles and diffs.

    Replicas share the database, so anything that must not happen twice is a condition of the
    statement that does it.
    """

    def __init__(self, database: Database, opening_delay: float = 0.0) -> None:
        """Use `database`. The next cycle opens `opening_delay` seconds after one is closed.

        It opens earlier when the orchestrator has accepted all progress of the model; see `Outbox.delete`.
        """
        self._database = database
        self._opening_delay = opening_delay

    def add_worker(self, worker: Worker) -> None:
        """Store a new worker."""
        with self._database.writing(synced=False) as connection:
            connection.execute(insert(workers).values(id=worker.id, process_id=worker.model_id))

    def worker(self, worker_id: Any) -> Worker:
        """Return the worker with this id. Raises `WorkerNotFound`."""
        if not is_storable(text := str(worker_id)):
            raise WorkerNotFound
        with self._database.reading() as connection:
            row = connection.execute(select(workers).where(workers.c.id == text)).first()
        if row is None:
            raise WorkerNotFound
        return Worker(row.id, row.process_id)

    def open_cycle(self, model_id: int) -> Cycle | None:
        """Return the model's cycle that is not closed, which may be pending; None after the last one."""
        return self._cycle((cycles.c.process_id == model_id) & _OPEN)

    def all_open(self) -> list[Cycle]:
        """Return the cycles of all models that are not closed."""
        with self._database.reading() as connection:
            query = select(cycles).where(_OPEN).order_by(cycles.c.id)
            return [_cycle(row) for row in connection.execute(query)]

    def require_reports(self, least: int) -> None:
        """Let no open cycle end with fewer than `least` reports, unless it has all that it wants already."""
        wanted, needed = cycles.c.wanted, cycles.c.needed
        raised = {each.name: case((each < least, least), else_=each) for each in (wanted, needed)}
        low = _OPEN & ~_FULL & ((wanted < least) | (needed < least))
        with self._database.writing() as connection:
            connection.execute(update(cycles).where(low).values(raised))

    def cycle(self, cycle_id: int) -> Cycle | None:
        """Return the cycle with this id."""
        return self._cycle(cycles.c.id == cycle_id)

    def leases(self, worker: Worker, model_id: int) -> list[Lease]:
        """Return the leases of a worker in all cycles of a model."""
        columns = (cycles.c.number, assignments.c.reported_at.is_not(None), assignments.c.lapses_at)
        own = (assignments.c.worker_id == worker.id) & (cycles.c.process_id == model_id)
        with self._database.reading() as connection:
            query = select(*columns).join_from(assignments, cycles).where(own)
            return [Lease(row[0], bool(row[1]), row[2]) for row in connection.execute(query)]

    def next_expiry(self, cycle: Cycle, now: float) -> float | None:
        """Return when the next lease of a cycle expires; None if every worker in it has reported."""
        query = select(func.min(assignments.c.lapses_at)).where(
            (assignments.c.cycle_id == cycle.id) & _is_leased(now)
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
        expires_at: float,
        most_assigned: int | None,
    ) -> str | None:
        """Assign a worker to a cycle and return the key that proves it.

        A worker whose lease has expired gets its assignment back with the same key, so that a report that is
        under way still counts. Returns None and changes nothing if the worker has an assignment or if
        `most_assigned` workers have one.
        """
        own = (assignments.c.worker_id == worker.id) & (assignments.c.cycle_id == cycle.id)
        expired = own & assignments.c.reported_at.is_(None) & (assignments.c.lapses_at <= now)
        renewal = update(assignments).where(expired).values(lapses_at=expires_at)
        row = {"worker_id": worker.id, "cycle_id": cycle.id, "lapses_at": expires_at}
        try:
            with self._database.writing(synced=False) as connection:
                key = connection.execute(renewal.returning(assignments.c.request_key)).scalar()
                if key is None:
                    connection.execute(insert(assignments).values(row | {"request_key": request_key}))
                if most_assigned is not None:
                    _require_room(connection, cycle, now, most_assigned)
        except (IntegrityError, _CycleHasNoRoom):
            return None
        return request_key if key is None else str(key)

    def assignments(self, worker_id: Any) -> list[Assignment]:
        """Return all assignments of a worker. Raises `WorkerNotFound`."""
        if not is_storable(text := str(worker_id)):
            raise WorkerNotFound
        columns = (assignments.c.id, cycles.c.process_id, cycles.c.id, assignments.c.request_key)
        joined = workers.outerjoin(assignments).outerjoin(cycles, assignments.c.cycle_id == cycles.c.id)
        with self._database.reading() as connection:
            query = select(*columns).select_from(joined).where(workers.c.id == text)
            rows = connection.execute(query).all()
        if not rows:
            raise WorkerNotFound
        return [Assignment(*row) for row in rows if row[0] is not None]

    def count_diff(self, assignment: Assignment, body: Bytes, now: float) -> Cycle | None:
        """Store the diff of an assignment, once, while its cycle wants diffs; return the cycle afterwards.

        Returns None and changes nothing if a diff of the assignment was counted before. Raises `CycleOver`
        and changes nothing if the cycle accepts no more.
        """
        diff = pack(body)
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

    def seal(self, cycle_id: int, now: float) -> Cycle | None:
        """Make a due cycle accept no more diffs and return it; None if it is not due.

        A cycle that is due by time gets `wanted = counted`. From then on it is like a cycle that is due by
        count.
        """
        this = (cycles.c.id == cycle_id) & _OPEN
        late = (cycles.c.ends_at <= now) & (cycles.c.counted >= cycles.c.needed)
        with self._database.writing() as connection:
            connection.execute(update(cycles).where(this & ~_FULL & late).values(wanted=cycles.c.counted))
            row = connection.execute(select(cycles).where(this & _FULL)).first()
        return None if row is None else _cycle(row)

    def begin_attempt(self, cycle_id: int) -> None:
        """Count an attempt to close an open cycle, before it can end the process."""
        this = (cycles.c.id == cycle_id) & _OPEN
        with self._database.writing(synced=False) as connection:
            connection.execute(update(cycles).where(this).values(attempts=cycles.c.attempts + 1))

    def take_back_attempts(self, cycle_ids: Collection[int]) -> None:
        """Uncount one attempt for each of these cycles."""
        these = cycles.c.id.in_(cycle_ids) & (cycles.c.attempts > 0) & _OPEN
        with self._database.writing(synced=False) as connection:
            connection.execute(update(cycles).where(these).values(attempts=cycles.c.attempts - 1))

    def diffs(self, cycle: Cycle) -> Iterator[Bytes]:
        """Read the diffs of a sealed cycle one by one, in the order of their arrival.

        Raises `Deleted` if another replica has closed the cycle.
        """
        query = select(diffs.c.id).where(diffs.c.cycle_id == cycle.id).order_by(diffs.c.id)
        with self._database.reading() as connection:
            diff_ids = list(connection.execute(query).scalars())
        if len(diff_ids) != cycle.counted:
            raise Deleted
        for diff_id in diff_ids:
            with self._database.reading() as connection:
                first = connection.execute(select(diffs.c.body).where(diffs.c.id == diff_id)).scalar()
            if first is None:
                raise Deleted
            yield Blob(first, partial(self._diff_part, diff_id)).read()

    def close(self, cycle: Cycle, model: HostedModel, checkpoint: Bytes, now: float) -> bool:
        """Close a cycle: store the checkpoint, add the progress message and the next cycle.

        It is one transaction. The orchestrator downloads the checkpoint as soon as it has the progress
        message, so that message must not exist before the checkpoint; and if the node ends after the
        transaction, the message must exist, since nothing else reports the cycle to the orchestrator. The
        next cycle exists as well, so that it opens even if the node ends before the orchestrator answers.

        Returns False and changes nothing if another replica closed the cycle first.
        """
        state = pack(checkpoint)
        with self._database.writing() as connection:
            if is_open := _close(connection, cycle, _OPEN, now):
                insert_checkpoint(connection, model.id, cycle.number + 1, state)
                self._add_next(connection, cycle, model, progress_of(cycle, model), now)
        return is_open

    def skip(self, cycle: Cycle, model: HostedModel, reason: str, now: float) -> bool:
        """Close a cycle without its diffs: like `close`, with a copy of the checkpoint that it started from.

        The progress message has the reason. Returns False and changes nothing if another replica closed the
        cycle or took back an attempt.
        """
        with self._database.writing() as connection:
            as_read = _OPEN & (cycles.c.attempts == cycle.attempts)
            if is_open := _close(connection, cycle, as_read, now):
                copy_checkpoint(connection, model.id, cycle.number)
                progress = progress_of(cycle, model) | {"skipped": reason}
                self._add_next(connection, cycle, model, progress, now)
        return is_open

    def _add_next(
        self,
        connection: Connection,
        cycle: Cycle,
        model: HostedModel,
        progress: dict[str, Any],
        now: float,
    ) -> None:
        """Add the progress message of a cycle that is closed, and the next cycle."""
        connection.execute(insert(outbox).values(process_id=model.id, body=json.dumps(progress)))
        if cycle.number < model.server_config.num_cycles:
            opens_at = now + self._opening_delay
            row = first_cycle(model.id, model.server_config, opens_at)
            row |= {"number": cycle.number + 1, "opens_at": opens_at}
            connection.execute(insert(cycles).values(row))

    def _diff_part(self, diff_id: int, part: int) -> bytes | None:
        query = select(diff_parts.c.body).where(
            (diff_parts.c.diff_id == diff_id) & (diff_parts.c.part == part)
        )
        with self._database.reading() as connection:
            return connection.execute(query).scalar()

    def _cycle(self, condition: ColumnElement[bool]) -> Cycle | None:
        with self._database.reading() as connection:
            row = connection.execute(select(cycles).where(condition)).first()
        return None if row is None else _cycle(row)


class Outbox:
    """Progress messages that the orchestrator has not accepted yet; `CycleStore.close` adds them."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def oldest_of_each_model(self) -> list[Progress]:
        """Return the oldest message of each model that has messages."""
        oldest = select(func.min(outbox.c.id)).group_by(outbox.c.process_id)
        with self._database.reading() as connection:
            rows = connection.execute(select(outbox).where(outbox.c.id.in_(oldest))).all()
        return [Progress(row.id, row.process_id, row.body) for row in rows]

    def delete(self, progress: Progress, now: float) -> None:
        """Delete a message that the orchestrator accepted, or refused permanently.

        After the last message of a model, the orchestrator has closed every cycle that the node has closed.
        So a pending cycle opens now, in the same transaction, and has all of its time from now on.
        """
        others = exists().where(outbox.c.process_id == progress.model_id)
        pending = (cycles.c.process_id == progress.model_id) & _OPEN & (cycles.c.opens_at > now)
        opened = {"opens_at": None, "ends_at": cycles.c.ends_at - (cycles.c.opens_at - now)}
        with self._database.writing() as connection:
            connection.execute(delete(outbox).where(outbox.c.id == progress.id))
            connection.execute(update(cycles).where(pending & ~others).values(opened))


def progress_of(cycle: Cycle, model: HostedModel) -> dict[str, Any]:
    """Return the progress message of a closed cycle.

    `cycle` lets the orchestrator recognize a repetition, `cycles` derive a percentage that it missed.
    """
    cycles = model.server_config.num_cycles
    percent = 100 * cycle.number // cycles
    return {"percent_complete": percent, "model_id": model.name, "cycle": cycle.number, "cycles": cycles}


class _CycleHasNoRoom(Exception):
    """All assignments of a cycle are taken; rolls the transaction back."""


def _is_leased(now: float) -> ColumnElement[bool]:
    return assignments.c.reported_at.is_(None) & (assignments.c.lapses_at > now)


def _require_room(connection: Connection, cycle: Cycle, now: float, most_assigned: int) -> None:
    """Raise if more than `most_assigned` assignments are taken, those of all earlier transactions included.

    The lock is compatible with the one that an inserted assignment has on its cycle. A stronger one would
    make two transactions that have both inserted theirs wait for each other.
    """
    lock = select(cycles.c.id).where(cycles.c.id == cycle.id).with_for_update(key_share=True)
    connection.execute(lock)
    taken = assignments.c.reported_at.is_not(None) | _is_leased(now)
    count = select(func.count()).where((assignments.c.cycle_id == cycle.id) & taken)
    if connection.execute(count).scalar_one() > most_assigned:
        raise _CycleHasNoRoom


def _cycle(row: Row[Any]) -> Cycle:
    return Cycle(
        row.id,
        row.process_id,
        row.number,
        row.ends_at,
        row.wanted,
        row.needed,
        row.counted,
        is_closed=row.closed_at is not None,
        attempts=row.attempts,
        opens_at=row.opens_at,
    )


def _insert_diff(connection: Connection, cycle_id: int, diff: Packed) -> None:
    row = insert(diffs).values(cycle_id=cycle_id, body=diff.first).returning(diffs.c.id)
    diff_id = connection.execute(row).scalar_one()
    for part, body in enumerate(diff.others, start=1):
        connection.execute(insert(diff_parts).values(diff_id=diff_id, part=part, body=body))


def _close(connection: Connection, cycle: Cycle, condition: ColumnElement[bool], now: float) -> bool:
    """Close a cycle under a condition and delete its diffs; return whether the condition was true."""
    this = (cycles.c.id == cycle.id) & condition
    if not connection.execute(update(cycles).where(this).values(closed_at=now)).rowcount:
        return False
    of_cycle = select(diffs.c.id).where(diffs.c.cycle_id == cycle.id)
    connection.execute(delete(diff_parts).where(diff_parts.c.diff_id.in_(of_cycle)))
    connection.execute(delete(diffs).where(diffs.c.cycle_id == cycle.id))
    return True
