"""What the templates promise, read from the snapshots; `test_synthesizer.py` sees that these are true."""

import json
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.provisioning.node_shape import SIZES, NodeShape
from orchestration.provisioning.synthesizer import SNAPSHOTS, TemplateName
from tests.orchestration.provisioning.reading import CLUSTER, DATA, NODE, TEMPLATES, listed, of_type, only


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_goes_inline_without_bootstrap(template):
    """CreateStack takes 51,200 bytes; there is no bucket to put assets or a larger body into."""
    body = json.dumps(template)

    assert len(body.encode()) < 51_200
    assert "cdk-hnb659fds" not in body
    assert "BootstrapVersion" not in body


@pytest.mark.moto
def test_cfn_lint_has_nothing_to_say():
    """Not even a warning."""
    linter = Path(sys.executable).with_name("cfn-lint")

    run = subprocess.run(  # noqa: S603
        [linter, *(SNAPSHOTS / name.file_name for name in TemplateName)],
        check=False,
        capture_output=True,
        text=True,
    )

    assert (run.returncode, run.stdout) == (0, "")


def test_what_a_node_needs_of_the_cluster_is_an_output_of_it():
    """Parameters and outputs have the same names, so that one is passed through to the other."""
    own = {"NodeId", "NodeSecretArn"} | NodeShape("any").parameters().keys()

    assert NODE["Parameters"].keys() - own <= CLUSTER["Outputs"].keys()
    assert CLUSTER["Outputs"].keys() - NODE["Parameters"].keys() == {
        "DatabaseEndpoint",
        "DatabaseClusterArn",
        "DatabaseSecretArn",
    }


def test_a_node_is_five_resources():
    """What a data scientist waits for, and what can fail."""
    assert sorted(resource["Type"] for resource in NODE["Resources"].values()) == [
        "AWS::ECS::Service",
        "AWS::ECS::TaskDefinition",
        "AWS::ElasticLoadBalancingV2::Listener",
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
        "AWS::ElasticLoadBalancingV2::TargetGroup",
    ]


def test_the_balancer_keeps_quiet_websockets_open():
    """It speaks HTTP on 5000 and waits an hour for the next word."""
    balancer = only(NODE, "ElasticLoadBalancingV2::LoadBalancer")
    listener = only(NODE, "ElasticLoadBalancingV2::Listener")

    assert (balancer["Type"], balancer["Scheme"]) == ("application", "internet-facing")
    assert listed(balancer["LoadBalancerAttributes"])["idle_timeout.timeout_seconds"] == "3600"
    assert (listener["Port"], listener["Protocol"]) == (5000, "HTTP")


def test_a_node_is_well_when_it_answers():
    """The health check is a real request; a target leaves within seconds."""
    target = only(NODE, "ElasticLoadBalancingV2::TargetGroup")

    assert target["HealthCheckPath"] == "/data-centric/status/"
    assert listed(target["TargetGroupAttributes"])["deregistration_delay.timeout_seconds"] == "5"


def test_a_node_is_one_task_and_gives_up_when_it_cannot_start():
    """The circuit breaker ends what ECS would try for ever; two copies never run side by side."""
    service = only(NODE, "ECS::Service")
    deployment = service["DeploymentConfiguration"]

    assert service["DesiredCount"] == 1
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert (deployment["MinimumHealthyPercent"], deployment["MaximumPercent"]) == (0, 100)


def test_a_node_s_size_and_image_are_parameters():
    """Of a size that Fargate has; which memory goes with which CPU, the settings know."""
    task = only(NODE, "ECS::TaskDefinition")
    allowed = {n: p["AllowedValues"] for n, p in NODE["Parameters"].items() if "AllowedValues" in p}

    assert (task["Cpu"], task["Memory"]) == ({"Ref": "NodeCpu"}, {"Ref": "NodeMemory"})
    assert task["ContainerDefinitions"][0]["Image"] == {"Ref": "NodeImage"}
    assert allowed["NodeCpu"] == [str(cpu) for cpu in SIZES]
    assert set(allowed["NodeMemory"]) == {str(memory) for memories in SIZES.values() for memory in memories}


def test_a_node_runs_on_a_provider_that_its_cluster_has():
    """On one only, by its service; the cluster itself prefers none."""
    service = only(NODE, "ECS::Service")
    cluster = only(CLUSTER, "ECS::ClusterCapacityProviderAssociations")

    assert service["CapacityProviderStrategy"] == [
        {"CapacityProvider": {"Ref": "CapacityProvider"}, "Weight": 1}
    ]
    assert "LaunchType" not in service
    assert NODE["Parameters"]["CapacityProvider"]["AllowedValues"] == cluster["CapacityProviders"]
    assert cluster["DefaultCapacityProviderStrategy"] == []


def test_desired_count_has_one_writer():
    """Nothing scales a node's service, and the cluster has none."""
    text = json.dumps([CLUSTER, NODE])

    assert "ApplicationAutoScaling" not in text
    assert "AWS::ECS::Service" not in json.dumps(CLUSTER)


def test_a_task_s_secrets_are_references():
    """The callback's credential and the database's password are never in the template or its parameters."""
    task = only(NODE, "ECS::TaskDefinition")
    (container,) = task["ContainerDefinitions"]
    references = {pair["Name"]: pair["ValueFrom"] for pair in container["Secrets"]}

    assert task["Family"] == {"Fn::Join": ["", ["artificien-node-", {"Ref": "NodeId"}]]}
    assert {pair["Name"] for pair in container["Environment"]} == {"NODE_ID", "ADDRESS", "PORT"}
    assert references == {
        name: {"Fn::Join": ["", [{"Ref": "NodeSecretArn"}, f":{name}::"]]}
        for name in ("MASTER_NODE_URL", "DATABASE_URL")
    }


