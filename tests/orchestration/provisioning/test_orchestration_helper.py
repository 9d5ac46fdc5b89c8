import json
import threading
from dataclasses import replace
from datetime import UTC, datetime

import boto3
import pytest
from botocore.stub import ANY
from moto import mock_aws

from orchestration.domain.errors import StackFailed, Upstream
from orchestration.domain.node import ABSENT_STACK, Node, NodeStatus, StackPhase, node_id_of
from orchestration.provisioning.node_shape import NodeShape
from orchestration.provisioning.orchestration_helper import CloudFormationNodeStacks, tag_value
from orchestration.provisioning.synthesizer import TemplateName, load_template

DATASET = "Heart rate, Zürich (1.0)"
NODE = Node(node_id_of(DATASET), DATASET, generation=3)
NAME = f"artificien-node-{NODE.node_id}-3"
ARN = f"arn:aws:cloudformation:us-east-1:000000000000:stack/{NAME}/1"
SECRET = "arn:aws:secretsmanager:us-east-1:000000000000:secret:artificien/node/n1-AbCdEf"
SHAPE = NodeShape("node:1", cpu=1024, memory=4096)
OWN = {"NodeId", "NodeSecretArn"} | SHAPE.parameters().keys()
SHARED = {
    name: f"the-{name}" for name in load_template(TemplateName.NODE)["Parameters"] if name not in OWN
} | {"AssignPublicIp": "ENABLED"}
TAGS = {"artificien:node-id": NODE.node_id}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def node_stacks(client, **more):
    return CloudFormationNodeStacks(
        client, prefix="artificien-node", cluster_stack="artificien-cluster", **{"shape": SHAPE} | more
    )


@pytest.fixture
def stacks(client, clock):
    return node_stacks(client, clock=clock)


def told(status, *, outputs=None, tags=TAGS, **more):
    return {
        "Stacks": [
            {
                "StackName": NAME,
                "StackId": ARN,
                "StackStatus": status,
                "CreationTime": datetime(2026, 1, 1, tzinfo=UTC),
                "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in (outputs or {}).items()],
                "Tags": [{"Key": k, "Value": v} for k, v in tags.items()],
                **more,
            }
        ]
    }


def cluster_is_there(answers, outputs=SHARED, status="CREATE_COMPLETE"):
    answers.add_response(
        "describe_stacks", told(status, outputs=outputs, tags={}), {"StackName": "artificien-cluster"}
    )


def recorded(client, operation):
    """Collect what is sent from now on."""
    calls = []
    client.meta.events.register(
        f"provide-client-params.cloudformation.{operation}", lambda params, **_: calls.append(params)
    )
    return calls


def test_a_complete_stack_shows_the_address_of_its_node(stacks, answers):
    """It comes from the stack's output; no events are asked for while all is well."""
    complete = told("CREATE_COMPLETE", outputs={"PyGridNodeLoadBalancerDNS": "lb.test"})
    answers.add_response("describe_stacks", complete, {"StackName": NAME})

    stack = stacks.describe(NODE)

    assert (stack.phase, stack.stack_id, stack.address) == (StackPhase.USABLE, ARN, "lb.test")
    assert stack.reason == ""


def test_a_known_stack_is_looked_up_by_its_arn(stacks, answers):
    """Another stack of the same name may have come; a deleted one has no address any more."""
    gone = told("DELETE_COMPLETE", outputs={"PyGridNodeLoadBalancerDNS": "lb.test"})
    answers.add_response("describe_stacks", gone, {"StackName": ARN})

    stack = stacks.describe(replace(NODE, stack_id=ARN))

    assert (stack.phase, stack.stack_id, stack.address) == (StackPhase.ABSENT, ARN, None)


def test_no_stack_is_absent(stacks, answers):
    """Before the launch there is nothing under that name."""
    answers.add_client_error("describe_stacks", "ValidationError", f"Stack with id {NAME} does not exist")

    assert stacks.describe(NODE) == ABSENT_STACK


