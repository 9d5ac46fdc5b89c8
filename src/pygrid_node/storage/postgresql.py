"""PostgreSQL: a server that is shared with other nodes and goes to sleep when nobody is connected to it."""

import threading
import time

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, text

IDLE = 30.0
"""Seconds without a transaction after which all connections are closed: Aurora pauses when it has none.

Closing each after its transaction would do as well, and make every transaction ten times as slow.
"""
# What comes beyond those that are kept is opened for its moment; the cluster allows a node 40 in all.
_KEPT, _MORE = 8, 24
_DRIVER = {
    "connect_timeout": 60,  # seconds; a paused Aurora takes half of that to wake
    # A database that moved to another machine must not be listened to for hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
_NAMES = frozenset({"postgres", "postgresql"})
_TABLES_LOCK = 5_071_234


def with_driver(location: URL) -> URL:
    """Read a URL without a driver's name as one for psycopg 3; the original image takes no other."""
    return location.set(drivername="postgresql+psycopg") if location.drivername in _NAMES else location


def connect(location: URL) -> Engine:
    """Connect when there is something to ask, and check a connection that has rested before it is used."""
    return create_engine(
        location,
        pool_size=_KEPT,
        max_overflow=_MORE,
        pool_use_lifo=True,
        pool_pre_ping=True,
        connect_args=_DRIVER,
    )


def reader(engine: Engine) -> Engine:
    """Make its transactions see one state of the data, as SQLite's do, and change nothing."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def lock_tables(connection: Connection) -> None:
    """Have one process at a time change the tables; until the transaction ends."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _TABLES_LOCK})


class IdleConnections:
    """Closes an engine's connections once it has rested for `after` seconds; the next use opens one."""

    def __init__(self, engine: Engine, after: float) -> None:
        """Begin to watch, in a thread of its own."""
        self._engine = engine
        self._after = after
        self._last_use = time.monotonic()
        self._over = threading.Event()
        event.listen(engine, "checkin", self._used)
        self._thread = threading.Thread(target=self._watch, name="idle-connections", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no longer."""
        self._over.set()
        self._thread.join()

    def _used(self, *_connection: object) -> None:
        self._last_use = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(self._after / 4):
            pool = self._engine.pool
            rests = isinstance(pool, QueuePool) and not pool.checkedout()
            if rests and time.monotonic() - self._last_use >= self._after:
                pool.dispose()  # of the idle ones; the engine's dispose() would lose one that is taken now
