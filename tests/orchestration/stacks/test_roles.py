"""What the service may do, against what it does."""

import pytest

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
"""Shows names, of any secret, and no value."""
SWEEPING = {"cloudformation:ListStacks": "DescribeStacks without a name"}
"""Rights that no call is named after, and which calls ask for them."""


@pytest.fixture
def parts(monkeypatch):
    """The composition root, with what the task definition says; nothing is called."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Parts(settings(monkeypatch))


def allowed(role):
    """Return every action and its table, or no table; index and table as `calls_of` writes them."""
    found = set()
    for s in held_by(ORCHESTRATION, role):
        for resource in s.resources:
            _, _, table = resource.partition(":table/")
            found |= {(action, table.replace("/index/", "/")) for action in s.actions}
    return found


PROCESSES = [("WebRole", "services"), ("ReconcilerRole", "reconciler")]


@pytest.mark.parametrize(("role", "part"), PROCESSES)
def test_a_process_may_do_what_it_does_and_no_more(parts, role, part):
    """Every call has its right, every right its call, down to tables and indexes."""
    called = calls_of(getattr(parts, part))
    granted = {(action, table) for action, table in allowed(role) if action not in COME_ALONG | SWEEPING}

    assert called - granted == set(), "calls without a right"
    assert granted - called == set(), "rights without a call"


@pytest.mark.parametrize(("role", "part"), PROCESSES)
def test_rights_that_come_along_are_all_used(role, part):
    """What isn't called by name is listed, with the call that asks for it."""
    actions = {action for action, _ in allowed(role)}

    assert actions >= COME_ALONG.keys()
    assert (actions >= SWEEPING.keys()) is (role == "ReconcilerRole")


def test_only_the_reconciler_writes_trained_models(parts):
    """The web service, which everybody can talk to, signs addresses of them and no more."""
    web, reconciler = (calls_of(getattr(parts, part)) for _, part in PROCESSES)

    assert {action for action, _ in web if action.startswith("s3:")} == {"s3:GetObject"}
    assert {action for action, _ in reconciler if action.startswith("s3:")} == {"s3:PutObject"}


def test_the_reconciler_knows_neither_users_nor_keys():
    """It works on nodes and models."""
    tables = {table.partition("/")[0] for _, table in allowed("ReconcilerRole")}

    assert not tables & {"user_table", "key_table"}


def test_every_table_is_one_of_the_data_stack():
    """A right on a table that isn't there is a mistake in its name."""
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


@pytest.mark.parametrize("role", ["WebRole", "ReconcilerRole"])
def test_a_process_reaches_its_own_secrets_and_the_database_s(role):
    """Those of nodes, by the prefix of their names, and the administrator's, whom the Data API takes."""
    resources = {
        resource.split(":", 5)[-1]
        for s in held_by(ORCHESTRATION, role)
        if any(a.startswith(("secretsmanager:", "rds-data:")) for a in s.actions - LISTING)
        for resource in s.resources
    }

    assert resources == {
        "secret:artificien/node/*",
        "<<ClusterStack>-DatabaseSecretArn>",
        "<<ClusterStack>-DatabaseClusterArn>",
    }