@pytest.mark.parametrize(
    ("status", "phase"),
    [(NodeStatus.DEPLOYING, StackPhase.UNKNOWN), (NodeStatus.RETIRING, StackPhase.ABSENT)],
)
def test_a_stack_just_created_is_not_taken_for_gone(stacks, answers, status, phase):
    """CloudFormation lags behind: forgotten now, the stack would live on unseen."""
    answers.add_client_error("describe_stacks", "ValidationError", f"Stack with id {ARN} does not exist")

    assert stacks.describe(replace(NODE, stack_id=ARN, status=status)).phase is phase


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("ROLLBACK_IN_PROGRESS", StackPhase.FAILING),
        ("ROLLBACK_COMPLETE", StackPhase.BROKEN),
        ("DELETE_FAILED", StackPhase.UNDELETABLE),
    ],
)
def test_a_failure_has_the_reason_of_its_first_event(stacks, answers, status, phase):
    """A data scientist is told what broke, not that something did."""
    failed = {
        "StackId": ARN,
        "StackName": NAME,
        "EventId": "1",
        "Timestamp": datetime(2026, 1, 1, tzinfo=UTC),
        "LogicalResourceId": "Service",
        "ResourceStatus": "CREATE_FAILED",
        "ResourceStatusReason": "The image doesn't exist",
    }
    answers.add_response("describe_stacks", told(status))
    answers.add_response("describe_stack_events", {"StackEvents": [failed]}, {"StackName": ARN})

    stack = stacks.describe(NODE)

    assert (stack.phase, stack.reason) == (phase, "Service: The image doesn't exist")


def test_without_a_failed_event_cloudformation_s_own_words_are_the_reason(stacks, answers):
    """Some failures are of the stack, not of a resource."""
    answers.add_response("describe_stacks", told("ROLLBACK_COMPLETE", StackStatusReason="Timed out"))
    answers.add_response("describe_stack_events", {"StackEvents": []})

    assert stacks.describe(NODE).reason == "Timed out"


def test_a_stranger_s_stack_is_never_touched(stacks, answers):
    """Only the tag makes a stack ours, not its name."""
    answers.add_response("describe_stacks", told("CREATE_COMPLETE", tags={}))
    answers.add_response("describe_stacks", told("CREATE_COMPLETE", tags={"artificien:node-id": "n2"}))

    stack = stacks.describe(NODE)

    assert (stack.phase, stack.stack_id) == (StackPhase.UNKNOWN, None)
    assert "isn't ours" in stack.reason
    with pytest.raises(StackFailed, match="doesn't carry this node's tag"):
        stacks.retire(NODE)


def test_a_launch_passes_the_cluster_s_outputs_on(stacks, client, answers):
    """They are named like the template's parameters; the database's outputs are nobody's parameter."""
    expected = {
        "StackName": NAME,
        "TemplateBody": json.dumps(load_template(TemplateName.NODE)),
        "Parameters": ANY,
        "Tags": [
            {"Key": "artificien:node-id", "Value": NODE.node_id},
            {"Key": "artificien:dataset-id", "Value": "Heart=20rate=2C=20Z=C3=BCrich=20=281.0=29"},
            {"Key": "artificien:generation", "Value": "3"},
        ],
        "Capabilities": [],
        "ClientRequestToken": ANY,
    }
    sent = recorded(client, "CreateStack")
    cluster_is_there(answers, SHARED | {"DatabaseEndpoint": "db.test"})
    answers.add_response("create_stack", {"StackId": ARN}, expected)

    assert stacks.launch(NODE, SECRET) == ARN
    parameters = {pair["ParameterKey"]: pair["ParameterValue"] for pair in sent[0]["Parameters"]}
    assert parameters == SHARED | {
        "NodeId": NODE.node_id,
        "NodeSecretArn": SECRET,
        "NodeImage": "node:1",
        "NodeCpu": "1024",
        "NodeMemory": "4096",
        "CapacityProvider": "FARGATE",
    }


def test_a_node_on_spot_capacity_asks_for_it_and_for_nothing_else(client, answers):
    """Where there is none, the launch fails and says so; it doesn't quietly cost three times as much."""
    sent = recorded(client, "CreateStack")
    cluster_is_there(answers)
    answers.add_response("create_stack", {"StackId": ARN})
    node_stacks(client, shape=replace(SHAPE, spot=True)).launch(NODE, SECRET)
    parameters = {pair["ParameterKey"]: pair["ParameterValue"] for pair in sent[0]["Parameters"]}

    assert parameters["CapacityProvider"] == "FARGATE_SPOT"