def test_the_only_way_in_is_balancer_to_node_to_database():
    """Whoever else listens, nobody reaches it."""
    groups = CLUSTER["Resources"]
    ways = {
        (
            groups[rule["SourceSecurityGroupId"]["Fn::GetAtt"][0]]["Properties"]["GroupDescription"],
            groups[rule["GroupId"]["Fn::GetAtt"][0]]["Properties"]["GroupDescription"],
            rule["FromPort"],
        )
        for rule in of_type(CLUSTER, "EC2::SecurityGroupIngress")
    }
    open_to_all = [
        (group["GroupDescription"], rule["FromPort"])
        for group in of_type(CLUSTER, "EC2::SecurityGroup")
        for rule in group.get("SecurityGroupIngress", ())
    ]

    assert ways == {
        ("Load balancers of the nodes", "PyGrid nodes", 5000),
        ("PyGrid nodes", "Database of the nodes", 5432),
    }
    assert open_to_all == [("Load balancers of the nodes", 5000)]


def test_the_database_sleeps_encrypted_and_private():
    """Nothing to train costs storage only; its password is generated and kept as a secret."""
    database = only(CLUSTER, "RDS::DBCluster")

    assert database["Engine"] == "aurora-postgresql"
    assert database["ServerlessV2ScalingConfiguration"]["MinCapacity"] == 0
    assert database["StorageEncrypted"] is True
    assert database["EnableHttpEndpoint"] is True
    assert only(CLUSTER, "RDS::DBInstance")["PubliclyAccessible"] is False
    assert "{{resolve:secretsmanager:" in json.dumps(database["MasterUserPassword"])


def test_the_cluster_s_data_survives_it():
    """A snapshot is taken where the cluster goes, or is replaced."""
    (database,) = (r for r in CLUSTER["Resources"].values() if r["Type"] == "AWS::RDS::DBCluster")

    assert (database["DeletionPolicy"], database["UpdateReplacePolicy"]) == ("Snapshot", "Snapshot")


def test_logs_of_nodes_end_some_day():
    """A month is enough to look into a failure."""
    assert [group["RetentionInDays"] for group in of_type(CLUSTER, "Logs::LogGroup")] == [30, 30]


def test_passwords_in_urls_are_masked_in_the_logs_of_nodes():
    """The original node logs its callback's URL at INFO; masked, only `logs:Unmask` shows its credential."""
    (policy,) = (g["DataProtectionPolicy"] for g in of_type(CLUSTER, "Logs::LogGroup") if len(g) > 1)
    (identifier,) = policy["Configuration"]["CustomDataIdentifier"]
    line = f"POST http://n1:{secrets.token_urlsafe(32)}@lb.test:5001/model_progress"

    assert [next(iter(s["Operation"])) for s in policy["Statement"]] == ["Audit", "Deidentify"]
    assert re.search(identifier["Regex"], line)


def test_what_closed_ports_turn_away_is_logged():
    """Somebody who knocks everywhere is seen."""
    log = only(CLUSTER, "EC2::FlowLog")

    assert (log["ResourceType"], log["TrafficType"]) == ("VPC", "REJECT")


INDEXES = {
    "model_table": {
        "owner-active-index": [("owner_name", "S"), ("active_status", "N")],
        "dataset-active-index": [("dataset", "S"), ("active_status", "N")],
        "retrieval-due-index": [("retrieval_due", "S"), ("model_id", "S")],
    },
    "dataset_table": {
        "owner_username-index": [("owner_username", "S")],
        "category-num_devices-index": [("category", "S"), ("num_devices", "N")],
    },
    "user_table": {"users_username_index": [("username", "S")]},
    "node_table": {},
    "key_table": {"owner-index": [("owner", "S"), ("created_at", "N")]},
    "audit_table": {},
}
KEYS = {
    "model_table": "model_id",
    "dataset_table": "dataset_id",
    "user_table": "user_id",
    "node_table": "node_id",
    "key_table": "key_hash",
    "audit_table": "subject",
}
SORTED = {"audit_table": [{"AttributeName": "at", "KeyType": "RANGE"}]}
TABLES = {table["TableName"]: table for table in of_type(DATA, "DynamoDB::Table")}


@pytest.mark.parametrize("name", KEYS)
def test_a_table_has_the_keys_and_indexes_that_callers_use(name):
    """The marketplace and artificienlib ask for these by name; every index carries whole items."""
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
    assert all(
        index["Projection"] == {"ProjectionType": "ALL"} for index in table.get("GlobalSecondaryIndexes", ())
    )


@pytest.mark.parametrize("name", KEYS)
def test_a_table_is_encrypted_can_be_restored_and_costs_by_use(name):
    """None of them goes with the stack."""
    table = TABLES[name]

    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_only_keys_and_the_audit_expire_by_themselves():
    """Everything else goes when somebody deletes it."""
    expiring = {
        name: t["TimeToLiveSpecification"] for name, t in TABLES.items() if "TimeToLiveSpecification" in t
    }

    expires = {"AttributeName": "expires_at", "Enabled": True}
    assert expiring == {"key_table": expires, "audit_table": expires}


def test_what_holds_data_outlives_its_stack():
    """Deleting the stack by mistake loses nothing."""
    holds = ("AWS::DynamoDB::Table", "AWS::S3::Bucket")
    policies = {r["DeletionPolicy"] for r in DATA["Resources"].values() if r["Type"] in holds}

    assert policies == {"Retain"}


def test_trained_models_are_private():
    """Encrypted, versioned, closed to the public, TLS only."""
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
