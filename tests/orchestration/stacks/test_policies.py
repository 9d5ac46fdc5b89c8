"""Who may do what, read from the snapshots: roles, their policies, and what caps them."""

import json
import re

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

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
    "cloudformation:DescribeStacks": "the reconciler's sweep reads all stacks, page by page",
    "cloudformation:ListStacks": "AWS asks for it where stacks are described without a name",
    "secretsmanager:ListSecrets": "the names of all secrets, and nobody's value",
    "ecs:ListTasks": "narrowed to our cluster by a condition",
    "ecr:GetAuthorizationToken": "logging in to the registry is of no repository",
    "ecs:DeregisterTaskDefinition": "AWS can't narrow it; what runs goes on",
    "ecs:DescribeTaskDefinition": "AWS can't narrow it",
    "ec2:GetSecurityGroupsForVpc": "it reads; ELB asks when a balancer is made",
}
"""Beside descriptions of networks and balancers, which AWS can't narrow."""


def test_no_action_is_a_pattern():
    """Every right is written out, so that it can be asked what it is for."""
    patterns = {action for _, s in EVERYWHERE for action in s.actions if "*" in action}

    assert patterns == set()


def test_what_holds_for_every_resource_is_listed_with_its_reason():
    """Descriptions, and a few more; nothing else may appear here unseen."""
    wide = {action for _, s in EVERYWHERE if "*" in s.resources for action in s.actions}
    told = {action for action in wide if action.startswith(("ec2:Describe", "elasticloadbalancing:Describe"))}

    assert wide - told == ON_EVERYTHING.keys()


def test_roles_are_passed_by_name_and_to_one_service():
    """The service passes CloudFormation its role, CloudFormation passes ECS the two roles of nodes."""
    passed = {
        (holder, short(resource), s.conditions["StringEquals"]["iam:PassedToService"])
        for _, s in EVERYWHERE
        if "iam:PassRole" in s.actions
        for holder in s.holders
        for resource in s.resources
    }

    assert passed == {
        ("WebRole", f"<{MAKER}.Arn>", "cloudformation.amazonaws.com"),
        ("ReconcilerRole", f"<{MAKER}.Arn>", "cloudformation.amazonaws.com"),
        (MAKER, "<<ClusterStack>-ExecutionRoleArn>", "ecs-tasks.amazonaws.com"),
        (MAKER, "<<ClusterStack>-TaskRoleArn>", "ecs-tasks.amazonaws.com"),
    }


def test_passing_is_all_that_anybody_may_do_in_iam():
    """No role can make a role, or widen one."""
    actions = {action for _, s in EVERYWHERE for action in s.actions if action.startswith(("iam:", "sts:"))}

    assert actions == {"iam:PassRole"}


def test_a_shared_role_is_taken_by_one_service_only():
    """Tasks' roles by ECS, for tasks of this account; nobody in person takes one."""
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
def test_roles_of_nodes_are_capped(template, role):
    """Whatever is attached to them one day: how a task starts, what makes a node, and no more."""
    (properties,) = (p for name, p in roles(template).items() if short(name) == role)
    boundary = properties["PermissionsBoundary"]

    assert template["Resources"][boundary["Ref"]]["Type"] == "AWS::IAM::ManagedPolicy"
    assert properties.get("ManagedPolicyArns", [boundary]) == [boundary]


def test_a_running_node_may_do_nothing():
    """It calls nothing of AWS: no policy names its role."""
    assert not [s for s in statements(CLUSTER) if "TaskRole" in s.holders]


def test_nobody_here_may_read_logs():
    """The original node's log holds the address of its callback, credential and all, if masked."""
    reading = {a for _, s in EVERYWHERE for a in s.actions if a.startswith("logs:")}

    assert reading == {"logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"}


def test_cloudformation_s_role_touches_what_is_named_like_a_node():
    """Every write is on a node's names, inside our cluster; even of our own balancer it keeps its hands."""
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


