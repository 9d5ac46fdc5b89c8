"""The connection to SQLite or PostgreSQL, and what one transaction guarantees.

SQLite is for one machine: many readers, one writer at a time. PostgreSQL is a cluster that nodes share and
that pauses while it has no connections.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url, text

from pygrid_node.storage import migrations

_IDLE_AFTER = 30.0  # seconds
_TABLES_LOCK = 5_071_234
_POSTGRESQL_NAMES = frozenset({"postgres", "postgresql"})
# Connections above those that are kept are opened when needed; the cluster allows 40 per node.
_KEPT, _MORE = 8, 24
_POSTGRESQL_OPTIONS = {
    "connect_timeout": 60,  # seconds; a paused Aurora cluster needs half of that to resume
    # A connection to a database that has moved to another machine must end soon.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
_SQLITE_POOL = 32  # more than there are threads, of requests and of averaging
_BUSY_TIMEOUT = 30_000  # milliseconds that SQLite waits for the transaction of another process
_SWITCH_PAUSE = 50  # milliseconds
_JOURNAL = 64 * 1024**2  # bytes of write-ahead log to keep; the transaction of a large model makes more


class Database:
    """Transactions on one database. Threads may share it, and processes may share the database."""

    def __init__(self, url: str, idle_after: float = _IDLE_AFTER) -> None:
        """Connect to `url` and create or migrate the tables; for SQLite also create the directory.

        PostgreSQL connections are closed after `idle_after` seconds without a transaction: a serverless
        cluster pauses when it has none. Closing each after its transaction would make transactions ten times
        slower.
        """
        location = with_driver(make_url(url))
        self._is_sqlite = location.get_backend_name() == "sqlite"
        self._idle: _IdleConnections | None = None
        if self._is_sqlite:
            self._engine = self._reader = _connect_to_sqlite(location)
        else:
            self._engine = _connect_to_postgresql(location)
            self._reader = self._engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            self._idle = _IdleConnections(self._engine, idle_after)
        self._writer = self._engine.execution_options(writes=True)
        self._unsynced = self._engine.execution_options(writes=True, unsynced=True)
        # SQLite has one writer at a time. Waiting for this lock is fair; SQLite's own waiting is not, and is
        # slow.
        self._one_writer = threading.Lock()
        try:
            self._upgrade()
        except BaseException:
            self.close()
            raise

    def reading(self) -> AbstractContextManager[Connection]:
        """Begin a transaction that changes nothing and sees one state of the data."""
        return self._reader.begin()

    @contextmanager
    def writing(self, *, synced: bool = True) -> Iterator[Connection]:
        """Begin a transaction; all of it is stored, or nothing after an exception.

        On SQLite, a transaction that is not `synced` survives a crash of the node but may be lost in a power
        cut, until a later one is synced: use it for what clients can request again. On PostgreSQL
        transactions run concurrently: a statement sees what was committed before it started.
        """
        if not self._is_sqlite:
            with self._writer.begin() as connection:
                yield connection
            return
        with self._one_writer, (self._writer if synced else self._unsynced).begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        if self._idle is not None:
            self._idle.stop()
        self._engine.dispose()

    def _upgrade(self) -> None:
        with self.writing() as connection:
            if not self._is_sqlite:  # SQLite's write transaction excludes other processes from its start
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _TABLES_LOCK})
            migrations.upgrade(connection)


def is_storable(value: str) -> bool:
    """Return whether every database can store a text: JSON allows a NUL and lone surrogates."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def with_driver(location: URL) -> URL:
    """Add the driver to a PostgreSQL URL that has none: PyGrid's own image accepts no other URL."""
    return (
        location.set(drivername="postgresql+psycopg")
        if location.drivername in _POSTGRESQL_NAMES
        else location
    )


def _connect_to_postgresql(location: URL) -> Engine:
    return create_engine(
        location,
        pool_size=_KEPT,
        max_overflow=_MORE,
        pool_use_lifo=True,
        pool_pre_ping=True,
        connect_args=_POSTGRESQL_OPTIONS,
    )


class _IdleConnections:
    """Closes an engine's connections when the engine was idle for `after` seconds; the next use opens one."""

    def __init__(self, engine: Engine, after: float) -> None:
        self._engine = engine
        self._after = after
        self._last_use = time.monotonic()
        self._stopped = threading.Event()
        event.listen(engine, "checkin", self._used)
        self._thread = threading.Thread(target=self._watch, name="idle-connections", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _used(self, *_connection: object) -> None:
        self._last_use = time.monotonic()

    def _watch(self) -> None:
        while not self._stopped.wait(self._after / 4):
            pool = self._engine.pool
            is_idle = isinstance(pool, QueuePool) and not pool.checkedout()
            if is_idle and time.monotonic() - self._last_use >= self._after:
                pool.dispose()  # the engine's dispose() would lose a connection that is taken at this moment


def _connect_to_sqlite(location: URL) -> Engine:
    if location.database:
        Path(location.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(location, pool_size=_SQLITE_POOL)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_on_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    # By default the driver begins a transaction only at the first change, after the reads.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT}")
    _switch_to_write_ahead_log(connection)
    for pragma in (f"journal_size_limit={_JOURNAL}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _switch_to_write_ahead_log(connection: Any) -> None:
    """Switch a new file once. SQLite does not apply its busy time-out when two connections switch at once."""
    for _ in range(_BUSY_TIMEOUT // _SWITCH_PAUSE):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            time.sleep(_SWITCH_PAUSE / 1000)
        else:
            return
    connection.execute("PRAGMA journal_mode=WAL")


def _begin_on_sqlite(connection: Connection) -> None:
    # IMMEDIATE: a transaction that reads and then writes fails if another one wrote in between.
    options = connection.get_execution_options()
    if options.get("writes", False):
        # FULL: the commit is on the disk before the answer is sent. After NORMAL, a power cut may revert the
        # last commits; a diff whose worker got "success" must not be among them.
        connection.exec_driver_sql(f"PRAGMA synchronous={'NORMAL' if options.get('unsynced') else 'FULL'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")
