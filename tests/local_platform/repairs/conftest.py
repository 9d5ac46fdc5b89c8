"""The cluster, data and node stacks, deployed on the AWS of this process."""

import json
import uuid

import pytest

from orchestration.provisioning.deploy import deploy_cluster, deploy_data
from orchestration.provisioning.node_shape import NodeShape
from orchestration.provisioning.synthesizer import TemplateName, load_template


@pytest.fixture(scope="session")
def cluster(aws):
    """Outputs of a cluster stack."""
    return deploy_cluster(aws.client("cloudformation"), "repairs-cluster")


@pytest.fixture(scope="session")
def data(aws):
    """Outputs of a data stack."""
    return deploy_data(aws.client("cloudformation"), "repairs-data")


@pytest.fixture
def node_stack(aws, cluster):
    """Deploy node stacks: `node_stack(node_id)` returns the stack's name and the node's address.

    The stacks are deleted after the test.
    """
    cloudformation = aws.client("cloudformation")
    template = load_template(TemplateName.NODE)
    secret = aws.client("secretsmanager").create_secret(
        Name=f"node/{uuid.uuid4()}",
        SecretString='{"MASTER_NODE_URL": "n:s@h:5001", "DATABASE_URL": "sqlite:////d/"}',
    )
    deployed = []

    def deploy(node_id, *, spot=False):
        shape = NodeShape("artificien/pygrid-node:1", spot=spot)
        own = {"NodeId": node_id, "NodeSecretArn": secret["ARN"]} | shape.parameters()
        values = {name: value for name, value in {**cluster, **own}.items() if name in template["Parameters"]}
        arguments = {
            "StackName": f"repairs-{node_id}",
            "TemplateBody": json.dumps(template),
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in values.items()],
        }
        cloudformation.create_stack(**arguments)
        deployed.append(f"repairs-{node_id}")
        stack = cloudformation.describe_stacks(StackName=deployed[-1])["Stacks"][0]
        return deployed[-1], stack["Outputs"][0]["OutputValue"]

    yield deploy
    for name in deployed:
        cloudformation.delete_stack(StackName=name)
