"""The connection to the database, and what one transaction is."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, make_url

from pygrid_node.storage import migrations, postgresql, sqlite


class Database:
    """Transactions on one database; safe to share between threads, and between processes."""

    def __init__(self, url: str, idle: float = postgresql.IDLE) -> None:
        """Connect to `url`, making what is missing: the tables, and for SQLite the directory.

        Tables that an older version of the node made are brought up to date, and keep what is in them.
        PostgreSQL's connections are given back after `idle` seconds without a transaction.
        """
        location = postgresql.with_driver(make_url(url))
        self._is_sqlite = location.get_backend_name() == "sqlite"
        self._idle: postgresql.IdleConnections | None = None
        if self._is_sqlite:
            self._engine = sqlite.connect(location)
            self._reader = self._engine
        else:
            self._engine = postgresql.connect(location)
            self._reader = postgresql.reader(self._engine)
            self._idle = postgresql.IdleConnections(self._engine, idle)
        self._writer = self._engine.execution_options(writes=True)
        self._unsynced = self._engine.execution_options(writes=True, unsynced=True)
        # SQLite has one writer at a time; waiting here is fair and wakes at once, its own waiting is neither.
        self._one_writer = threading.Lock()
        try:
            self._upgrade()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction that changes nothing and sees one state of the data."""
        with self._reader.begin() as connection:
            yield connection

    @contextmanager
    def writing(self, *, synced: bool = True) -> Iterator[Connection]:
        """One transaction: all of it is kept, or, after an exception, nothing.

        One that is not `synced` may be lost in a power cut, on SQLite, though not in a crash of the node, and
        not once a later one was synced. It is for what a client can ask for again.
        On PostgreSQL others run beside it: a statement sees what they have committed before it began.
        """
        if not self._is_sqlite:
            with self._writer.begin() as connection:
                yield connection
            return
        with self._one_writer, (self._writer if synced else self._unsynced).begin() as connection:
            yield connection

    def close(self) -> None:
        """Give the connections back."""
        if self._idle is not None:
            self._idle.close()
        self._engine.dispose()

    def _upgrade(self) -> None:
        # On SQLite the transaction itself, exclusive from its beginning, keeps other processes out.
        with self.writing() as connection:
            if not self._is_sqlite:
                postgresql.lock_tables(connection)
            migrations.upgrade(connection)


def can_be_kept(text: str) -> bool:
    """Whether any database can hold it: PostgreSQL knows no text with a NUL, which JSON and SQLite do."""
    return "\0" not in text
