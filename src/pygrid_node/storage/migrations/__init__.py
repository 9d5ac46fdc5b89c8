"""Migrates a database to the tables of `schema.py`, whichever version of the node created it.

To change the tables, change `schema.py` and write the migration that leads there, with the next free number:

    alembic revision --rev-id 0007 -m "add a column"

Then fill in `upgrade()` of the file that this creates in `versions/`. The tests compare both on SQLite and on
PostgreSQL. A migration adds: columns that are nullable or have a `server_default`, tables, indexes. It
removes nothing that the previous version reads, since two versions share a database during a rolling update;
and SQLite changes a column only by copying its table, which foreign keys forbid in a transaction.
"""

import threading
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect

_log = structlog.get_logger()

# Revision of a database that was created before there were migrations.
_FIRST = "0001"
# Alembic has global state.
_one_at_a_time = threading.Lock()


def upgrade(connection: Connection) -> None:
    """Run the missing migrations in the connection's transaction.

    The caller must keep other processes from doing the same. A database with tables but without a revision is
    taken for the first one. Raises `alembic.util.CommandError` if a newer version of the node created it.
    """
    before = _revision(connection)
    with _one_at_a_time:
        config = _config()
        config.attributes["connection"] = connection
        if before is None and inspect(connection).has_table("processes"):
            command.stamp(config, _FIRST)
        command.upgrade(config, "head")
    if before != (after := _revision(connection)):
        _log.info("database.upgraded", before=before, after=after)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
