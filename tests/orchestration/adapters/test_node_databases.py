"""Each node has its own database and role, and no access to another's; on a real PostgreSQL."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import boto3
import psycopg
import pytest
import structlog
from botocore.stub import Stubber

from orchestration.adapters import node_databases_sql as sql
from orchestration.adapters.node_databases import (
    ADMINISTRATION_DATABASE,
    DataApi,
    OneDirectory,
    SharedCluster,
)
from orchestration.adapters.node_databases_sql import DatabaseNames, scram_verifier
from orchestration.adapters.node_secrets import SecretsManagerNodeSecrets
from orchestration.domain.errors import DatabaseWaking, Upstream
from orchestration.domain.node import Node, node_id_of
from pygrid_node.settings import Settings as NodeSettings
from tests import postgresql
from tests.postgresql import Administrator, Server


@pytest.fixture(scope="module")
def server():
    with postgresql.running() as server:
        yield server


@pytest.fixture
def cluster(server):
    return SharedCluster(Administrator(server), server.endpoint)


@pytest.fixture
def fresh():
    """Return a node that no other test uses."""
    return lambda generation=1: Node(
        node_id_of(postgresql.unique("dataset")), "a dataset", generation=generation
    )


@dataclass(frozen=True)
class Login:
    """A node's URL, and connections with it."""

    server: Server
    node: Node
    url: str

    def connect(self, database=None):
        given = urlsplit(self.url)
        return self.server.connect(given.username, given.password, database or self.database)

    def query(self, statement, *values):
        with self.connect() as connection:
            return postgresql.rows(connection, statement, *values)

    @property
    def database(self):
        return self.node.node_id + "db"


@pytest.fixture
def admitted(server, cluster):
    """Create a node's database and return its login."""

    def admit(node):
        url = cluster.new_url(node)
        cluster.ensure(node, url)
        return Login(server, node, url)

    return admit


class TestUrl:
    def test_url_contains_the_node_s_role_and_ends_in_a_slash(self):
        """The node appends its database's name; the original node does, too."""
        node = Node("n0a", "dataset")
        url = SharedCluster(Refusing(), "cluster.test:5432").new_url(node)
        given = urlsplit(url)

        assert (given.scheme, given.hostname, given.port, given.path) == (
            "postgresql",
            "cluster.test",
            5432,
            "/",
        )
        assert given.username == "n0a"
        assert len(given.password) >= 43

    def test_every_url_has_another_password(self):
        """Generations and nodes share none."""
        cluster = SharedCluster(Refusing(), "cluster.test:5432")
        node = Node("n0a", "dataset")

        assert cluster.new_url(node) != cluster.new_url(node)

    def test_one_directory_has_one_url_for_all_nodes(self):
        """The nodes create their files."""
        files = OneDirectory("sqlite:////data/")
        node = Node("n0a", "dataset")
        files.ensure(node, files.new_url(node))
        files.discard(node)

        assert files.new_url(node) == "sqlite:////data/"
        assert list(files.all()) == []


class TestNames:
    def test_names_are_those_of_the_original_node(self):
        """Lower case, without hyphens, with the suffix `db`."""
        names = DatabaseNames.of("My-Node-1")

        assert (names.role, names.database) == ("mynode1", "mynode1db")

    def test_node_derives_the_same_database_name(self):
        """Service and node share no code, so each computes the name."""
        settings = NodeSettings(node_id="My-Node-1", database_url="postgresql://u:p@cluster.test/")

        assert urlsplit(settings.database).path == f"/{DatabaseNames.of('My-Node-1').database}"

    @pytest.mark.parametrize(
        "node_id", ["", "9nodes", "my_data.set", 'n"; DROP ROLE x; --', "n'", "ñ", "n 1", "n" * 42, "n1\n"]
    )
    def test_ids_that_sql_must_quote_are_refused(self, node_id):
        """The original node writes its id into SQL without quotes."""
        with pytest.raises(ValueError, match="letters and digits"):
            DatabaseNames.of(node_id)

    def test_no_statement_contains_a_colon(self):
        """The Data API may parse it as the start of a parameter."""
        names = DatabaseNames.of("n0a")
        verifier = scram_verifier("password", b"salt of 16 bytes")
        statements = [
            sql.grant_login(names, verifier, 3),
            sql.list_nodes(),
            *(
                write(names)
                for write in (
                    sql.select_database,
                    sql.create_database,
                    sql.open_database,
                    sql.close_database,
                    sql.drop_database,
                    sql.drop_role,
                )
            ),
        ]

        assert ":" in verifier
        assert not [statement for statement in statements if ":" in statement]


