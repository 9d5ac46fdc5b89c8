"""Secrets Manager: one secret for each generation of a node."""

import json

import pytest
import structlog
from botocore.stub import Stubber

from orchestration.adapters.node_secrets import SecretsManagerNodeSecrets
from orchestration.domain.credentials import hash_of
from orchestration.domain.errors import Upstream
from tests.builders import a_node

NODE = a_node(generation=2)


def database_of(node):
    """Return a URL of the node's database."""
    return f"postgres://{node.node_id}:p@db.test/"


def secrets_with(client):
    return SecretsManagerNodeSecrets(client, "orchestration.test:5001", database_of)


@pytest.mark.moto
class TestMoto:
    @pytest.fixture
    def client(self, aws):
        return aws.client("secretsmanager")

    @pytest.fixture
    def secrets(self, client):
        return secrets_with(client)

    def test_secret_contains_credential_and_database_url(self, secrets, client):
        """`MASTER_NODE_URL` has no scheme: the original node adds one."""
        made = secrets.ensure(NODE)
        content = json.loads(client.get_secret_value(SecretId=made.reference)["SecretString"])
        user, _, rest = content["MASTER_NODE_URL"].partition(":")
        password, _, host = rest.partition("@")

        assert content.keys() == {"MASTER_NODE_URL", "DATABASE_URL"}
        assert content["DATABASE_URL"] == database_of(NODE)
        assert (user, host) == (NODE.node_id, "orchestration.test:5001")
        assert made.secret_hash == hash_of(password)
        assert len(password) >= 43

    def test_ensure_is_idempotent(self, secrets, client):
        """The secret that another process created is returned."""
        first, second = secrets.ensure(NODE), secrets.ensure(NODE)

        assert first == second
        assert len(client.list_secrets()["SecretList"]) == 1

    def test_each_generation_has_its_own_secret(self, secrets):
        """The credential of a retired node is invalid."""
        first, second = secrets.ensure(NODE), secrets.ensure(a_node(generation=3))

        assert first.secret_hash != second.secret_hash
        assert first.reference != second.reference

    def test_each_node_has_its_own_secret(self, secrets):
        """A node can't send messages for another one."""
        assert secrets.ensure(NODE).secret_hash != secrets.ensure(a_node("other", generation=2)).secret_hash

    def test_credential_is_that_of_the_generation(self, secrets, client):
        """The node's record contains its hash."""
        made = secrets.ensure(NODE)
        secrets.ensure(a_node(generation=3))
        credential = secrets.credential(NODE)
        content = json.loads(client.get_secret_value(SecretId=made.reference)["SecretString"])

        assert content["MASTER_NODE_URL"].startswith(f"{credential.user}:{credential.password}@")
        assert credential.user == NODE.node_id
        assert hash_of(credential.password) == made.secret_hash

    def test_credential_of_an_absent_secret_is_upstream(self, secrets):
        """Its node is retired."""
        with pytest.raises(Upstream, match="ResourceNotFoundException"):
            secrets.credential(NODE)

    def test_discard_is_idempotent(self, secrets, client):
        """Other secrets stay."""
        secrets.ensure(NODE)
        other = secrets.ensure(a_node(generation=3))
        for _ in range(2):
            secrets.discard(NODE)

        assert [secret["ARN"] for secret in client.list_secrets()["SecretList"]] == [other.reference]

    def test_discarded_secret_can_be_created_again(self, secrets):
        """It has another password."""
        first = secrets.ensure(NODE)
        secrets.discard(NODE)

        assert secrets.ensure(NODE).secret_hash != first.secret_hash

    def test_all_secrets_of_nodes_are_listed(self, secrets, client):
        """A secret with a similar name isn't."""
        nodes = [NODE, a_node(generation=11), a_node("other", generation=1)]
        for node in nodes:
            secrets.ensure(node)
        client.create_secret(Name="artificien/nodes/n1/1", SecretString="other")
        found = list(secrets.all())

        assert sorted(found) == sorted((node.node_id, node.generation) for node in nodes)


def test_discarding_an_absent_secret_is_no_error(session):
    """AWS returns an error where moto returns none."""
    client = session.client("secretsmanager")
    with Stubber(client) as stubber:
        stubber.add_client_error("delete_secret", "ResourceNotFoundException")
        secrets_with(client).discard(NODE)

        stubber.assert_no_pending_responses()


def listed(stubber, names, *, token=None, more=None):
    expected = {"Filters": [{"Key": "name", "Values": ["artificien/node/"]}]}
    answer = {"SecretList": [{"Name": name} for name in names]}
    stubber.add_response(
        "list_secrets",
        answer | ({"NextToken": more} if more else {}),
        expected | ({"NextToken": token} if token else {}),
    )


class TestAll:
    def test_pages_are_read_lazily(self, session):
        """Two thousand secrets are twenty pages."""
        client = session.client("secretsmanager")
        with Stubber(client) as stubber:
            listed(stubber, ["artificien/node/n0a/1"], more="page 2")
            found = secrets_with(client).all()
            first = next(found)
            listed(stubber, ["artificien/node/n0a/2", "artificien/node/n0b/1"], token="page 2")
            rest = list(found)

        assert (first, rest) == (("n0a", 1), [("n0a", 2), ("n0b", 1)])

    @pytest.mark.parametrize("rest", ["n0a", "n0a/", "n0a/x", "n0a/007", "n0a/1/2", "N0A/1", "/1", "n0a/٣"])
    def test_secret_with_another_name_is_skipped_and_logged(self, session, rest):
        """It may belong to another application."""
        client = session.client("secretsmanager")
        with Stubber(client) as stubber, structlog.testing.capture_logs() as logs:
            listed(stubber, [f"artificien/node/{rest}", "artificien/node/n0a/3"])
            found = list(secrets_with(client).all())

        assert found == [("n0a", 3)]
        assert [(entry["log_level"], entry["name"]) for entry in logs] == [
            ("warning", f"artificien/node/{rest}")
        ]


@pytest.mark.moto
@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("create_secret", lambda secrets: secrets.ensure(NODE)),
        ("get_secret_value", lambda secrets: secrets.credential(NODE)),
        ("delete_secret", lambda secrets: secrets.discard(NODE)),
        ("list_secrets", lambda secrets: list(secrets.all())),
    ],
    ids=["ensure", "credential", "discard", "all"],
)
def test_refusal_is_upstream(session, operation, call):
    """The message contains AWS's code."""
    client = session.client("secretsmanager")
    with Stubber(client) as stubber:
        stubber.add_client_error(operation, "ThrottlingException")
        with pytest.raises(Upstream, match="Secrets Manager refused a call: ThrottlingException"):
            call(secrets_with(client))
