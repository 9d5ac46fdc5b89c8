"""The connection to the database, and what one transaction is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url

from pygrid_node.storage.schema import metadata

# As many as there are threads that ask: the event loop's and the averaging ones.
_POOL_SIZE = 32
_BUSY_TIMEOUT = 30_000  # milliseconds that SQLite waits for another process's transaction


class Database:
    """Transactions on one database; safe to share between threads, and between processes."""

    def __init__(self, url: str) -> None:
        """Connect to `url`, making its directory (SQLite) and its tables where they are missing."""
        location = make_url(url)
        self._is_sqlite = location.get_backend_name() == "sqlite"
        if self._is_sqlite and location.database:
            Path(location.database).parent.mkdir(parents=True, exist_ok=True)
        self._engine = create_engine(location, pool_size=_POOL_SIZE)
        if self._is_sqlite:
            _prepare_sqlite(self._engine)
        self._writer = self._engine.execution_options(writes=True)
        # SQLite has one writer at a time; waiting here is fair and wakes at once, its own waiting is neither.
        self._one_writer = threading.Lock()
        with self.writing() as connection:
            metadata.create_all(connection)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction that changes nothing and sees one state of the data."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: all of it is kept, or, after an exception, nothing."""
        if not self._is_sqlite:
            with self._writer.begin() as connection:
                yield connection
            return
        with self._one_writer, self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        # The driver would begin a transaction at the first change only, after it has read.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            f"busy_timeout={_BUSY_TIMEOUT}",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that turns from reading to writing half way fails if another one wrote meanwhile.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
