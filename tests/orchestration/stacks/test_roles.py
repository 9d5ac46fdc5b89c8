"""The permissions of web process and reconciler, compared with their calls of AWS."""

import pytest

from orchestration.adapters.node_secrets import NAME_PREFIX
from orchestration.pygrid_orchestration import Parts
from tests.orchestration.stacks.aws_calls import calls_of
from tests.orchestration.stacks.reading import DATA, ORCHESTRATION, held_by, of_type
from tests.orchestration.stacks.service_environment import settings

COME_ALONG = {
    "cloudformation:TagResource": "CreateStack with tags",
    "secretsmanager:TagResource": "CreateSecret with tags",
    "iam:PassRole": "CreateStack and others with a role",
}
LISTING = {"secretsmanager:ListSecrets"}
"""Returns the names of all secrets, and no value."""
IMPLIED = {"cloudformation:ListStacks": "DescribeStacks without a name"}
"""Permissions that no call is named after, and the calls that need them."""


@pytest.fixture
def parts(monkeypatch):
    """The composition root, with the environment of the task definition; it calls nothing."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Parts(settings(monkeypatch))


def allowed(role):
    """Return all pairs of action and table, or "" for other resources; written as in `calls_of`."""
    found = set()
    for s in held_by(ORCHESTRATION, role):
        for resource in s.resources:
            _, _, table = resource.partition(":table/")
            found |= {(action, table.replace("/index/", "/")) for action in s.actions}
    return found


PROCESSES = [("WebRole", "services"), ("ReconcilerRole", "reconciler")]


@pytest.mark.parametrize(("role", "part"), PROCESSES)
def test_process_has_exactly_the_permissions_it_needs(parts, role, part):
    """Every call has a permission and every permission a call, for each table and index."""
    called = calls_of(getattr(parts, part))
    granted = {(action, table) for action, table in allowed(role) if action not in COME_ALONG | IMPLIED}

    assert called - granted == set(), "calls without a right"
    assert granted - called == set(), "rights without a call"


def test_implied_permissions_are_granted_to_the_reconciler_only():
    """The table lists permissions that no call is named after, and the calls that need them."""
    come_along = COME_ALONG.keys() | IMPLIED.keys()

    assert {action for action, _ in allowed("ReconcilerRole")} >= come_along
    assert not {action for action, _ in allowed("WebRole")} & come_along


def test_only_the_reconciler_stores_trained_models(parts):
    """The web process only presigns their URLs."""
    web, reconciler = (calls_of(getattr(parts, part)) for _, part in PROCESSES)

    assert {action for action, _ in web if action.startswith("s3:")} == {"s3:GetObject"}
    assert {action for action, _ in reconciler if action.startswith("s3:")} == {"s3:PutObject"}


def test_reconciler_reads_neither_users_nor_api_keys():
    """It works on nodes and models."""
    tables = {table.partition("/")[0] for _, table in allowed("ReconcilerRole")}

    assert not tables & {"user_table", "key_table"}


def test_permissions_are_on_tables_of_the_data_stack():
    """A misspelt name would be no table of it."""
    declared = {
        (table["TableName"], index["IndexName"])
        for table in of_type(DATA, "DynamoDB::Table")
        for index in [{"IndexName": ""}, *table.get("GlobalSecondaryIndexes", ())]
    }
    named = {
        (table.partition("/")[0], table.partition("/")[2])
        for role, _ in PROCESSES
        for _, table in allowed(role)
        if table
    }

    assert named <= declared


def test_reconciler_reads_secrets_of_nodes_and_of_the_database():
    """Nodes' by the prefix of their names, the administrator's by its ARN, for the Data API."""
    resources = {
        resource.split(":", 5)[-1]
        for s in held_by(ORCHESTRATION, "ReconcilerRole")
        if any(a.startswith(("secretsmanager:", "rds-data:")) for a in s.actions - LISTING)
        for resource in s.resources
    }

    assert resources == {
        f"secret:{NAME_PREFIX}*",
        "<<ClusterStack>-DatabaseSecretArn>",
        "<<ClusterStack>-DatabaseClusterArn>",
    }
