"""Each node has its database and its login, and no way into another's; on a real PostgreSQL."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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
    """Nodes that no other test has used."""
    return lambda generation=1: Node(
        node_id_of(postgresql.unique("dataset")), "a dataset", generation=generation
    )


@dataclass(frozen=True)
class Login:
    """What a node knows: where its database is, and how it gets in."""

    server: Server
    node: Node
    url: str

    def connect(self, database=None):
        given = urlsplit(self.url)
        return self.server.connect(given.username, given.password, database or self.database)

    def ask(self, statement, *values):
        with self.connect() as connection:
            return postgresql.rows(connection, statement, *values)

    @property
    def database(self):
        return self.node.node_id + "db"


@pytest.fixture
def admitted(server, cluster):
    """Admit a node; its login."""

    def admit(node):
        url = cluster.new_url(node)
        cluster.ensure(node, url)
        return Login(server, node, url)

    return admit


class TestTheUrl:
    def test_it_ends_in_a_slash_and_names_the_nodes_own_login(self):
        """The node, the original too, appends its database's name."""
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

    def test_no_two_generations_get_the_same_password(self):
        """Nor any two nodes."""
        cluster = SharedCluster(Refusing(), "cluster.test:5432")
        node = Node("n0a", "dataset")

        assert cluster.new_url(node) != cluster.new_url(node)

    def test_on_one_machine_all_nodes_share_a_directory(self):
        """They make their files themselves."""
        files = OneDirectory("sqlite:////data/")
        node = Node("n0a", "dataset")
        files.ensure(node, files.new_url(node))
        files.discard(node)

        assert files.new_url(node) == "sqlite:////data/"
        assert list(files.all()) == []


