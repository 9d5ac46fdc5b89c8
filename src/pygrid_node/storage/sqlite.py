"""SQLite, for one machine: many readers, and one writer at a time that takes its place from the beginning."""

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

# As many as there are threads that ask: the event loop's and the averaging ones.
_POOL_SIZE = 32
_BUSY_TIMEOUT = 30_000  # milliseconds that SQLite waits for another process's transaction
_PAUSE = 50  # milliseconds

_JOURNAL = 64 * 1024**2  # bytes of write-ahead log that are kept; a large model's transaction makes more


def connect(location: URL) -> Engine:
    """Connect to a file, making its directory where it is missing."""
    if location.database:
        Path(location.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(location, pool_size=_POOL_SIZE)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _record: Any) -> None:
    # The driver would begin a transaction at the first change only, after it has read.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT}")
    _write_ahead(connection)
    for pragma in (f"journal_size_limit={_JOURNAL}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(connection: Any) -> None:
    """Switch a new file over, once. Two that switch at once SQLite doesn't let wait for each other."""
    for _ in range(_BUSY_TIMEOUT // _PAUSE):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            time.sleep(_PAUSE / 1000)
        else:
            return
    connection.execute("PRAGMA journal_mode=WAL")


def _begin(connection: Connection) -> None:
    # A transaction that turns from reading to writing half way fails if another one wrote meanwhile.
    options = connection.get_execution_options()
    if options.get("writes", False):
        # FULL: the commit reaches the disk before its answer leaves. With NORMAL a power cut may take back
        # the last ones; a diff that a worker was told is accepted must not be among them.
        connection.exec_driver_sql(f"PRAGMA synchronous={'NORMAL' if options.get('unsynced') else 'FULL'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")