@pytest.mark.moto
class TestOneNode:
    def test_node_can_create_tables_in_its_database(self, admitted, fresh):
        """It owns the database."""
        login = admitted(fresh())
        login.query("CREATE TABLE model (body bytea)")

        assert login.query("SELECT current_user, current_database()") == [
            (login.node.node_id, login.database)
        ]

    def test_ensure_is_idempotent(self, admitted, cluster, fresh):
        """Models and password stay."""
        login = admitted(fresh())
        login.query("CREATE TABLE model (body bytea)")
        cluster.ensure(login.node, login.url)

        assert login.query("SELECT count(*) FROM model") == [(0,)]

    def test_next_generation_has_the_models_and_a_new_password(self, admitted, fresh):
        """The former password is invalid."""
        first = admitted(fresh())
        first.query("CREATE TABLE model AS SELECT 'trained' AS state")
        second = admitted(replace(first.node, generation=2))

        assert second.query("SELECT state FROM model") == [("trained",)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            first.connect()

    def test_late_process_does_not_restore_an_old_password(self, admitted, cluster, fresh):
        """The password of the newest generation stays, in whatever order processes finish."""
        first = admitted(fresh())
        second = admitted(replace(first.node, generation=2))
        cluster.ensure(first.node, first.url)

        assert second.query("SELECT 1") == [(1,)]
        with pytest.raises(psycopg.OperationalError):
            first.connect()

    def test_concurrent_launches_leave_a_valid_password(self, server, cluster, fresh):
        """Four launches at the same time use the URL of one secret; none fails."""
        for _ in range(5):
            node = fresh()
            url = cluster.new_url(node)
            together = threading.Barrier(4)

            def ensure(_number, node=node, url=url, together=together):
                together.wait()
                cluster.ensure(node, url)

            with ThreadPoolExecutor(4) as threads:
                list(threads.map(ensure, range(4)))

            assert Login(server, node, url).query("SELECT 1") == [(1,)]

    def test_secret_decides_between_two_passwords(self, aws, server, cluster, fresh):
        """Each process creates a password; both use the one of the secret that was created first."""
        node = fresh()
        client = aws.client("secretsmanager")
        first, second = (
            SecretsManagerNodeSecrets(client, "orchestration.test:5001", cluster.new_url).ensure(node)
            for _ in range(2)
        )
        cluster.ensure(node, second.database_url)
        cluster.ensure(node, first.database_url)
        content = json.loads(client.get_secret_value(SecretId=first.reference)["SecretString"])

        assert Login(server, node, content["DATABASE_URL"]).query("SELECT 1") == [(1,)]
        assert first == second
        assert urlsplit(content["DATABASE_URL"]).password not in repr(first)

    def test_concurrent_launches_of_several_nodes_work(self, admitted, fresh):
        """Two changes of a shared catalogue at the same time would fail."""
        with ThreadPoolExecutor(4) as threads:
            logins = list(threads.map(admitted, [fresh() for _ in range(8)]))

        assert [login.query("SELECT 1") for login in logins] == [[(1,)]] * 8

    def test_interrupted_ensure_is_completed_by_the_next(self, server, cluster, fresh):
        """After any statement; only the last one allows connections."""
        for survived in range(4):
            node = fresh()
            url = cluster.new_url(node)
            with pytest.raises(Upstream):
                replace(cluster, executor=Interrupted(cluster.executor, survived)).ensure(node, url)
            with pytest.raises(psycopg.OperationalError):
                Login(server, node, url).connect()
            cluster.ensure(node, url)

            assert Login(server, node, url).query("SELECT 1") == [(1,)]

    def test_additional_privileges_are_revoked(self, server, admitted, fresh):
        """The next generation has exactly the privileges of a new role."""
        login = admitted(fresh())
        server.query(f"ALTER ROLE {login.node.node_id} CREATEDB CREATEROLE")
        server.query(f"GRANT CONNECT ON DATABASE {login.database} TO PUBLIC")
        admitted(replace(login.node, generation=2))
        other = admitted(fresh())

        assert rights_of(server, login) == (True, False, False, False, False, False, sql.CONNECTION_LIMIT)
        with pytest.raises(psycopg.OperationalError):
            other.connect(login.database)

    def test_url_of_another_kind_of_database_is_refused(self, cluster, fresh):
        """A node that was launched with files must be retired once."""
        for url in ("sqlite:////data/", "postgresql://shared:password@cluster.test/"):
            with pytest.raises(Upstream, match="retire the node once"):
                cluster.ensure(fresh(), url)


def rights_of(server, login):
    return server.query(
        "SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolconnlimit"
        " FROM pg_roles WHERE rolname = %s",
        login.node.node_id,
    )[0]


@pytest.fixture(scope="module")
def two(server):
    """Two nodes, one of which has stored a model."""
    cluster = SharedCluster(Administrator(server), server.endpoint)
    logins = []
    for name in ("first", "second"):
        node = Node(node_id_of(postgresql.unique(name)), name, generation=1)
        url = cluster.new_url(node)
        cluster.ensure(node, url)
        logins.append(Login(server, node, url))
    logins[1].query("CREATE TABLE model AS SELECT 'private' AS state")
    return logins


@pytest.mark.moto
class TestBetweenNodes:
    def test_role_has_no_privilege_but_login(self, server, two):
        """It is a member of no other role."""
        memberships = server.query(
            "SELECT 1 FROM pg_auth_members WHERE member = CAST(%s AS regrole)", two[0].node.node_id
        )

        assert rights_of(server, two[0]) == (True, False, False, False, False, False, sql.CONNECTION_LIMIT)
        assert memberships == []

    def test_node_cannot_connect_to_another_database(self, two):
        """Neither to another node's nor to those of the cluster."""
        first, second = two
        for login, database in (
            (first, second.database),
            (second, first.database),
            (first, "postgres"),
            (first, "template1"),
        ):
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                login.connect(database)

    def test_node_cannot_log_in_as_another(self, server, two):
        """Its password is valid for its own role only."""
        first, second = two
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            server.connect(second.node.node_id, urlsplit(first.url).password, second.database)

    @pytest.mark.parametrize(
        "attempt",
        [
            "CREATE DATABASE mine",
            "CREATE ROLE mine",
            "SET ROLE {other}",
            "SET SESSION AUTHORIZATION {other}",
            "GRANT {other} TO {own}",
            "ALTER ROLE {other} PASSWORD 'x'",
            "ALTER ROLE {own} CREATEDB",
            "ALTER ROLE {own} CONNECTION LIMIT -1",
            "COMMENT ON ROLE {own} IS 'generation 0'",
            "DROP DATABASE {other}db",
            "GRANT CONNECT ON DATABASE {other}db TO {own}",
            "SELECT rolpassword FROM pg_authid",
            "SELECT passwd FROM pg_shadow",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> current_user",
            "SELECT pg_read_file('pg_hba.conf')",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "CREATE EXTENSION dblink",
            "SELECT * FROM {other}db.public.model",
        ],
    )
    def test_node_cannot_gain_privileges(self, two, attempt):
        """PostgreSQL refuses each statement for lack of a privilege, or doesn't support it."""
        own, other = (login.node.node_id for login in two)
        refusals = (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)
        with two[1].connect(), pytest.raises(refusals):
            two[0].query(attempt.format(own=own, other=other))

    def test_node_cannot_see_statements_of_another(self, two):
        """The statistics hide them."""
        with two[1].connect() as busy:
            busy.execute("SELECT 'private'")
            seen = two[0].query("SELECT query FROM pg_stat_activity WHERE usename = %s", two[1].node.node_id)

        assert {query for (query,) in seen} == {"<insufficient privilege>"}

    def test_connections_of_a_node_are_limited(self, two):
        """Other nodes can still connect."""
        held = []
        try:
            with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
                held.extend(two[0].connect() for _ in range(sql.CONNECTION_LIMIT + 1))
            assert two[1].query("SELECT 1") == [(1,)]
        finally:
            for connection in held:
                connection.close()


@pytest.mark.moto
class TestDiscard:
    def test_discard_ends_connections_and_drops_everything(self, server, cluster, admitted, fresh):
        """Neither database nor role is left."""
        login = admitted(fresh())
        with login.connect() as connected:
            connected.execute("CREATE TABLE model (body bytea)")
            cluster.discard(login.node)
            with pytest.raises(psycopg.OperationalError):
                connected.execute("SELECT 1")

        assert server.query("SELECT 1 FROM pg_database WHERE datname = %s", login.database) == []
        assert server.query("SELECT 1 FROM pg_roles WHERE rolname = %s", login.node.node_id) == []
        with pytest.raises(psycopg.OperationalError):
            login.connect()

    def test_discard_is_idempotent(self, cluster, admitted, fresh):
        """Also for a node without database, and concurrently."""
        login = admitted(fresh())
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(cluster.discard, [login.node] * 3))
        cluster.discard(login.node)
        cluster.discard(fresh())

    def test_discard_completes_a_drop_that_was_interrupted(self, server, cluster, admitted, fresh):
        """PostgreSQL then marks the database as invalid, and it can only be dropped."""
        login = admitted(fresh())
        server.query("UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", login.database)
        cluster.discard(login.node)

        assert server.query("SELECT 1 FROM pg_database WHERE datname = %s", login.database) == []

    def test_interrupted_discard_is_completed_by_the_next(self, server, cluster, admitted, fresh):
        """After any statement."""
        for survived in range(5):
            login = admitted(fresh())
            with pytest.raises(Upstream):
                replace(cluster, executor=Interrupted(cluster.executor, survived)).discard(login.node)
            cluster.discard(login.node)

            assert server.query("SELECT 1 FROM pg_roles WHERE rolname = %s", login.node.node_id) == []

    def test_database_is_empty_after_discard(self, cluster, admitted, fresh):
        """Also if generations count from one again."""
        login = admitted(fresh(generation=7))
        login.query("CREATE TABLE model (body bytea)")
        cluster.discard(login.node)
        again = admitted(replace(login.node, generation=1))

        assert again.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]

    def test_database_that_cannot_be_dropped_is_an_error(self, cluster, admitted, fresh):
        """It must not be reported as gone."""
        login = admitted(fresh())
        refusing = Refusing(but=cluster.executor)
        with pytest.raises(Upstream):
            replace(cluster, executor=refusing).discard(login.node)


