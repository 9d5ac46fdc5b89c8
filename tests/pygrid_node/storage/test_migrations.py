"""A database of an older version is migrated in one transaction and keeps its rows."""

import importlib
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import create_engine, inspect, make_url, text

from pygrid_node.settings import Settings
from pygrid_node.storage import migrations
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.database import Database, with_driver
from pygrid_node.storage.models import ModelStore
from pygrid_node.storage.schema import metadata

pytestmark = pytest.mark.moto

PROJECT = Path(__file__).parents[3] / "pyproject.toml"
ROWS = {
    "processes": {
        "id": 1,
        "name": "old",
        "version": "0.1",
        "client_config": '{"name": "old"}',
        "server_config": '{"num_cycles": 2, "max_diffs": 3, "cycle_length": 600}',
        "parameters": '[["float32", [2]]]',
        "averaging_plan": b"",
    },
    "plans": {
        "id": 1,
        "process_id": 1,
        "name": "training_plan",
        "torchscript": b"t",
        "tfjs": b"j",
        "list": b"l",
    },
    "checkpoints": {"process_id": 1, "number": 1, "body": b"a state"},
    "cycles": {"id": 1, "process_id": 1, "number": 1, "ends_at": 9e9, "wanted": 3, "counted": 1},
    "diffs": {"id": 1, "cycle_id": 1, "body": b"a diff"},
}


@pytest.fixture
def url(database_url, node_id):
    """A new database."""
    return Settings(node_id=node_id, database_url=database_url, master_node_url="h:1").database


@pytest.fixture
def engine(url):
    """A connection to the database beside the node's."""
    engine = create_engine(with_driver(make_url(url)))
    yield engine
    engine.dispose()


@pytest.fixture
def old(engine):
    """A database as the version before migrations created it, with an open cycle."""
    first = importlib.import_module("pygrid_node.storage.migrations.versions.r0001_first_tables")
    with engine.begin() as connection:
        with Operations.context(MigrationContext.configure(connection)):
            first.upgrade()
        for table, row in ROWS.items():
            names = ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({names})"), row)  # noqa: S608


def revisions(engine):
    with engine.begin() as connection:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()


@pytest.mark.parametrize("before", ["nothing", "old"])
def test_migrations_lead_to_the_tables_of_the_schema(request, url, engine, before):
    """They start from an empty database or one without a revision; a second start changes nothing."""
    if before == "old":
        request.getfixturevalue("old")
    for _ in range(2):
        Database(url).close()
    with engine.begin() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)

    assert differences == []
    assert len(revisions(engine)) == 1


def test_database_without_a_revision_keeps_its_rows(old, url):
    """These are its model, its plans, and the diff of the open cycle."""
    database = Database(url)
    models, cycles = ModelStore(database), CycleStore(database)
    model, cycle = models.find("old"), cycles.open_cycle(1)
    kept = [models.checkpoint(1).read(), models.plan(1, "tfjs")[1]]
    diffs = list(cycles.diffs(cycle))
    database.close()

    assert (model.id, model.plans, cycle.counted) == (1, {"training_plan": 1}, 1)
    assert kept == [b"a state", b"j"]
    assert diffs == [b"a diff"]


def test_migration_that_fails_leaves_the_database_unchanged(old, url, engine, monkeypatch):
    """The previous version can still use it."""

    def fail(*_args):
        raise OSError("the power went")

    monkeypatch.setattr(command, "upgrade", fail)
    with pytest.raises(OSError, match="power"):
        Database(url)

    assert not inspect(engine).has_table("alembic_version")


def test_database_of_a_newer_version_is_refused(url, engine):
    """This version does not know its columns."""
    Database(url).close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CommandError, match="9999"):
        Database(url)


def test_new_migration_is_created_as_the_docstring_says(tmp_path):
    """It follows the newest migration and can be run."""
    config = Config(toml_file=PROJECT)
    config.set_main_option("version_locations", f"{migrations.__path__[0]}/versions:{tmp_path}")
    config.set_main_option("path_separator", ":")
    made = command.revision(config, "remember more", rev_id="9999", version_path=str(tmp_path))

    assert [path.name for path in tmp_path.glob("*.py")] == ["r9999_remember_more.py"]
    assert made.module.__doc__ == "Remember more."
    assert made.down_revision is not None
    assert callable(made.module.upgrade)
