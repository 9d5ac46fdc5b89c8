"""The template of the cluster stack, read from its snapshot."""

import json
import re
import secrets

from tests.orchestration.stacks.reading import CLUSTER, of_type, only


def test_only_balancer_node_and_database_are_connected():
    """The security groups allow no other connection."""
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


def test_database_pauses_and_is_encrypted_and_private():
    """A paused database costs storage only; its generated password is in a secret."""
    database = only(CLUSTER, "RDS::DBCluster")

    assert database["Engine"] == "aurora-postgresql"
    assert database["ServerlessV2ScalingConfiguration"]["MinCapacity"] == 0
    assert database["StorageEncrypted"] is True
    assert database["EnableHttpEndpoint"] is True
    assert only(CLUSTER, "RDS::DBInstance")["PubliclyAccessible"] is False
    assert "{{resolve:secretsmanager:" in json.dumps(database["MasterUserPassword"])


def test_database_is_snapshotted_before_deletion():
    """CloudFormation also deletes a database that it replaces."""
    (database,) = (r for r in CLUSTER["Resources"].values() if r["Type"] == "AWS::RDS::DBCluster")

    assert (database["DeletionPolicy"], database["UpdateReplacePolicy"]) == ("Snapshot", "Snapshot")


def test_logs_are_kept_for_a_month():
    """That is enough to investigate a failure."""
    assert [group["RetentionInDays"] for group in of_type(CLUSTER, "Logs::LogGroup")] == [30, 30]


def test_passwords_in_urls_are_masked_in_logs():
    """The original node logs its callback's URL at INFO; only `logs:Unmask` shows the credential in it."""
    (policy,) = (g["DataProtectionPolicy"] for g in of_type(CLUSTER, "Logs::LogGroup") if len(g) > 1)
    (identifier,) = policy["Configuration"]["CustomDataIdentifier"]
    line = f"POST http://n1:{secrets.token_urlsafe(32)}@lb.test:5001/model_progress"

    assert [next(iter(s["Operation"])) for s in policy["Statement"]] == ["Audit", "Deidentify"]
    assert re.search(identifier["Regex"], line)


def test_rejected_traffic_is_logged():
    """A port scan is visible."""
    log = only(CLUSTER, "EC2::FlowLog")

    assert (log["ResourceType"], log["TrafficType"]) == ("VPC", "REJECT")
