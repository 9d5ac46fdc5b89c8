"""Roles, their policies and their boundaries, read from the templates' snapshots."""

import json
import re

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from orchestration.adapters.node_secrets import NAME_PREFIX
from tests.orchestration.stacks.reading import (
    CLUSTER,
    NODE,
    ORCHESTRATION,
    TEMPLATES,
    held_by,
    short,
    statements,
    text,
)

EVERYWHERE = [(name, s) for name, template in TEMPLATES.items() for s in statements(template)]
MAKER = "ProvisioningRole"
ON_EVERYTHING = {
    "cloudformation:DescribeStacks": "the reconciler lists all stacks",
    "cloudformation:ListStacks": "AWS requires it to describe stacks without a name",
    "secretsmanager:ListSecrets": "it returns the names of secrets, not their values",
    "ecs:ListTasks": "a condition restricts it to the cluster",
    "ecr:GetAuthorizationToken": "a login to the registry has no resource",
    "ecs:DeregisterTaskDefinition": "AWS can't restrict it; running tasks continue",
    "ecs:DescribeTaskDefinition": "AWS can't restrict it",
    "ec2:GetSecurityGroupsForVpc": "it only reads; ELB calls it to create a load balancer",
}
"""In addition to descriptions of networks and load balancers, which AWS can't restrict."""


def test_no_action_is_a_pattern():
    """Policies list every action by name."""
    patterns = {action for _, s in EVERYWHERE for action in s.actions if "*" in action}

    assert patterns == set()


def test_actions_on_all_resources_are_listed_with_a_reason():
    """Any other such action makes this test fail."""
    wide = {action for _, s in EVERYWHERE if "*" in s.resources for action in s.actions}
    descriptions = {
        action for action in wide if action.startswith(("ec2:Describe", "elasticloadbalancing:Describe"))
    }

    assert wide - descriptions == ON_EVERYTHING.keys()


def test_roles_are_passed_to_one_service():
    """The service passes CloudFormation its role, CloudFormation passes ECS the roles of nodes."""
    passed = {
        (holder, short(resource), s.conditions["StringEquals"]["iam:PassedToService"])
        for _, s in EVERYWHERE
        if "iam:PassRole" in s.actions
        for holder in s.holders
        for resource in s.resources
    }

    assert passed == {
        ("ReconcilerRole", f"<{MAKER}.Arn>", "cloudformation.amazonaws.com"),
        (MAKER, "<<ClusterStack>-ExecutionRoleArn>", "ecs-tasks.amazonaws.com"),
        (MAKER, "<<ClusterStack>-TaskRoleArn>", "ecs-tasks.amazonaws.com"),
    }


def test_passing_a_role_is_the_only_action_of_iam():
    """No role can create or change a role."""
    actions = {action for _, s in EVERYWHERE for action in s.actions if action.startswith(("iam:", "sts:"))}

    assert actions == {"iam:PassRole"}


def test_roles_trust_one_service_each():
    """ECS assumes tasks' roles for tasks of this account; no user can assume a role."""
    trusted = {}
    for template in (CLUSTER, ORCHESTRATION):
        for name, resource in template["Resources"].items():
            if resource["Type"] == "AWS::IAM::Role":
                (s,) = resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]
                trusted.setdefault(s["Principal"]["Service"], []).append((name, "Condition" in s))

    assert trusted.keys() == {
        "ecs-tasks.amazonaws.com",
        "cloudformation.amazonaws.com",
        "vpc-flow-logs.amazonaws.com",
    }
    assert all(conditioned for _, conditioned in trusted["ecs-tasks.amazonaws.com"])


def roles(template):
    return {n: r["Properties"] for n, r in template["Resources"].items() if r["Type"] == "AWS::IAM::Role"}


@pytest.mark.parametrize(
    ("template", "role"), [(CLUSTER, "ExecutionRole"), (CLUSTER, "TaskRole"), (ORCHESTRATION, MAKER)]
)
def test_roles_of_nodes_have_a_boundary(template, role):
    """It also limits policies that are attached later."""
    (properties,) = (p for name, p in roles(template).items() if short(name) == role)
    boundary = properties["PermissionsBoundary"]

    assert template["Resources"][boundary["Ref"]]["Type"] == "AWS::IAM::ManagedPolicy"
    assert properties.get("ManagedPolicyArns", [boundary]) == [boundary]


def test_running_node_has_no_permission():
    """It calls nothing of AWS: no policy is attached to its role."""
    assert not [s for s in statements(CLUSTER) if "TaskRole" in s.holders]


def test_no_role_can_read_logs():
    """The original node logs its callback's URL with its credential, even if masked."""
    reading = {a for _, s in EVERYWHERE for a in s.actions if a.startswith("logs:")}

    assert reading == {"logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"}


def test_provisioning_role_writes_to_resources_of_nodes_only():
    """Their names have the prefix of nodes; the service's own load balancer has another name."""
    written = {
        resource
        for s in held_by(ORCHESTRATION, MAKER)
        for resource in s.resources
        if resource != "*" and "iam:PassRole" not in s.actions
    }
    names = {
        name
        for resource in NODE["Resources"].values()
        for key, name in text(resource["Properties"]).items()
        if key in ("Name", "Family")
    }

    assert {arn.split(":", 5)[5] for arn in written} == {
        "loadbalancer/app/artificien-node-*/*",
        "listener/app/artificien-node-*/*/*",
        "targetgroup/artificien-node-*/*",
        "service/<<ClusterStack>-ClusterName>/artificien-node-*",
        "service-deployment/<<ClusterStack>-ClusterName>/artificien-node-*/*",
        "task-definition/artificien-node-*:*",
    }
    assert len(names) == 2
    assert all(name.startswith("artificien-node-") for name in names)


