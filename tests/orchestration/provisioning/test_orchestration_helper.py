import json
import re
import threading
from dataclasses import replace
from datetime import UTC, datetime

import boto3
import pytest
from botocore import xform_name
from botocore.stub import ANY
from moto import mock_aws

from orchestration.domain.errors import StackFailed, Upstream
from orchestration.domain.node import (
    ABSENT_STACK,
    ListedStack,
    Node,
    NodeStack,
    NodeStatus,
    StackPhase,
    node_id_of,
)
from orchestration.domain.ports import Deletion
from orchestration.provisioning.cfn_helper import PAGE_PAUSE
from orchestration.provisioning.ecs_tasks import EcsTasks
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
MADE = datetime(2026, 1, 1, tzinfo=UTC)
GOING = NodeStack(StackPhase.UNDELETABLE, ARN)
ROLE = "arn:aws:iam::000000000000:role/maker"


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class Tasks:
    """A fake of `EcsTasks`; with `away` it raises Upstream."""

    def __init__(self, words=""):
        self.words = words
        self.away = False
        self.calls = []

    def stop_reason(self, cluster, family, since):
        self.calls.append((cluster, family, since))
        if self.away:
            raise Upstream("ECS would not describe tasks.")
        return self.words


@pytest.fixture
def tasks():
    return Tasks()


def node_stacks(client, tasks=None, **more):
    usual = {"prefix": "artificien-node", "cluster_stack": "artificien-cluster", "shape": SHAPE}
    return CloudFormationNodeStacks(client, tasks or Tasks(), **usual | more)


@pytest.fixture
def stacks(client, tasks, clock):
    return node_stacks(client, tasks, clock=clock)


def described(status, *, outputs=None, tags=TAGS, **more):
    return {
        "Stacks": [
            {
                "StackName": NAME,
                "StackId": ARN,
                "StackStatus": status,
                "CreationTime": MADE,
                "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in (outputs or {}).items()],
                "Tags": [{"Key": k, "Value": v} for k, v in tags.items()],
                **more,
            }
        ]
    }


def cluster_is_there(answers, outputs=SHARED, status="CREATE_COMPLETE"):
    answers.add_response(
        "describe_stacks", described(status, outputs=outputs, tags={}), {"StackName": "artificien-cluster"}
    )


def recorded(client, operation):
    """Return a list of the parameters of all later calls of an operation."""
    calls = []
    client.meta.events.register(
        f"provide-client-params.cloudformation.{operation}", lambda params, **_: calls.append(params)
    )
    return calls


def test_complete_stack_has_the_node_s_address(stacks, answers):
    """It is an output of the stack."""
    complete = described("CREATE_COMPLETE", outputs={"PyGridNodeLoadBalancerDNS": "lb.test"})
    answers.add_response("describe_stacks", complete, {"StackName": NAME})

    stack = stacks.describe(NODE)

    assert (stack.phase, stack.stack_id, stack.address) == (StackPhase.USABLE, ARN, "lb.test")
    assert stack.remark == ""


def test_known_stack_is_described_by_its_arn(stacks, answers):
    """Its name may belong to another stack by now. A deleted stack has no address."""
    gone = described("DELETE_COMPLETE", outputs={"PyGridNodeLoadBalancerDNS": "lb.test"})
    answers.add_response("describe_stacks", gone, {"StackName": ARN})

    stack = stacks.describe(replace(NODE, stack_id=ARN))

    assert (stack.phase, stack.stack_id, stack.address) == (StackPhase.ABSENT, ARN, None)


def test_missing_stack_is_absent(stacks, answers):
    """A node without a launched stack has none."""
    answers.add_client_error("describe_stacks", "ValidationError", f"Stack with id {NAME} does not exist")

    assert stacks.describe(NODE) == ABSENT_STACK


@pytest.mark.parametrize("status", list(NodeStatus))
def test_launched_stack_that_is_not_visible_is_unseen(stacks, answers, status):
    """It isn't absent: CloudFormation lags."""
    answers.add_client_error("describe_stacks", "ValidationError", f"Stack with id {ARN} does not exist")

    seen = stacks.describe(replace(NODE, stack_id=ARN, status=status))

    assert seen == NodeStack(StackPhase.UNSEEN, ARN)