class TestNames:
    def test_they_are_those_of_the_original_node(self):
        """Lower case, without hyphens, `db` behind it."""
        names = DatabaseNames.of("My-Node-1")

        assert (names.role, names.database) == ("mynode1", "mynode1db")

    def test_node_derives_the_same_database_name(self):
        """Service and node share no code, so each computes the name."""
        settings = NodeSettings(node_id="My-Node-1", database_url="postgresql://u:p@cluster.test/")

        assert urlsplit(settings.database).path == f"/{DatabaseNames.of('My-Node-1').database}"

    @pytest.mark.parametrize(
        "node_id", ["", "9lives", "my_data.set", 'n"; DROP ROLE x; --', "n'", "ñ", "n 1", "n" * 42, "n1\n"]
    )
    def test_what_sql_would_have_to_quote_is_refused(self, node_id):
        """The original writes the name into SQL without quotes."""
        with pytest.raises(ValueError, match="letters and digits"):
            DatabaseNames.of(node_id)

    def test_no_statement_holds_a_colon(self):
        """The Data API may take what follows for a parameter's name."""
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
    def test_it_gets_into_its_own_database_and_can_make_tables(self, admitted, fresh):
        """It is the database's owner: that is all it needs."""
        login = admitted(fresh())
        login.ask("CREATE TABLE model (body bytea)")

        assert login.ask("SELECT current_user, current_database()") == [(login.node.node_id, login.database)]

    def test_ensuring_it_again_is_the_same(self, admitted, cluster, fresh):
        """The models stay, and so does the password."""
        login = admitted(fresh())
        login.ask("CREATE TABLE model (body bytea)")
        cluster.ensure(login.node, login.url)

        assert login.ask("SELECT count(*) FROM model") == [(0,)]

    def test_the_next_generation_finds_the_models_under_a_new_password(self, admitted, fresh):
        """The former password opens nothing any more."""
        first = admitted(fresh())
        first.ask("CREATE TABLE model AS SELECT 'trained' AS state")
        second = admitted(replace(first.node, generation=2))

        assert second.ask("SELECT state FROM model") == [("trained",)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            first.connect()

    def test_a_process_that_slept_through_a_generation_takes_nothing_back(self, admitted, cluster, fresh):
        """It ends with the password of the newest generation, whoever comes last."""
        first = admitted(fresh())
        second = admitted(replace(first.node, generation=2))
        cluster.ensure(first.node, first.url)

        assert second.ask("SELECT 1") == [(1,)]
        with pytest.raises(psycopg.OperationalError):
            first.connect()

    def test_two_processes_at_once_end_up_with_one_password_that_works(self, server, cluster, fresh):
        """Four launch it at the same moment, all with the URL that the secret holds; none fails."""
        for _ in range(5):
            node = fresh()
            url = cluster.new_url(node)
            together = threading.Barrier(4)

            def ensure(_number, node=node, url=url, together=together):
                together.wait()
                cluster.ensure(node, url)

            with ThreadPoolExecutor(4) as threads:
                list(threads.map(ensure, range(4)))

            assert Login(server, node, url).ask("SELECT 1") == [(1,)]

    def test_two_processes_that_launch_one_generation_agree_on_the_password(
        self, aws, server, cluster, fresh
    ):
        """Each makes one up; the secret that was there first is the one that counts, for both."""
        node = fresh()
        client = aws.client("secretsmanager")
        first, second = (
            SecretsManagerNodeSecrets(client, "orchestration.test:5001", cluster.new_url).ensure(node)
            for _ in range(2)
        )
        cluster.ensure(node, second.database_url)
        cluster.ensure(node, first.database_url)
        told = json.loads(client.get_secret_value(SecretId=first.reference)["SecretString"])

        assert Login(server, node, told["DATABASE_URL"]).ask("SELECT 1") == [(1,)]
        assert first == second
        assert urlsplit(told["DATABASE_URL"]).password not in repr(first)

    def test_many_nodes_at_once_do_not_trip_over_each_other(self, admitted, fresh):
        """They share catalogues, of which two changes at once would fail."""
        with ThreadPoolExecutor(4) as threads:
            logins = list(threads.map(admitted, [fresh() for _ in range(8)]))

        assert [login.ask("SELECT 1") for login in logins] == [[(1,)]] * 8

    def test_an_ensuring_that_died_half_way_is_finished_by_the_next(self, server, cluster, fresh):
        """After any statement; the database is closed until its last one."""
        for survived in range(4):
            node = fresh()
            url = cluster.new_url(node)
            with pytest.raises(Upstream):
                replace(cluster, executor=Dying(cluster.executor, survived)).ensure(node, url)
            with pytest.raises(psycopg.OperationalError):
                Login(server, node, url).connect()
            cluster.ensure(node, url)

            assert Login(server, node, url).ask("SELECT 1") == [(1,)]

    def test_rights_that_somebody_gave_it_are_taken_back(self, server, admitted, fresh):
        """Its rights are these exactly, however it came by others."""
        login = admitted(fresh())
        server.ask(f"ALTER ROLE {login.node.node_id} CREATEDB CREATEROLE")
        server.ask(f"GRANT CONNECT ON DATABASE {login.database} TO PUBLIC")
        admitted(replace(login.node, generation=2))
        other = admitted(fresh())

        assert rights_of(server, login) == (True, False, False, False, False, False, sql.CONNECTION_LIMIT)
        with pytest.raises(psycopg.OperationalError):
            other.connect(login.database)

    def test_a_secret_of_another_kind_of_database_is_not_taken_for_a_password(self, cluster, fresh):
        """A node that was launched on files has to be retired once."""
        for url in ("sqlite:////data/", "postgresql://shared:password@cluster.test/"):
            with pytest.raises(Upstream, match="retire the node once"):
                cluster.ensure(fresh(), url)


def rights_of(server, login):
    return server.ask(
        "SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolconnlimit"
        " FROM pg_roles WHERE rolname = %s",
        login.node.node_id,
    )[0]


@pytest.fixture(scope="module")
def two(server):
    """Two nodes, one of which has a model."""
    cluster = SharedCluster(Administrator(server), server.endpoint)
    logins = []
    for name in ("first", "second"):
        node = Node(node_id_of(postgresql.unique(name)), name, generation=1)
        url = cluster.new_url(node)
        cluster.ensure(node, url)
        logins.append(Login(server, node, url))
    logins[1].ask("CREATE TABLE model AS SELECT 'private' AS state")
    return logins


@pytest.mark.moto
class TestBetweenNodes:
    def test_a_login_has_no_right_but_to_log_in(self, server, two):
        """And is a member of no other role."""
        memberships = server.ask(
            "SELECT 1 FROM pg_auth_members WHERE member = CAST(%s AS regrole)", two[0].node.node_id
        )

        assert rights_of(server, two[0]) == (True, False, False, False, False, False, sql.CONNECTION_LIMIT)
        assert memberships == []

    def test_no_node_gets_into_anothers_database(self, two):
        """Neither this way nor that, nor into those that come with the cluster."""
        first, second = two
        for login, database in (
            (first, second.database),
            (second, first.database),
            (first, "postgres"),
            (first, "template1"),
        ):
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                login.connect(database)

    def test_no_node_gets_in_as_another(self, server, two):
        """Its password is good for its own login only."""
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
    def test_no_node_can_widen_its_rights_or_reach_for_anothers(self, two, attempt):
        """PostgreSQL refuses each for want of a right, or can't even express it."""
        own, other = (login.node.node_id for login in two)
        refusals = (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)
        with two[1].connect(), pytest.raises(refusals):
            two[0].ask(attempt.format(own=own, other=other))

    def test_no_node_sees_what_another_is_asking(self, two):
        """Statements of others are hidden in the statistics."""
        with two[1].connect() as busy:
            busy.execute("SELECT 'private'")
            seen = two[0].ask("SELECT query FROM pg_stat_activity WHERE usename = %s", two[1].node.node_id)

        assert {query for (query,) in seen} == {"<insufficient privilege>"}

    def test_a_runaway_leaves_connections_for_the_others(self, two):
        """Whoever opens more than its share is refused."""
        held = []
        try:
            with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
                held.extend(two[0].connect() for _ in range(sql.CONNECTION_LIMIT + 1))
            assert two[1].ask("SELECT 1") == [(1,)]
        finally:
            for connection in held:
                connection.close()


@pytest.mark.moto
class TestDiscarding:
    def test_database_and_login_go_whoever_is_connected(self, server, cluster, admitted, fresh):
        """Open connections are ended, and nothing is left."""
        login = admitted(fresh())
        with login.connect() as connected:
            connected.execute("CREATE TABLE model (body bytea)")
            cluster.discard(login.node)
            with pytest.raises(psycopg.OperationalError):
                connected.execute("SELECT 1")

        assert server.ask("SELECT 1 FROM pg_database WHERE datname = %s", login.database) == []
        assert server.ask("SELECT 1 FROM pg_roles WHERE rolname = %s", login.node.node_id) == []
        with pytest.raises(psycopg.OperationalError):
            login.connect()

    def test_discarding_it_again_is_no_error(self, cluster, admitted, fresh):
        """Nor is discarding what never was, nor two at once."""
        login = admitted(fresh())
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(cluster.discard, [login.node] * 3))
        cluster.discard(login.node)
        cluster.discard(fresh())

    def test_a_discarding_that_died_half_way_is_finished_by_the_next(self, server, cluster, admitted, fresh):
        """After any statement."""
        for survived in range(4):
            login = admitted(fresh())
            with pytest.raises(Upstream):
                replace(cluster, executor=Dying(cluster.executor, survived)).discard(login.node)
            cluster.discard(login.node)

            assert server.ask("SELECT 1 FROM pg_roles WHERE rolname = %s", login.node.node_id) == []

    def test_a_node_that_comes_back_begins_with_an_empty_database(self, cluster, admitted, fresh):
        """Also with a generation that counts from one again."""
        login = admitted(fresh(generation=7))
        login.ask("CREATE TABLE model (body bytea)")
        cluster.discard(login.node)
        again = admitted(replace(login.node, generation=1))

        assert again.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]

    def test_a_database_that_will_not_go_is_an_error(self, cluster, admitted, fresh):
        """Nothing is reported as gone that stands."""
        login = admitted(fresh())
        refusing = Refusing(but=cluster.executor)
        with pytest.raises(Upstream):
            replace(cluster, executor=refusing).discard(login.node)