SABOTAGE = [
    "ALTER DATABASE {own}db IS_TEMPLATE true",
    "ALTER DATABASE {own}db CONNECTION LIMIT 0",
    "ALTER DATABASE {own}db ALLOW_CONNECTIONS false",
    "ALTER DATABASE {own}db SET default_transaction_read_only = on",
    "ALTER DATABASE {own}db SET search_path = nowhere",
    "ALTER DATABASE {own}db SET statement_timeout = 1",
    "ALTER DATABASE {own}db RENAME TO {own}gone",
    "ALTER DATABASE {own}db OWNER TO {other}",
    "ALTER DATABASE {own}db SET TABLESPACE pg_global",
    "REVOKE ALL ON DATABASE {own}db FROM {own}",
    "REVOKE ALL ON DATABASE {own}db FROM administrator",
    "GRANT ALL ON DATABASE {own}db TO PUBLIC",
    "GRANT ALL ON DATABASE {own}db TO {other} WITH GRANT OPTION",
    "GRANT ALL ON DATABASE {own}db TO administrator WITH GRANT OPTION",
    "DROP DATABASE {own}db",
    "ALTER ROLE {own} SET default_transaction_read_only = on",
    "ALTER ROLE {own} SET search_path = nowhere",
    "ALTER ROLE {own} SET role = nobody",
    "ALTER ROLE {own} IN DATABASE {own}db SET default_transaction_read_only = on",
    "ALTER ROLE {own} IN DATABASE postgres SET default_transaction_read_only = on",
    "ALTER ROLE {own} PASSWORD 'mine'",
    "ALTER ROLE {own} PASSWORD NULL",
    "ALTER ROLE {own} NOLOGIN",
    "ALTER ROLE {own} VALID UNTIL '2000-01-01'",
    "ALTER ROLE {own} RENAME TO {own}x",
    "COMMENT ON ROLE {own} IS 'generation 2000000000'",
    "REVOKE {own} FROM administrator",
    "GRANT {own} TO {other}",
    "REASSIGN OWNED BY {own} TO {other}",
    "DROP OWNED BY {own}",
    "DROP ROLE {own}",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {other}",
    "ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM {own}",
    "PREPARE TRANSACTION 'stays'",
]
"""Statements with which the owner of a database may try to spoil it; PostgreSQL refuses some."""


