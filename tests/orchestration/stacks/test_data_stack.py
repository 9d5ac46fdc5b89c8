"""The template of the data stack, read from its snapshot."""

import pytest

from tests.orchestration.stacks.reading import DATA, of_type, only

INDEXES = {
    "model_table": {
        "owner-active-index": [("owner_name", "S"), ("active_status", "N")],
    },
    "training_table": {
        "trains-on-index": [("trains_on", "S")],
        "retrieval-due-index": [("retrieval_due", "S")],
        "shown-on-index": [("shown_on", "S")],
    },
    "dataset_table": {
        "owner_username-index": [("owner_username", "S")],
        "category-num_devices-index": [("category", "S"), ("num_devices", "N")],
        "placeholder-app": [("placeholder", "S"), ("app", "S")],
        "category-app-index": [("category", "S"), ("app", "S")],
    },
    "user_table": {"users_username_index": [("username", "S")]},
    "node_table": {"attention-index": [("attention", "S"), ("node_id", "S")]},
    "key_table": {"owner-index": [("owner", "S"), ("created_at", "N")]},
    "audit_table": {},
}
KEYS = {
    "model_table": "model_id",
    "training_table": "name",
    "dataset_table": "dataset_id",
    "user_table": "user_id",
    "node_table": "node_id",
    "key_table": "key_hash",
    "audit_table": "subject",
}
SORTED = {"audit_table": [{"AttributeName": "at", "KeyType": "RANGE"}]}
TABLES = {table["TableName"]: table for table in of_type(DATA, "DynamoDB::Table")}


@pytest.mark.parametrize("name", KEYS)
def test_table_has_the_keys_and_indexes_of_its_callers(name):
    """The marketplace and artificienlib use them by name; their indexes contain whole items."""
    table = TABLES[name]
    types = {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]}
    indexes = {
        index["IndexName"]: [
            (key["AttributeName"], types[key["AttributeName"]]) for key in index["KeySchema"]
        ]
        for index in table.get("GlobalSecondaryIndexes", ())
    }

    assert table["KeySchema"] == [{"AttributeName": KEYS[name], "KeyType": "HASH"}, *SORTED.get(name, [])]
    assert types[KEYS[name]] == "S"
    assert indexes == INDEXES[name]
    assert {
        index["IndexName"]
        for index in table.get("GlobalSecondaryIndexes", ())
        if index["Projection"] != {"ProjectionType": "ALL"}
    } <= {"attention-index", *INDEXES["training_table"]}


def test_report_writes_to_no_index():
    """A write of an index costs as much as one of the table."""
    counters = {"devices_trained_this_cycle", "loss_sum", "acc_sum", "acc_devices", "loss_sample", "revision"}
    for index in TABLES["training_table"]["GlobalSecondaryIndexes"]:
        assert index["Projection"]["ProjectionType"] == "INCLUDE"
        assert not counters & set(index["Projection"]["NonKeyAttributes"])


@pytest.mark.parametrize("name", KEYS)
def test_table_is_encrypted_and_restorable_and_billed_by_use(name):
    """All tables have these properties."""
    table = TABLES[name]

    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_only_the_dataset_table_has_a_stream():
    """The marketplace's function for sample data reads new images of datasets."""
    streams = {
        name: table["StreamSpecification"] for name, table in TABLES.items() if "StreamSpecification" in table
    }

    assert streams == {"dataset_table": {"StreamViewType": "NEW_IMAGE"}}


def test_only_api_keys_and_audit_entries_expire():
    """All other items stay until they are deleted."""
    expiring = {
        name: t["TimeToLiveSpecification"] for name, t in TABLES.items() if "TimeToLiveSpecification" in t
    }

    expires = {"AttributeName": "expires_at", "Enabled": True}
    assert expiring == {"key_table": expires, "audit_table": expires}


def test_tables_and_bucket_are_retained():
    """Deleting the stack by mistake loses no data."""
    holds = ("AWS::DynamoDB::Table", "AWS::S3::Bucket")
    policies = {r["DeletionPolicy"] for r in DATA["Resources"].values() if r["Type"] in holds}

    assert policies == {"Retain"}


def test_bucket_of_trained_models_is_private():
    """It is encrypted, versioned, closed to the public, and accepts TLS only."""
    bucket = only(DATA, "S3::Bucket")
    (statement,) = only(DATA, "S3::BucketPolicy")["PolicyDocument"]["Statement"]
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]

    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert (statement["Effect"], statement["Condition"]) == (
        "Deny",
        {"Bool": {"aws:SecureTransport": "false"}},
    )