def test_cloudformation_s_role_opens_nothing_to_anybody():
    """A node's balancer has the one security group made for it; its service no shell."""
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
"""Of what the registry's schemas name: what our template gives no occasion for."""


@pytest.mark.parametrize("kind", sorted({r["Type"] for r in NODE["Resources"].values()}))
def test_cloudformation_s_role_can_make_and_unmake_a_node(kind):
    """What the handlers of its resource types call, as the registry's schemas have it, is allowed."""
    handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema["handlers"]
    needed = {action for name in ("create", "read", "delete") for action in handlers[name]["permissions"]}
    allowed = {action for s in held_by(ORCHESTRATION, MAKER) for action in s.actions}

    assert needed - allowed <= NEVER_CALLED.keys()


def test_the_service_makes_stacks_by_cloudformation_s_role_only():
    """With its own rights, or another role's, it can neither make nor delete one; only nodes' at that."""
    for role in ("WebRole", "ReconcilerRole"):
        (s,) = (s for s in held_by(ORCHESTRATION, role) if "cloudformation:CreateStack" in s.actions)

        assert s.actions == {
            f"cloudformation:{action}"
            for action in ("ContinueUpdateRollback", "CreateStack", "DeleteStack", "RollbackStack")
        }
        assert [arn.split(":", 5)[5] for arn in s.resources] == ["stack/artificien-node-*/*"]
        assert s.conditions["StringEquals"]["cloudformation:RoleArn"].startswith(f"<{MAKER}")


@pytest.mark.parametrize("role", ["WebRole", "ReconcilerRole"])
def test_the_service_asks_about_tasks_of_its_own_cluster_only(role):
    """Why they stopped: it can neither start nor stop one."""
    asking = [s for s in held_by(ORCHESTRATION, role) if any(a.startswith("ecs:") for a in s.actions)]
    here = ":cluster/<<ClusterStack>-ClusterName>"

    assert {action for s in asking for action in s.actions} == {"ecs:DescribeTasks", "ecs:ListTasks"}
    assert all(s.conditions["ArnEquals"]["ecs:cluster"].endswith(here) for s in asking)
    assert {r.split(":", 5)[5] for s in asking for r in s.resources if r != "*"} == {
        "task/<<ClusterStack>-ClusterName>/*"
    }


def test_only_the_reconciler_sees_the_stacks_of_others():
    """What everybody can talk to looks at nodes' stacks and the cluster's, by their names."""
    wide = {
        holder
        for s in held_by(ORCHESTRATION, "WebRole") + held_by(ORCHESTRATION, "ReconcilerRole")
        if "cloudformation:DescribeStacks" in s.actions and "*" in s.resources
        for holder in s.holders
    }

    assert wide == {"ReconcilerRole"}


def test_an_update_is_cancelled_on_stacks_of_nodes_only():
    """The call takes no role that a condition could name."""
    for role in ("WebRole", "ReconcilerRole"):
        (s,) = (s for s in held_by(ORCHESTRATION, role) if "cloudformation:CancelUpdateStack" in s.actions)

        assert [arn.split(":", 5)[5] for arn in s.resources] == ["stack/artificien-node-*/*"]


def test_ecs_reads_a_process_s_own_secrets():
    """A node's by the prefix of their names, the service's by its ARN."""
    node = held_by(CLUSTER, "ExecutionRole")
    service = held_by(ORCHESTRATION, "ExecutionRole")
    read = "secretsmanager:GetSecretValue"

    assert [r.split(":", 5)[5] for s in node if read in s.actions for r in s.resources] == [
        "secret:artificien/node/*"
    ]
    assert [r for s in service if read in s.actions for r in s.resources] == [
        "<<DataStack>-DownloadSecretArn>"
    ]


def test_no_template_names_an_account():
    """They are anybody's."""
    assert not re.search(r"(?<!\d)\d{12}(?!\d)", json.dumps([*TEMPLATES.values()]))