@pytest.mark.moto
class TestSabotage:
    """A node that was taken over, whose generation ends."""

    @pytest.fixture
    def pair(self, admitted, fresh):
        """A node that was taken over, and another one."""
        return admitted(fresh()), admitted(fresh())

    @staticmethod
    def spoil(login, other, *statements):
        with login.connect() as connection:
            for statement in statements:
                with suppress(psycopg.Error):
                    connection.execute(statement.format(own=login.node.node_id, other=other.node.node_id))

    @staticmethod
    def assert_works(login):
        """Check that a node can start with this login, and that its settings are those of a new one."""
        login.query("CREATE TABLE IF NOT EXISTS model (body text)")
        login.query("INSERT INTO model VALUES ('trained')")
        settings = login.query("SELECT current_setting('search_path'), current_setting('statement_timeout')")
        assert settings == [('"$user", public', "0")]

    def test_next_generation_works(self, admitted, pair):
        """After each statement. Its models are kept, and no other node may connect to its database."""
        login, other = pair
        for generation, statement in enumerate(SABOTAGE, start=2):
            self.spoil(login, other, "CREATE TABLE IF NOT EXISTS kept (state text)", statement)
            login = admitted(replace(login.node, generation=generation))

            self.assert_works(login)
            if not statement.startswith("DROP OWNED"):
                assert login.query("SELECT count(*) FROM kept") == [(0,)], statement
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                other.connect(login.database)
        self.assert_works(other)

    @pytest.mark.parametrize("statements", [SABOTAGE[:1], SABOTAGE], ids=["template", "all"])
    def test_database_and_role_are_discarded(self, server, cluster, pair, statements):
        """And the other node works on."""
        login, other = pair
        self.spoil(login, other, *statements)
        cluster.discard(login.node)

        assert self.left_of(server, login) == []
        self.assert_works(other)
        cluster.discard(other.node)
        assert self.left_of(server, other) == []

    @staticmethod
    def left_of(server, login):
        return server.query(
            "SELECT rolname FROM pg_roles WHERE rolname = %s UNION SELECT datname FROM pg_database"
            " WHERE datname = %s",
            login.node.node_id,
            login.database,
        )

    @pytest.fixture
    def begin(self):
        """Return a function that executes statements in a transaction, and leaves it open."""
        with ExitStack() as stack:

            def execute(login, *statements, **names):
                connection = login.connect()
                stack.callback(connection.close)
                for statement in ("BEGIN", *statements):
                    connection.execute(statement.format(own=login.node.node_id, **names))
                return connection

            yield execute

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT 1",
            "COMMENT ON DATABASE {own}db IS 'locked'",
            "ALTER DATABASE {own}db CONNECTION LIMIT 0",
            "GRANT CONNECT ON DATABASE {own}db TO PUBLIC",
            "ALTER ROLE {own} PASSWORD 'mine'",
        ],
    )
    @pytest.mark.parametrize("is_discarded", [False, True])
    def test_open_transaction_blocks_nothing(
        self, admitted, cluster, server, fresh, begin, statement, is_discarded
    ):
        """It holds locks for as long as its session lives; the session ends with the generation."""
        login = admitted(fresh())
        connection = begin(login, statement)
        if is_discarded:
            cluster.discard(login.node)
            assert self.left_of(server, login) == []
        else:
            self.assert_works(admitted(replace(login.node, generation=2)))
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")

    @pytest.mark.parametrize(
        "statement", ["GRANT TEMPORARY ON DATABASE {own}db TO PUBLIC", "ALTER ROLE {own} PASSWORD 'mine'"]
    )
    def test_open_transaction_does_not_block_other_nodes(self, admitted, fresh, pair, begin, statement):
        """They are launched while the node that was taken over runs."""
        login, other = pair
        self.spoil(login, other, "GRANT CONNECT ON DATABASE {own}db TO PUBLIC")
        connection = begin(login, statement)
        self.assert_works(admitted(fresh()))
        self.assert_works(admitted(replace(other.node, generation=2)))

        assert connection.execute("SELECT 1").fetchall() == [(1,)]

    @pytest.mark.parametrize(
        "statements",
        [
            ["ALTER ROLE {own} IN DATABASE {other}db SET work_mem = '1MB'"],
            ["CREATE TABLE bait (x int)", "GRANT SELECT ON bait TO {other}"],
            ["GRANT CONNECT ON DATABASE {own}db TO {other}"],
        ],
        ids=" ".join,
    )
    @pytest.mark.parametrize("end", ["SELECT 1", "COMMIT"])
    def test_another_node_cannot_prevent_that_one_is_discarded(
        self, cluster, admitted, server, pair, begin, statements, end
    ):
        """It may grant privileges to its role, or hold a lock; the login ends in any case."""
        hostile, victim = pair
        begin(hostile, *statements, end, other=victim.node.node_id)
        for _ in range(2):
            cluster.discard(victim.node)

        assert victim.database not in [name for (name,) in self.left_of(server, victim)]
        assert victim.node.node_id not in cluster.all()
        with pytest.raises(psycopg.OperationalError):
            victim.connect(hostile.database)
        again = admitted(replace(victim.node, generation=1))
        self.assert_works(again)
        assert again.node.node_id in cluster.all()

    def test_session_of_the_past_generation_ends(self, admitted, fresh, begin):
        """It could spoil the database of the next one, or hold all connections that a node may have."""
        login = admitted(fresh())
        held = [begin(login) for _ in range(sql.CONNECTION_LIMIT)]
        successor = admitted(replace(login.node, generation=2))

        self.assert_works(successor)
        for connection in held:
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")

    def test_session_of_this_generation_lives_on(self, cluster, admitted, fresh):
        """A process may repeat the last step of a launch while the node runs."""
        login = admitted(fresh(generation=3))
        with login.connect() as connection:
            cluster.ensure(login.node, login.url)
            cluster.ensure(replace(login.node, generation=2), cluster.new_url(login.node))

            assert connection.execute("SELECT 1").fetchall() == [(1,)]

    def test_ensure_completes_a_drop_that_was_interrupted(self, server, cluster, admitted, fresh):
        """PostgreSQL marks the database as invalid; its models are gone."""
        login = admitted(fresh())
        server.query("UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", login.database)
        cluster.ensure(login.node, login.url)

        self.assert_works(login)


