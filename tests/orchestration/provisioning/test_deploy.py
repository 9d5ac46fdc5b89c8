import json
from datetime import UTC, datetime

import boto3
import pytest
from botocore.stub import ANY
from moto import mock_aws

from orchestration.domain.errors import StackFailed
from orchestration.provisioning import deploy
from orchestration.provisioning.synthesizer import TemplateName, load_template

NAME = "artificien-cluster"
ARN = f"arn:aws:cloudformation:us-east-1:000000000000:stack/{NAME}/1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


CREATED = {
    "StackName": NAME,
    "Parameters": [],
    "Tags": [{"Key": "artificien:stack", "Value": "cluster"}],
    "Capabilities": ["CAPABILITY_IAM"],
    "ClientRequestToken": ANY,
}


def described(status, **more):
    return {
        "Stacks": [{"StackName": NAME, "StackId": ARN, "StackStatus": status, "CreationTime": NOW, **more}]
    }


def test_absent_cluster_is_created(client, answers):
    """From the snapshot, with the capability to create roles; the outputs are returned."""
    expected = CREATED | {"TemplateBody": json.dumps(load_template(TemplateName.CLUSTER))}
    outputs = [{"OutputKey": "VpcId", "OutputValue": "vpc-1"}]
    answers.add_client_error("describe_stacks", "ValidationError", f"Stack with id {NAME} does not exist")
    answers.add_response("create_stack", {"StackId": ARN}, expected)
    answers.add_response("describe_stacks", described("CREATE_COMPLETE", Outputs=outputs), {"StackName": ARN})

    assert deploy.deploy_cluster(client, NAME) == {"VpcId": "vpc-1"}


def test_existing_cluster_is_not_changed(client, answers):
    """Deploying is idempotent."""
    for _ in range(2):
        answers.add_response("describe_stacks", described("UPDATE_COMPLETE"))

    assert deploy.deploy_cluster(client, NAME) == {}


def test_stack_of_a_concurrent_deployment_is_waited_for(client, answers):
    """Two operators at the same time create one stack."""
    answers.add_client_error("describe_stacks", "ValidationError", f"Stack with id {NAME} does not exist")
    answers.add_client_error("create_stack", "AlreadyExistsException", f"Stack [{NAME}] already exists")
    answers.add_response("describe_stacks", described("CREATE_COMPLETE"), {"StackName": NAME})

    assert deploy.deploy_cluster(client, NAME) == {}


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "DELETE_FAILED"])
def test_broken_cluster_is_an_error_with_its_reason(client, answers, status):
    """An operator decides what to do with it."""
    answers.add_response("describe_stacks", described(status))
    answers.add_response("describe_stacks", described(status, StackStatusReason="Quota of networks reached"))
    answers.add_response("describe_stack_events", {"StackEvents": []})

    with pytest.raises(StackFailed, match=f"{NAME} is {status}: Quota of networks reached"):
        deploy.deploy_cluster(client, NAME)


def test_cluster_with_nat_is_synthesized(client, answers):
    """There is a snapshot of the template without NAT only."""
    answers.add_client_error("describe_stacks", "ValidationError", f"Stack with id {NAME} does not exist")
    answers.add_response("create_stack", {"StackId": ARN}, CREATED | {"TemplateBody": '{"nat": "1"}'})
    answers.add_response("describe_stacks", described("CREATE_COMPLETE"))

    deploy.deploy_cluster(
        client, NAME, nat=True, synthesize=lambda context: {TemplateName.CLUSTER: dict(context)}
    )


@pytest.mark.moto
# moto skips the bucket's policy and the secret with a warning.
@pytest.mark.filterwarnings("ignore:Tried to parse AWS..S3..BucketPolicy")
@pytest.mark.filterwarnings("ignore:Tried to parse AWS..SecretsManager..Secret")
def test_data_stack_creates_tables_and_bucket(monkeypatch):
    """The tables' names are fixed; the bucket's name is an output."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        outputs = deploy.deploy_data(boto3.client("cloudformation", region_name="us-east-1"))
        tables = boto3.client("dynamodb", region_name="us-east-1").list_tables()["TableNames"]
        buckets = boto3.client("s3", region_name="us-east-1").list_buckets()["Buckets"]

    assert tables == [
        "audit_table",
        "dataset_table",
        "key_table",
        "model_table",
        "node_table",
        "training_table",
        "user_table",
    ]
    assert [bucket["Name"] for bucket in buckets] == [outputs["ModelBucketName"]]


def test_service_is_created_from_its_snapshot(client, answers):
    """Images and user pool are parameters of the template."""
    name = "artificien-orchestration"
    expected = {
        "StackName": name,
        "TemplateBody": json.dumps(load_template(TemplateName.ORCHESTRATION)),
        "Parameters": [{"ParameterKey": "ServiceImage", "ParameterValue": "registry.test/service:1"}],
        "Tags": [{"Key": "artificien:stack", "Value": "orchestration"}],
        "Capabilities": ["CAPABILITY_IAM"],
        "ClientRequestToken": ANY,
    }
    answers.add_client_error("describe_stacks", "ValidationError", f"Stack with id {name} does not exist")
    answers.add_response("create_stack", {"StackId": ARN}, expected)
    outputs = [{"OutputKey": "Address", "OutputValue": "lb.test:5001"}]
    answers.add_response("describe_stacks", described("CREATE_COMPLETE", Outputs=outputs))

    assert deploy.deploy_service(client, {"ServiceImage": "registry.test/service:1"}) == {
        "Address": "lb.test:5001"
    }
