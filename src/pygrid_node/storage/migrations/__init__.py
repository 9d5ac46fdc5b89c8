"""Brings a database to the tables of `schema.py`, whichever version of the node made it.

To change the tables: change `schema.py`, then write the step that leads there, with its number as the next
free one,

    alembic revision --rev-id 0007 -m "remember when a place lapses"

and fill in `upgrade()` of the file that this makes in `versions/`. The tests say whether both agree, on
SQLite and on PostgreSQL. A step adds: columns that may be NULL or have a `server_default`, tables, indexes.
It takes nothing away that the version before it reads, since two versions share a database while one
replaces the other; and SQLite changes a column only by copying its table, which foreign keys forbid in a
transaction.
"""

import threading
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect

_log = structlog.get_logger()

# What a database holds that was made before there were migrations.
FIRST = "0001"
# Alembic keeps what it works on in globals.
_one_at_a_time = threading.Lock()


def upgrade(connection: Connection) -> None:
    """Run the steps that a database has not had, in the connection's transaction: all or none are kept.

    The caller sees to it that no other process does the same meanwhile. A database that has tables and no
    version is taken as one of `FIRST`. Raises `alembic.util.CommandError` for one made by a newer version of
    the node.
    """
    before = _revision(connection)
    with _one_at_a_time:
        config = _config()
        config.attributes["connection"] = connection
        if before is None and inspect(connection).has_table("processes"):
            command.stamp(config, FIRST)
        command.upgrade(config, "head")
    if before != (after := _revision(connection)):
        _log.info("database_upgraded", before=before, after=after)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