@pytest.mark.parametrize("status", ["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "IMPORT_COMPLETE"])
def test_stack_that_serves_has_its_address(stacks, answers, status):
    """During an operator's update the old resources serve."""
    answers.add_response(
        "describe_stacks", described(status, outputs={"PyGridNodeLoadBalancerDNS": "lb.test"})
    )

    assert stacks.describe(NODE).address == "lb.test"


@pytest.mark.parametrize(
    ("status", "more", "remark"),
    [
        ("ROLLBACK_COMPLETE", {"StackStatusReason": "Timed out"}, "Timed out"),
        ("CREATE_COMPLETE", {}, ""),
        ("TELEPORT_IN_PROGRESS", {}, "The stack is TELEPORT_IN_PROGRESS."),
        ("TELEPORT_IN_PROGRESS", {"StackStatusReason": "Beaming"}, "Beaming"),
    ],
)
def test_remark_is_the_status_reason_or_an_unknown_status(stacks, answers, status, more, remark):
    """It adds to the phase."""
    answers.add_response("describe_stacks", described(status, **more))

    assert stacks.describe(NODE).remark == remark


def test_undeletable_stack_has_the_time_of_its_deletion(stacks, answers):
    """Otherwise a deletion that was recorded but never requested would count as failed."""
    answers.add_response("describe_stacks", described("DELETE_FAILED", DeletionTime=MADE))

    assert stacks.describe(NODE) == NodeStack(StackPhase.UNDELETABLE, ARN, deleted_at=MADE.timestamp())


def test_stack_without_the_node_s_tag_is_foreign(stacks, answers):
    """Its name doesn't make it the node's; it has no ARN, so nothing can change it."""
    answers.add_response("describe_stacks", described("CREATE_COMPLETE", tags={}))
    answers.add_response("describe_stacks", described("CREATE_COMPLETE", tags={"artificien:node-id": "n2"}))

    for _ in range(2):
        stack = stacks.describe(NODE)

        assert (stack.phase, stack.stack_id, stack.address) == (StackPhase.FOREIGN, None, None)
        assert stack.remark == f"Another program has created the stack {NAME}."


def test_own_stack_without_its_tag_is_unknown(stacks, answers):
    """Its ARN is recorded, so somebody has removed the tag. It is in use, and not changed."""
    answers.add_response("describe_stacks", described("CREATE_COMPLETE", tags={}))

    stack = stacks.describe(replace(NODE, stack_id=ARN))

    assert (stack.phase, stack.stack_id) == (StackPhase.UNKNOWN, None)


class TestAll:
    @pytest.fixture
    def listed(self, stacks, answers):
        """Describe stacks with these names and tags as one page of a list."""

        def of(*stacks_told):
            page = [
                described("CREATE_COMPLETE", tags=tags, **more)["Stacks"][0] | {"StackName": name}
                for name, tags, more in stacks_told
            ]
            answers.add_response("describe_stacks", {"Stacks": page}, {})
            return list(stacks.all())

        return of

    def test_node_stacks_are_listed_with_node_and_generation(self, listed):
        """Both are tags of the stack."""
        outputs = [{"OutputKey": "PyGridNodeLoadBalancerDNS", "OutputValue": "lb.test"}]
        found = listed((NAME, TAGS | {"artificien:generation": "3"}, {"Outputs": outputs}))
        seen = NodeStack(StackPhase.USABLE, ARN, "lb.test")

        assert found == [ListedStack(NODE.node_id, 3, MADE.timestamp(), seen)]

    @pytest.mark.parametrize(
        ("name", "tags"),
        [
            pytest.param("foreign", {}, id="no tags"),
            pytest.param(NAME, TAGS, id="no generation"),
            pytest.param(NAME, {"artificien:generation": "3"}, id="no node"),
            pytest.param(NAME, TAGS | {"artificien:generation": "third"}, id="no number"),
            pytest.param(NAME, TAGS | {"artificien:generation": "4"}, id="another generation's name"),
            pytest.param(
                f"staging-{NODE.node_id}-3", TAGS | {"artificien:generation": "3"}, id="another deployment"
            ),
        ],
    )
    def test_other_stacks_are_ignored(self, listed, name, tags):
        """Two deployments in one account don't touch each other's stacks."""
        assert listed((name, tags, {})) == []

    def test_all_pauses_between_pages(self, client, answers):
        """All callers of the account share the rate limit."""
        pauses = []
        answers.add_response("describe_stacks", described("CREATE_COMPLETE") | {"NextToken": "2"}, {})
        answers.add_response("describe_stacks", described("CREATE_COMPLETE"), {"NextToken": "2"})
        list(node_stacks(client, sleep=pauses.append).all())

        assert pauses == [PAGE_PAUSE]


class TestExplain:
    BROKEN = NodeStack(StackPhase.BROKEN, ARN, remark="The following resource(s) failed")
    LAUNCHED = replace(NODE, launched_at=1_700_000_000.0)

    def events_are(self, answers, *failures):
        events = [
            {
                "StackId": ARN,
                "StackName": NAME,
                "EventId": resource,
                "Timestamp": MADE,
                "LogicalResourceId": resource,
                "ResourceStatus": status,
                "ResourceStatusReason": reason,
            }
            for resource, status, reason in failures
        ]
        answers.add_response("describe_stack_events", {"StackEvents": events}, {"StackName": ARN})

    def test_explanation_is_the_first_failure_and_the_stop_reason(self, stacks, tasks, answers):
        """A data scientist reads what failed."""
        self.events_are(answers, ("Service", "CREATE_FAILED", "The circuit breaker was triggered."))
        cluster_is_there(answers)
        tasks.words = "Task stopped: OutOfMemoryError"

        told_of = stacks.explain(self.LAUNCHED, self.BROKEN)

        assert told_of == "Service: The circuit breaker was triggered. Task stopped: OutOfMemoryError"
        assert tasks.calls == [("the-ClusterName", f"artificien-node-{NODE.node_id}", 1_700_000_000.0)]

    def test_stack_without_arn_is_explained_by_its_task(self, stacks, tasks, answers):
        """Its events can't be read."""
        cluster_is_there(answers)
        tasks.words = "Task stopped: OutOfMemoryError"

        assert stacks.explain(NODE, ABSENT_STACK) == "Task stopped: OutOfMemoryError"

    def test_without_a_cluster_only_events_explain(self, stacks, tasks, answers):
        """No task ran."""
        self.events_are(answers, ("Service", "CREATE_FAILED", "No cluster."))
        answers.add_client_error("describe_stacks", "ValidationError", "Stack does not exist")

        assert stacks.explain(NODE, self.BROKEN) == "Service: No cluster."
        assert tasks.calls == []

    def test_without_ecs_only_events_explain(self, stacks, tasks, answers, logs):
        """The failed stack must be deleted even if its task can't be looked up."""
        self.events_are(answers, ("Service", "CREATE_FAILED", "Timed out."))
        cluster_is_there(answers)
        tasks.away = True

        assert stacks.explain(NODE, self.BROKEN) == "Service: Timed out."
        assert [entry["event"] for entry in logs] == ["task.lookup_failed"]

    def test_remark_explains_if_nothing_else_does(self, stacks, answers):
        """Some failures are the stack's, not a resource's."""
        self.events_are(answers, ("Service", "CREATE_COMPLETE", ""))
        cluster_is_there(answers)

        assert stacks.explain(NODE, self.BROKEN) == "The following resource(s) failed"


def test_launch_passes_the_cluster_s_outputs(stacks, client, answers):
    """Outputs and parameters have the same names; outputs that are no parameter are left out."""
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
        "NodeReadOnly": "true",
        "NodeMinReports": "10",
        "NodeImage": "node:1",
        "NodeCpu": "1024",
        "NodeMemory": "4096",
        "CapacityProvider": "FARGATE",
    }


@pytest.mark.parametrize(
    ("spot", "attempts", "capacity"),
    [(True, 1, "FARGATE_SPOT"), (True, 2, "FARGATE"), (True, 3, "FARGATE"), (False, 1, "FARGATE")],
)
def test_only_the_first_attempt_uses_spot(client, answers, spot, attempts, capacity):
    """Without Spot capacity, a later attempt runs the node at three times the price."""
    sent = recorded(client, "CreateStack")
    cluster_is_there(answers)
    answers.add_response("create_stack", {"StackId": ARN})
    stacks = node_stacks(client, shape=replace(SHAPE, spot=spot))
    stacks.launch(replace(NODE, attempts=attempts), SECRET)
    parameters = {pair["ParameterKey"]: pair["ParameterValue"] for pair in sent[0]["Parameters"]}

    assert parameters["CapacityProvider"] == capacity


def test_role_is_passed_with_every_change(client, answers):
    """The service itself has no permission to create a node's resources."""
    sent = [
        recorded(client, operation)
        for operation in ("CreateStack", "DeleteStack", "RollbackStack", "ContinueUpdateRollback")
    ]
    cluster_is_there(answers)
    answers.add_response("create_stack", {"StackId": ARN})
    for operation in ("delete_stack", "rollback_stack", "continue_update_rollback"):
        answers.add_response(operation, {})
    stacks = node_stacks(client, role_arn=ROLE)

    stacks.launch(NODE, SECRET)
    stacks.delete(NODE, GOING, Deletion.PLAIN)
    stacks.roll_back(NODE, GOING)
    stacks.continue_rollback(NODE, GOING)

    assert [call["RoleARN"] for calls in sent for call in calls] == [ROLE] * 4


def test_same_launch_has_the_same_token(stacks, client, answers):
    """Replicas that launch one generation create one stack; another generation has another token."""
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


def test_launch_returns_none_for_an_existing_stack(stacks, answers):
    """Two requests at the same time launch one stack."""
    cluster_is_there(answers)
    answers.add_client_error("create_stack", "AlreadyExistsException", f"Stack [{NAME}] already exists")

    assert stacks.launch(NODE, SECRET) is None


def test_throttling_is_no_failed_launch(stacks, answers):
    """It must not use up an attempt."""
    cluster_is_there(answers)
    answers.add_client_error("create_stack", "Throttling", "Rate exceeded")

    with pytest.raises(Upstream, match="Rate exceeded") as caught:
        stacks.launch(NODE, SECRET)
    assert not isinstance(caught.value, StackFailed)


def test_cluster_is_described_every_five_minutes(stacks, answers, clock):
    """Its outputs rarely change, and the account's rate of DescribeStacks is limited."""
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


def test_launch_fails_without_a_cluster(stacks, answers):
    """The message contains what an operator has to do."""
    answers.add_client_error("describe_stacks", "ValidationError", "Stack artificien-cluster does not exist")

    with pytest.raises(StackFailed, match="artificien-cluster is absent: deploy it first"):
        stacks.launch(NODE, SECRET)


def test_launch_fails_in_an_incomplete_cluster(stacks, answers):
    """The message contains its status."""
    cluster_is_there(answers, status="CREATE_IN_PROGRESS")

    with pytest.raises(StackFailed, match="CREATE_IN_PROGRESS"):
        stacks.launch(NODE, SECRET)


def test_missing_outputs_of_the_cluster_are_listed(stacks, answers):
    """An older cluster stack may lack outputs."""
    outputs = {name: value for name, value in SHARED.items() if name not in ("VpcId", "ClusterName")}
    cluster_is_there(answers, outputs)

    with pytest.raises(StackFailed, match=r"lacks outputs: ClusterName, VpcId\."):
        stacks.launch(NODE, SECRET)


CHANGES = {
    "DeleteStack": lambda stacks, node, stack: stacks.delete(node, stack, Deletion.PLAIN),
    "CancelUpdateStack": lambda stacks, node, stack: stacks.cancel_update(node, stack),
    "RollbackStack": lambda stacks, node, stack: stacks.roll_back(node, stack),
    "ContinueUpdateRollback": lambda stacks, node, stack: stacks.continue_rollback(node, stack),
}


class TestChange:
    @pytest.mark.parametrize("operation", CHANGES)
    def test_stack_is_changed_by_its_arn(self, stacks, client, answers, operation):
        """Its name may belong to another stack by now."""
        sent = recorded(client, operation)
        answers.add_response(xform_name(operation), {})
        CHANGES[operation](stacks, NODE, GOING)

        assert [call["StackName"] for call in sent] == [ARN]

    @pytest.mark.parametrize("operation", CHANGES)
    def test_stack_without_arn_is_not_changed(self, stacks, client, operation):
        """A name alone may be another deployment's."""
        sent = recorded(client, operation)
        CHANGES[operation](stacks, NODE, ABSENT_STACK)

        assert sent == []

    @pytest.mark.parametrize("operation", CHANGES)
    def test_token_changes_with_the_next_attempt_only(self, stacks, client, answers, operation):
        """CloudFormation would ignore another attempt with the same token."""
        sent = recorded(client, operation)
        tries = [
            NODE,
            NODE,
            replace(NODE, deletions=1),
            replace(NODE, repairs=1),
            replace(NODE, generation=4),
        ]
        for node in tries:
            answers.add_response(xform_name(operation), {})
            CHANGES[operation](stacks, node, GOING)
        first, again, *others = (call["ClientRequestToken"] for call in sent)

        assert first == again
        assert len({first, *others}) == 4
        assert all(re.fullmatch(r"[a-zA-Z][-a-zA-Z0-9]{0,127}", token) for token in (first, *others))

    def test_operations_have_different_tokens(self, stacks, client, answers):
        """Their tokens differ even for the same counts of attempts."""
        sent = [recorded(client, operation) for operation in CHANGES]
        for operation, change in CHANGES.items():
            answers.add_response(xform_name(operation), {})
            change(stacks, NODE, GOING)

        assert len({call["ClientRequestToken"] for calls in sent for call in calls}) == len(CHANGES)

    @pytest.mark.parametrize("operation", CHANGES)
    def test_refusal_is_a_failed_stack(self, stacks, answers, operation):
        """The caller may try another way."""
        answers.add_client_error(xform_name(operation), "ValidationError", "Not in this state")

        with pytest.raises(StackFailed, match="Not in this state"):
            CHANGES[operation](stacks, NODE, GOING)


class TestDelete:
    def test_plain_deletion_retains_nothing(self, stacks, client, answers):
        """It returns no resources."""
        sent = recorded(client, "DeleteStack")
        answers.add_response("delete_stack", {})

        assert list(stacks.delete(NODE, GOING, Deletion.PLAIN)) == []
        assert not {"RetainResources", "DeletionMode"} & sent[0].keys()

    def test_retaining_deletion_retains_failed_resources(self, stacks, client, answers):
        """They are found in the stack's events, and returned."""
        sent = recorded(client, "DeleteStack")
        of_stack = {"StackId": ARN, "StackName": NAME, "Timestamp": MADE, "ResourceStatus": "DELETE_FAILED"}
        events = [of_stack | {"EventId": name, "LogicalResourceId": name} for name in ("Service", "Listener")]
        answers.add_response("describe_stack_events", {"StackEvents": events}, {"StackName": ARN})
        answers.add_response("delete_stack", {})

        left = stacks.delete(NODE, GOING, Deletion.RETAINING)

        assert list(left) == ["Listener", "Service"]
        assert sent[0]["RetainResources"] == ["Listener", "Service"]
        assert "DeletionMode" not in sent[0]

    def test_forced_deletion_returns_failed_resources(self, stacks, client, answers):
        """CloudFormation retains them by itself; an operator must know of them, because they cost money."""
        sent = recorded(client, "DeleteStack")
        of_stack = {"StackId": ARN, "StackName": NAME, "Timestamp": MADE, "ResourceStatus": "DELETE_FAILED"}
        event = of_stack | {"EventId": "1", "LogicalResourceId": "Service"}
        answers.add_response("describe_stack_events", {"StackEvents": [event]}, {"StackName": ARN})
        answers.add_response("delete_stack", {})

        assert list(stacks.delete(NODE, GOING, Deletion.BY_FORCE)) == ["Service"]
        assert sent[0]["DeletionMode"] == "FORCE_DELETE_STACK"
        assert "RetainResources" not in sent[0]

    def test_deleting_an_absent_stack_is_no_error(self, stacks, answers):
        """Deleting is idempotent."""
        answers.add_client_error("delete_stack", "ValidationError", f"Stack [{ARN}] does not exist")

        assert list(stacks.delete(NODE, GOING, Deletion.PLAIN)) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("heart-rate_1.0", "heart-rate_1.0"),
        ("a~b=c%d/é", "a=7Eb=3Dc=25d=2F=C3=A9"),
        ("", ""),
    ],
)
def test_text_is_encoded_as_a_tag_value(text, value):
    """A dataset's id is free text."""
    assert tag_value(text) == value