def test_a_node_is_made_and_unmade_by_cloudformation_s_role(client, answers):
    """The service itself has no right to make what a node consists of."""
    role = "arn:aws:iam::000000000000:role/maker"
    created, deleted = recorded(client, "CreateStack"), recorded(client, "DeleteStack")
    cluster_is_there(answers)
    answers.add_response("create_stack", {"StackId": ARN})
    answers.add_response("describe_stacks", told("CREATE_COMPLETE"))
    answers.add_response("delete_stack", {})
    stacks = node_stacks(client, role_arn=role)

    stacks.launch(NODE, SECRET)
    stacks.retire(NODE)

    assert [call["RoleARN"] for call in created + deleted] == [role, role]


def test_the_same_launch_carries_the_same_token(stacks, client, answers):
    """So that two replicas, or one that comes back to life, ask for one stack; the next life is another."""
    sent = recorded(client, "CreateStack")
    cluster_is_there(answers)
    for _ in range(3):
        answers.add_response("create_stack", {"StackId": ARN})

    stacks.launch(NODE, SECRET)
    stacks.launch(NODE, SECRET)
    stacks.launch(replace(NODE, generation=4), SECRET)

    tokens = [call["ClientRequestToken"] for call in sent]
    assert tokens[0] == tokens[1] != tokens[2]
    assert all(token.startswith("launch-") and len(token) <= 128 for token in tokens)


def test_a_launch_that_somebody_else_made_returns_none(stacks, answers):
    """Two requests at once launch once."""
    cluster_is_there(answers)
    answers.add_client_error("create_stack", "AlreadyExistsException", f"Stack [{NAME}] already exists")

    assert stacks.launch(NODE, SECRET) is None


def test_throttling_is_not_a_failed_launch(stacks, answers):
    """It may pass, and must not use up the node's launch."""
    cluster_is_there(answers)
    answers.add_client_error("create_stack", "Throttling", "Rate exceeded")

    with pytest.raises(Upstream, match="Rate exceeded") as caught:
        stacks.launch(NODE, SECRET)
    assert not isinstance(caught.value, StackFailed)


def test_the_cluster_is_asked_for_its_outputs_every_few_minutes(stacks, answers, clock):
    """They hardly ever change; DescribeStacks is scarce in the whole account."""
    cluster_is_there(answers)
    answers.add_response("create_stack", {"StackId": ARN})
    answers.add_response("create_stack", {"StackId": ARN})
    cluster_is_there(answers)
    answers.add_response("create_stack", {"StackId": ARN})

    stacks.launch(NODE, SECRET)
    clock.now = 299
    stacks.launch(NODE, SECRET)
    clock.now = 301
    stacks.launch(NODE, SECRET)


def test_without_a_cluster_nothing_is_launched(stacks, answers):
    """The operator is told what to do first."""
    answers.add_client_error("describe_stacks", "ValidationError", "Stack artificien-cluster does not exist")

    with pytest.raises(StackFailed, match="artificien-cluster is absent: deploy it first"):
        stacks.launch(NODE, SECRET)


def test_a_cluster_that_isn_t_usable_is_not_launched_into(stacks, answers):
    """Half a network is no place for a node."""
    cluster_is_there(answers, status="CREATE_IN_PROGRESS")

    with pytest.raises(StackFailed, match="CREATE_IN_PROGRESS"):
        stacks.launch(NODE, SECRET)


def test_a_cluster_of_an_older_shape_is_named_with_what_it_lacks(stacks, answers):
    """A parameter without an output must not reach CloudFormation as a riddle."""
    outputs = {name: value for name, value in SHARED.items() if name not in ("VpcId", "ClusterName")}
    cluster_is_there(answers, outputs)

    with pytest.raises(StackFailed, match=r"lacks outputs: ClusterName, VpcId\."):
        stacks.launch(NODE, SECRET)


@pytest.mark.parametrize("status", ["DELETE_IN_PROGRESS", "DELETE_COMPLETE"])
def test_what_is_going_or_gone_is_not_retired_again(stacks, answers, status):
    """Retiring is idempotent, and calls cost."""
    answers.add_response("describe_stacks", told(status))

    stacks.retire(replace(NODE, stack_id=ARN))