@pytest.mark.moto
class TestAll:
    def test_each_node_is_listed_once_until_discarded(self, cluster, admitted, fresh):
        """Its role and its database are one entry."""
        stays, goes = admitted(fresh()).node.node_id, admitted(fresh()).node
        before = [node_id for node_id in cluster.all() if node_id in (stays, goes.node_id)]
        cluster.discard(goes)
        after = cluster.all()

        assert before == sorted([stays, goes.node_id])
        assert stays in after
        assert goes.node_id not in after

    def test_role_or_database_alone_is_listed(self, server, cluster, fresh):
        """An interrupted change leaves one of them."""
        login_only, database_only = fresh().node_id, fresh().node_id
        server.query(f"CREATE ROLE {login_only}")
        server.query(f"CREATE DATABASE {database_only}db OWNER administrator")
        found = cluster.all()

        assert {login_only, database_only} <= set(found)

    def test_other_roles_and_databases_are_not_listed(self, server, cluster):
        """They are never to be changed."""
        before = cluster.all()
        almost = node_id_of("almost")
        for name in (f"{almost}0", f"x{almost[1:]}", almost[:-1], f"{almost[:-1]}g", f'"{almost.upper()}"'):
            server.query(f"CREATE ROLE {name}")
        for name in (almost, f"{almost}0db", f"x{almost}db", f"{almost}dbs", f'"{almost.upper()}db"'):
            server.query(f"CREATE DATABASE {name}")

        assert cluster.all() == before