@pytest.mark.moto
class TestAll:
    def test_a_node_is_told_once_until_nothing_of_it_is_left(self, cluster, admitted, fresh):
        """Whether it has a login and a database, as usual, or none any more."""
        stays, goes = admitted(fresh()).node.node_id, admitted(fresh()).node
        before = [node_id for node_id in cluster.all() if node_id in (stays, goes.node_id)]
        cluster.discard(goes)
        after = cluster.all()

        assert before == sorted([stays, goes.node_id])
        assert stays in after
        assert goes.node_id not in after

    def test_what_is_left_half_way_is_told_too(self, server, cluster, fresh):
        """A database without its login, a login without its database."""
        login_only, database_only = fresh().node_id, fresh().node_id
        server.ask(f"CREATE ROLE {login_only}")
        server.ask(f"CREATE DATABASE {database_only}db OWNER administrator")
        found = cluster.all()

        assert {login_only, database_only} <= set(found)

    def test_whatever_is_not_named_like_a_node_stays_unseen(self, server, cluster):
        """Databases and logins of others are never to be touched."""
        before = cluster.all()
        almost = node_id_of("almost")
        for name in (f"{almost}0", f"x{almost[1:]}", almost[:-1], f"{almost[:-1]}g", f'"{almost.upper()}"'):
            server.ask(f"CREATE ROLE {name}")
        for name in (almost, f"{almost}0db", f"x{almost}db", f"{almost}dbs", f'"{almost.upper()}db"'):
            server.ask(f"CREATE DATABASE {name}")

        assert cluster.all() == before