def test_text_too_long_for_a_tag_is_hashed():
    """A tag has at most 256 characters; every byte may take three."""
    value = tag_value("é" * 100)

    assert value.startswith("sha256:")
    assert len(value) == 71


class OneAtATime:
    """A client that makes one call at a time: unlike AWS, moto isn't thread-safe."""

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
    """An embedded AWS whose cluster stack has only outputs: moto can't create a real one."""
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
def test_stack_is_created_and_deleted(aws):
    """It has an address, and is absent after its deletion, by name and by ARN."""
    tasks = EcsTasks(boto3.client("ecs", region_name="us-east-1"))
    stacks = node_stacks(aws, tasks)

    arn = stacks.launch(NODE, SECRET)
    up = stacks.describe(NODE)
    listed = list(stacks.all())
    explained = stacks.explain(NODE, up)
    for _ in range(2):
        stacks.delete(NODE, up, Deletion.PLAIN)

    assert (up.phase, up.stack_id) == (StackPhase.USABLE, arn)
    assert up.address.endswith(".elb.amazonaws.com")
    assert stacks.describe(NODE) == ABSENT_STACK
    assert stacks.describe(replace(NODE, stack_id=arn)).phase is StackPhase.ABSENT
    assert [(seen.node_id, seen.generation, seen.stack) for seen in listed] == [(NODE.node_id, 3, up)]
    assert explained == ""
    assert list(stacks.all()) == []


@pytest.mark.moto
def test_task_definition_contains_no_secret(aws):
    """ECS reads the secrets from Secrets Manager."""
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
def test_concurrent_launches_create_one_stack(aws):
    """One returns its ARN, the other None."""
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