def test_provisioning_role_opens_no_network_and_no_shell():
    """A load balancer must have the cluster's security group; a service must have no shell."""
    conditions = {action: s.conditions for s in held_by(ORCHESTRATION, MAKER) for action in s.actions}
    group = {"elasticloadbalancing:SecurityGroup": ["<<ClusterStack>-LoadBalancerSecurityGroup>"]}

    for action in ("CreateLoadBalancer", "SetSecurityGroups"):
        assert conditions[f"elasticloadbalancing:{action}"]["ForAllValues:StringEquals"] == group
    assert conditions["ecs:CreateService"]["ArnEquals"]["ecs:cluster"].endswith(
        ":cluster/<<ClusterStack>-ClusterName>"
    )
    assert conditions["ecs:CreateService"]["StringEqualsIfExists"] == {"ecs:enable-execute-command": "false"}


NEVER_CALLED = {
    "cognito-idp:DescribeUserPoolClient": "no listener of ours authenticates",
    "ec2:DescribeIpamPools": "no balancer takes addresses from a pool",
    "elasticloadbalancing:ModifyCapacityReservation": "none is reserved",
    "elasticloadbalancing:RegisterTargets": "the template names no target, ECS registers the task",
    "iam:GetRole": "passing is all that is allowed in IAM",
}
"""Actions of the registry's schemas that the node template never needs."""


@pytest.mark.parametrize("kind", sorted({r["Type"] for r in NODE["Resources"].values()}))
def test_provisioning_role_can_create_and_delete_a_node(kind):
    """The registry's schemas list the actions of each resource type's handlers."""
    handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema["handlers"]
    needed = {action for name in ("create", "read", "delete") for action in handlers[name]["permissions"]}
    allowed = {action for s in held_by(ORCHESTRATION, MAKER) for action in s.actions}

    assert needed - allowed <= NEVER_CALLED.keys()


def test_service_changes_stacks_with_the_provisioning_role_only():
    """It can neither use its own permissions or another role, nor change other stacks."""
    (s,) = (s for s in held_by(ORCHESTRATION, "ReconcilerRole") if "cloudformation:CreateStack" in s.actions)

    assert s.actions == {
        f"cloudformation:{action}"
        for action in ("ContinueUpdateRollback", "CreateStack", "DeleteStack", "RollbackStack")
    }
    assert [arn.split(":", 5)[5] for arn in s.resources] == ["stack/artificien-node-*/*"]
    assert s.conditions["StringEquals"]["cloudformation:RoleArn"].startswith(f"<{MAKER}")


def test_reconciler_describes_tasks_of_its_cluster_only():
    """It can neither start nor stop a task."""
    granting = [
        s for s in held_by(ORCHESTRATION, "ReconcilerRole") if any(a.startswith("ecs:") for a in s.actions)
    ]
    here = ":cluster/<<ClusterStack>-ClusterName>"

    assert {action for s in granting for action in s.actions} == {"ecs:DescribeTasks", "ecs:ListTasks"}
    assert all(s.conditions["ArnEquals"]["ecs:cluster"].endswith(here) for s in granting)
    assert {r.split(":", 5)[5] for s in granting for r in s.resources if r != "*"} == {
        "task/<<ClusterStack>-ClusterName>/*"
    }


def test_web_role_reaches_tables_and_trained_models_only():
    """An attacker who controls a web process can neither launch a node nor read a secret."""
    actions = {action for s in held_by(ORCHESTRATION, "WebRole") for action in s.actions}

    assert {action.partition(":")[0] for action in actions} == {"dynamodb", "s3"}
    assert {action for action in actions if action.startswith("s3:")} == {"s3:GetObject"}


def test_reconciler_cancels_updates_of_node_stacks_only():
    """The call has no role that a condition could check."""
    (s,) = (
        s for s in held_by(ORCHESTRATION, "ReconcilerRole") if "cloudformation:CancelUpdateStack" in s.actions
    )

    assert [arn.split(":", 5)[5] for arn in s.resources] == ["stack/artificien-node-*/*"]


def test_ecs_reads_the_secrets_of_its_process_only():
    """A node's by the prefix of its name, the service's by its ARN."""
    node = held_by(CLUSTER, "ExecutionRole")
    service = held_by(ORCHESTRATION, "ExecutionRole")
    read = "secretsmanager:GetSecretValue"

    assert [r.split(":", 5)[5] for s in node if read in s.actions for r in s.resources] == [
        f"secret:{NAME_PREFIX}*"
    ]
    assert [r for s in service if read in s.actions for r in s.resources] == [
        "<<DataStack>-DownloadSecretArn>"
    ]


def test_templates_contain_no_account_id():
    """They can be deployed in any account."""
    assert not re.search(r"(?<!\d)\d{12}(?!\d)", json.dumps([*TEMPLATES.values()]))