@pytest.mark.moto
def test_server_s_log_contains_no_password(server, admitted, fresh):
    """It logs every statement in this test; statements contain only the verifier."""
    passwords = [urlsplit(admitted(fresh()).url).password for _ in range(2)]
    written = server.log.read_text()

    assert "SCRAM-SHA-256$4096" in written
    assert not [password for password in passwords if password in written]


def test_verifier_is_that_of_postgresql():
    """For the password `pencil`, RFC 7677's example, with its salt and 4096 iterations."""
    verifier = scram_verifier("pencil", b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81")

    assert verifier == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


@dataclass
class Interrupted:
    """An executor that fails after a number of statements."""

    executor: Administrator
    left: int

    def run(self, statement: str) -> list[tuple]:
        if not self.left:
            raise Upstream("interrupted")
        self.left -= 1
        return self.executor.run(statement)


@dataclass
class Refusing:
    """An executor that neither creates nor drops a database."""

    but: Administrator | None = None

    def run(self, statement: str) -> list[tuple]:
        if self.but is None or "DATABASE IF" in statement or "CREATE DATABASE" in statement:
            raise Upstream("The nodes' database refused a call: 55006.")
        return self.but.run(statement)


class TestDataApi:
    @pytest.fixture
    def stubbed(self):
        client = boto3.client(
            "rds-data",
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        with Stubber(client) as stub:
            yield DataApi(client, "arn:aws:rds:cluster", "arn:aws:secretsmanager:secret-of-admin"), stub

    def test_statement_runs_in_its_own_transaction(self, stubbed):
        """Databases can't be created within a longer one."""
        api, stub = stubbed
        expected = {
            "resourceArn": "arn:aws:rds:cluster",
            "secretArn": "arn:aws:secretsmanager:secret-of-admin",
            "database": ADMINISTRATION_DATABASE,
            "sql": "SELECT 1",
        }
        found = [[{"longValue": 1}, {"stringValue": "n0a"}], [{"booleanValue": False}, {"isNull": True}]]
        stub.add_response("execute_statement", {"records": found}, expected)
        stub.add_response("execute_statement", {"records": []})
        stub.add_response("execute_statement", {"numberOfRecordsUpdated": 0})

        assert api.run("SELECT 1") == [(1, "n0a"), (False, None)]
        assert [api.run("SELECT 2"), api.run("DROP ROLE x")] == [[], []]

    @pytest.mark.parametrize(
        ("code", "message"),
        [
            ("DatabaseResumingException", "The Aurora DB instance is resuming after being auto-paused."),
            ("StatementTimeoutException", "Request timed out"),
            ("BadRequestException", "Communications link failure\n\nThe last packet sent"),
            ("BadRequestException", "Database is resuming"),
        ],
    )
    def test_paused_database_is_reported_at_once(self, stubbed, code, message):
        """One call without a pause: the caller tries again later."""
        api, stub = stubbed
        stub.add_client_error("execute_statement", code, message)
        started = time.monotonic()
        with pytest.raises(DatabaseWaking, match=r"^The nodes' database is waking up\.$"):
            api.run("SELECT 1")

        assert time.monotonic() - started < 0.5
        stub.assert_no_pending_responses()

    @pytest.mark.parametrize(
        "code",
        [
            "ThrottlingException",
            "InvalidSecretException",
            "AccessDeniedException",
            "BadRequestException",
            "DatabaseErrorException",
            "DatabaseUnavailableException",
        ],
    )
    def test_other_errors_are_upstream_with_their_code(self, stubbed, code):
        """AWS's message may repeat the statement, so it is left out."""
        api, stub = stubbed
        stub.add_client_error("execute_statement", code, "syntax error at or near 'private'")
        with pytest.raises(Upstream) as refusal:
            api.run("SELECT 'private'")

        assert str(refusal.value) == f"The nodes' database refused a call: {code}."
        assert not isinstance(refusal.value, DatabaseWaking)

    def test_pause_during_ensure_is_reported_without_another_call(self, stubbed):
        """Another call would fail in the same way."""
        api, stub = stubbed
        stub.add_response("execute_statement", {})
        stub.add_response("execute_statement", {"records": []})
        stub.add_client_error("execute_statement", "DatabaseResumingException", "")
        cluster = SharedCluster(api, "cluster.test:5432")
        node = Node("n0a", "dataset", generation=1)
        with pytest.raises(DatabaseWaking):
            cluster.ensure(node, cluster.new_url(node))

        stub.assert_no_pending_responses()

    def test_statements_errors_and_logs_contain_no_password(self, stubbed):
        """Neither do the errors' causes, which a traceback shows."""
        api, stub = stubbed
        stub.add_client_error("execute_statement", "DatabaseErrorException", "ERROR; SQLState 42601")
        sent = []
        api.client.meta.events.register(
            "provide-client-params.rds-data.*", lambda params, **_: sent.append(params)
        )
        cluster = SharedCluster(api, "cluster.test:5432")
        node = Node("n0a", "dataset", generation=1)
        url = cluster.new_url(node)
        with structlog.testing.capture_logs() as logs, pytest.raises(Upstream) as refusal:
            cluster.ensure(node, url)

        assert len(sent) == 1
        assert urlsplit(url).password not in str(sent)
        assert urlsplit(url).password not in f"{refusal.value!r} {refusal.value.__cause__!r} {logs}"
