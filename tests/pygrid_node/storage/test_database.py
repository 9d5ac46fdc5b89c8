"""Transactions on SQLite, and connections to a real PostgreSQL."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import OperationalError

from pygrid_node.settings import Settings
from pygrid_node.storage.database import Database, with_driver
from pygrid_node.storage.schema import metadata, workers
from tests.pygrid_node.helpers import wait_for


def at_once(*calls):
    """Run calls in threads; return their results."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


def test_diff_that_was_accepted_is_on_the_disk(tmp_path):
    """A power cut may revert only transactions that are not synced, and only since the last one that is."""
    database = Database(f"sqlite:///{tmp_path}/db")
    settings = []
    for synced in (False, True, False):
        with database.writing(synced=synced) as connection:
            settings.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())
    with database.writing() as connection:
        settings.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())
    database.close()

    assert settings == [1, 2, 1, 2]  # 1: NORMAL, 2: FULL


@pytest.mark.moto
def test_processes_that_start_at_once_create_the_tables_once(database_url, node_id):
    """None of them fails."""
    url = Settings(node_id=node_id, database_url=database_url, master_node_url="h:1").database
    made = at_once(*(lambda: Database(url) for _ in range(4)))
    with made[0].reading() as connection:
        found = [connection.execute(select(table)).all() for table in metadata.sorted_tables]
    for database in made:
        database.close()

    assert not any(found)


@pytest.fixture
def database(postgresql_url):
    name = make_url(postgresql_url).username
    database = Database(f"{postgresql_url}{name}db", idle_after=0.2)
    yield database
    database.close()


@pytest.fixture
def connections(server, database):
    """Return the number of open connections of the node."""
    name = database._engine.url.username
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
    return lambda: server.query(query, name)[0][0]


@pytest.mark.moto
@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_url_without_a_driver_gets_psycopg(scheme):
    """PyGrid's own image accepts no other URL, and both images read the same secret."""
    assert with_driver(make_url(f"{scheme}://u:p@h:5432/d")) == make_url("postgresql+psycopg://u:p@h:5432/d")


@pytest.mark.moto
def test_idle_node_has_no_connection(database, connections):
    """A serverless cluster with a connection never pauses, and costs money."""
    at_once(*(lambda: _slow_read(database) for _ in range(4)))
    busy = connections()
    wait_for(lambda: connections() == 0)
    with database.reading() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1

    assert busy == 4


@pytest.mark.moto
def test_running_transaction_keeps_its_connection(database):
    """Its duration doesn't matter."""
    with database.writing() as connection:
        connection.execute(text("CREATE TABLE kept (value integer)"))
        time.sleep(0.6)
    with database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM kept")).scalar() == 0


@pytest.mark.moto
def test_connection_that_the_server_closed_is_not_used_again(server, database):
    """After a restart or a move of the database, only the running transactions fail."""
    with database.reading():
        pass
    server.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
        database._engine.url.username,
    )
    with database.reading() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


@pytest.mark.moto
def test_reading_transaction_cannot_write(database):
    """PostgreSQL itself refuses."""
    with (
        pytest.raises(Exception, match="read-only transaction"),
        database.reading() as connection,
    ):
        connection.execute(workers.insert().values(id="w", process_id=1))


@pytest.mark.moto
def test_no_password_is_in_the_error_of_a_database_that_refuses(server, postgresql_url):
    """The node logs the error when it cannot start."""
    name = make_url(postgresql_url).username
    with pytest.raises(OperationalError) as refusal:
        Database(f"postgresql://{name}:not-this-one@{server.endpoint}/{name}db")

    assert "not-this-one" not in f"{refusal.value} {refusal.value!r} {refusal.value.__cause__!r}"
    assert isinstance(refusal.value.orig, psycopg.OperationalError)


def _slow_read(database):
    with database.reading() as connection:
        connection.execute(text("SELECT pg_sleep(0.1)"))
