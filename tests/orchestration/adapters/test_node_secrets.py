"""Secrets Manager: one secret a generation, which goes with its node."""

import json

import pytest
from botocore.stub import Stubber

from orchestration.adapters.node_secrets import SecretsManagerNodeSecrets
from orchestration.domain.credentials import hash_of
from orchestration.domain.errors import Upstream
from tests.builders import a_node

NODE = a_node(generation=2)


def database_of(node):
    """The URL of a node's own database."""
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

    def test_a_node_finds_its_credential_and_its_database(self, secrets, client):
        """`MASTER_NODE_URL` without a scheme: the original node puts one before it."""
        made = secrets.ensure(NODE)
        content = json.loads(client.get_secret_value(SecretId=made.reference)["SecretString"])
        user, _, rest = content["MASTER_NODE_URL"].partition(":")
        password, _, host = rest.partition("@")

        assert content.keys() == {"MASTER_NODE_URL", "DATABASE_URL"}
        assert content["DATABASE_URL"] == database_of(NODE)
        assert (user, host) == (NODE.node_id, "orchestration.test:5001")
        assert made.secret_hash == hash_of(password)
        assert len(password) >= 43

    def test_ensuring_twice_gives_one_secret(self, secrets, client):
        """Where another process has made it, that one counts."""
        first, second = secrets.ensure(NODE), secrets.ensure(NODE)

        assert first == second
        assert len(client.list_secrets()["SecretList"]) == 1

    def test_each_generation_has_its_own(self, secrets):
        """What a retired node knew opens nothing."""
        first, second = secrets.ensure(NODE), secrets.ensure(a_node(generation=3))

        assert first.secret_hash != second.secret_hash
        assert first.reference != second.reference

    def test_each_node_has_its_own(self, secrets):
        """Another dataset's node can't speak for this one."""
        assert secrets.ensure(NODE).secret_hash != secrets.ensure(a_node("other", generation=2)).secret_hash

    def test_discarding_twice_is_as_once(self, secrets, client):
        """And leaves no other's."""
        secrets.ensure(NODE)
        other = secrets.ensure(a_node(generation=3))
        for _ in range(2):
            secrets.discard(NODE)

        assert [secret["ARN"] for secret in client.list_secrets()["SecretList"]] == [other.reference]

    def test_what_was_discarded_can_be_made_again(self, secrets):
        """With another password."""
        first = secrets.ensure(NODE)
        secrets.discard(NODE)

        assert secrets.ensure(NODE).secret_hash != first.secret_hash


@pytest.mark.moto
@pytest.mark.parametrize(
    ("operation", "call"),
    [("create_secret", "ensure"), ("delete_secret", "discard")],
)
def test_what_secrets_manager_refuses_is_upstream(session, operation, call):
    """With its code."""
    client = session.client("secretsmanager")
    with Stubber(client) as stubber:
        stubber.add_client_error(operation, "ThrottlingException")
        with pytest.raises(Upstream, match="Secrets Manager refused a call: ThrottlingException"):
            getattr(secrets_with(client), call)(NODE)