def test_retiring_again_after_a_failure_carries_another_token(stacks, client, answers):
    """With the same token CloudFormation would take it for the deletion that failed."""
    sent = recorded(client, "DeleteStack")
    failed = told("DELETE_FAILED", DeletionTime=datetime(2026, 1, 2, tzinfo=UTC))
    for answer in (told("CREATE_COMPLETE"), told("CREATE_COMPLETE"), failed):
        answers.add_response("describe_stacks", answer)
        answers.add_response("delete_stack", {}, {"StackName": ARN, "ClientRequestToken": ANY})

    for _ in range(3):
        stacks.retire(NODE)

    tokens = [call["ClientRequestToken"] for call in sent]
    assert tokens[0] == tokens[1] != tokens[2]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("heart-rate_1.0", "heart-rate_1.0"),
        ("a~b=c%d/é", "a=7Eb=3Dc=25d=2F=C3=A9"),
        ("", ""),
    ],
)
def test_free_text_becomes_a_tag_that_cloudformation_takes(text, value):
    """A dataset's id is what an app developer typed."""
    assert tag_value(text) == value


def test_text_too_long_for_a_tag_is_hashed():
    """256 characters are the limit, and every byte may take three."""
    value = tag_value("é" * 100)

    assert value.startswith("sha256:")
    assert len(value) == 71


class OneAtATime:
    """moto isn't atomic under threads; AWS is. One call at a time makes up for it."""

    def __init__(self, client):
        self._client = client
        self._lock = threading.Lock()

    @property
    def exceptions(self):
        return self._client.exceptions

    def __getattr__(self, name):
        operation = getattr(self._client, name)

        def call(**arguments):
            with self._lock:
                return operation(**arguments)

        return call


@pytest.fixture
def aws(monkeypatch):
    """An embedded AWS with a stack that has the cluster's outputs; moto can't make a real one."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        client = boto3.client("cloudformation", region_name="us-east-1")
        ec2 = boto3.client("ec2", region_name="us-east-1")
        network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]]
        group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
        outputs = SHARED | {
            "VpcId": network,
            "PublicSubnetA": subnets[0],
            "PublicSubnetB": subnets[1],
            "NodeSubnetA": subnets[0],
            "NodeSubnetB": subnets[1],
            "LoadBalancerSecurityGroup": group,
            "NodeSecurityGroup": group,
        }
        template = {
            "Resources": {"Cluster": {"Type": "AWS::ECS::Cluster"}},
            "Outputs": {name: {"Value": value} for name, value in outputs.items()}
            | {"ClusterName": {"Value": {"Ref": "Cluster"}}},
        }
        client.create_stack(StackName="artificien-cluster", TemplateBody=json.dumps(template))
        yield client


@pytest.mark.moto
def test_a_node_s_stack_goes_up_and_down(aws):
    """Launched, it has an address; retired, it is absent by name and by ARN, and that is no error."""
    stacks = node_stacks(aws)

    arn = stacks.launch(NODE, SECRET)
    up = stacks.describe(NODE)
    stacks.retire(replace(NODE, stack_id=arn))
    stacks.retire(replace(NODE, stack_id=arn))

    assert (up.phase, up.stack_id) == (StackPhase.USABLE, arn)
    assert up.address.endswith(".elb.amazonaws.com")
    assert stacks.describe(NODE) == ABSENT_STACK
    assert stacks.describe(replace(NODE, stack_id=arn)).phase is StackPhase.ABSENT


@pytest.mark.moto
def test_the_task_gets_its_secrets_by_reference(aws):
    """Nothing secret is in the task definition, only where ECS finds it."""
    node_stacks(aws).launch(NODE, SECRET)

    ecs = boto3.client("ecs", region_name="us-east-1")
    task = ecs.describe_task_definition(taskDefinition=f"artificien-node-{NODE.node_id}")["taskDefinition"]
    container = task["containerDefinitions"][0]
    environment = {pair["name"]: pair["value"] for pair in container["environment"]}
    secrets = {pair["name"]: pair["valueFrom"] for pair in container["secrets"]}

    assert environment["NODE_ID"] == NODE.node_id
    assert environment["PORT"] == "5000"
    assert secrets == {
        "MASTER_NODE_URL": f"{SECRET}:MASTER_NODE_URL::",
        "DATABASE_URL": f"{SECRET}:DATABASE_URL::",
    }


@pytest.mark.moto
def test_two_launches_at_once_make_one_stack(aws):
    """One gets its ARN, the other is told that it is there."""
    stacks = node_stacks(OneAtATime(aws))
    ready = threading.Barrier(2)
    arns = []

    def launch():
        ready.wait()
        arns.append(stacks.launch(NODE, SECRET))

    threads = [threading.Thread(target=launch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(arn is None for arn in arns) == [False, True]
    assert [stack["StackName"] for stack in aws.describe_stacks()["Stacks"]].count(NAME) == 1