@pytest.mark.moto
def test_no_password_reaches_the_servers_log(server, admitted, fresh):
    """It logs every statement in this test; what it is told is the verifier only."""
    passwords = [urlsplit(admitted(fresh()).url).password for _ in range(2)]
    written = server.log.read_text()

    assert "SCRAM-SHA-256$4096" in written
    assert not [password for password in passwords if password in written]


def test_the_verifier_is_that_of_postgresql():
    """Of the password `pencil` in RFC 7677's example, its salt and 4096 rounds."""
    verifier = scram_verifier("pencil", b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81")

    assert verifier == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
        ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


@dataclass
class Dying:
    """A process that dies after so many statements."""

    executor: Administrator
    left: int

    def run(self, statement: str) -> list[tuple]:
        if not self.left:
            raise Upstream("dead")
        self.left -= 1
        return self.executor.run(statement)


@dataclass
class Refusing:
    """Neither makes nor drops a database."""

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

    def test_it_runs_one_statement_in_a_transaction_of_its_own(self, stubbed):
        """No transaction's id: databases can't be made within one."""
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
    def test_a_database_that_wakes_up_is_said_to_and_not_waited_for(self, stubbed, code, message):
        """One call, no pause: whoever asked comes again."""
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
    def test_whatever_else_goes_wrong_is_told_by_its_code(self, stubbed, code):
        """Never by AWS's sentence, which may repeat the statement."""
        api, stub = stubbed
        stub.add_client_error("execute_statement", code, "syntax error at or near 'private'")
        with pytest.raises(Upstream) as refusal:
            api.run("SELECT 'private'")

        assert str(refusal.value) == f"The nodes' database refused a call: {code}."
        assert not isinstance(refusal.value, DatabaseWaking)

    def test_a_database_that_falls_asleep_half_way_is_not_asked_whether_it_is_done(self, stubbed):
        """It would only say the same again."""
        api, stub = stubbed
        stub.add_response("execute_statement", {})
        stub.add_response("execute_statement", {"records": []})
        stub.add_client_error("execute_statement", "DatabaseResumingException", "")
        cluster = SharedCluster(api, "cluster.test:5432")
        node = Node("n0a", "dataset", generation=1)
        with pytest.raises(DatabaseWaking):
            cluster.ensure(node, cluster.new_url(node))

        stub.assert_no_pending_responses()

    def test_no_password_is_in_a_statement_an_error_or_a_log(self, stubbed):
        """Not in the chain of causes either, which a log's trace shows."""
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
