import json

import pytest

from local_platform.repairs.cluster_types import secret_string


@pytest.mark.moto
def test_cluster_has_all_its_outputs(cluster):
    """moto skips the database's types, and fails at the first output that refers to one."""
    assert cluster["DatabaseEndpoint"].endswith(".rds.amazonaws.com")
    assert cluster["DatabaseClusterArn"].startswith("arn:aws:rds:us-east-1:")
    assert cluster["DatabaseSecretArn"].startswith("arn:aws:secretsmanager:us-east-1:")


@pytest.mark.moto
def test_password_of_the_cluster_is_generated(aws, cluster):
    """The template requests it."""
    secret = aws.client("secretsmanager").get_secret_value(SecretId=cluster["DatabaseSecretArn"])

    assert json.loads(secret["SecretString"]).keys() == {"username", "password"}


@pytest.mark.moto
def test_data_stack_has_the_tables_and_indexes_of_the_callers(aws, data):
    """The marketplace queries these by name."""
    dynamodb = aws.client("dynamodb")
    indexes = {
        name: {
            index["IndexName"]
            for index in dynamodb.describe_table(TableName=name)["Table"]["GlobalSecondaryIndexes"]
        }
        for name in ("model_table", "dataset_table", "user_table")
    }

    assert "owner-active-index" in indexes["model_table"]
    assert {"owner_username-index", "category-num_devices-index"} <= indexes["dataset_table"]
    assert "users_username_index" in indexes["user_table"]


def test_generated_password_follows_the_rules():
    """Length and excluded characters are the template's; the rest of the secret is kept."""
    rules = {
        "PasswordLength": 200,
        "ExcludeCharacters": "abcXYZ012",
        "GenerateStringKey": "password",
        "SecretStringTemplate": '{"username": "artificien"}',
    }
    secret = json.loads(secret_string({"GenerateSecretString": rules}))

    assert secret["username"] == "artificien"
    assert len(secret["password"]) == 200
    assert not set(secret["password"]) & set(rules["ExcludeCharacters"])


def test_password_without_a_template_is_the_secret():
    """CloudFormation's default has 32 characters."""
    assert len(secret_string({"GenerateSecretString": {}})) == 32


def test_given_secret_is_kept():
    """No password is generated if the template has a value."""
    assert secret_string({"SecretString": "known"}) == "known"
