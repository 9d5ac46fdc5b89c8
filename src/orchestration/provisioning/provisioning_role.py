"""The role with which CloudFormation makes nodes: what five resources take, and nothing else.

Imported only where the CDK runs (`cdk_app.py`): importing `aws_cdk` starts Node.js.
"""

from collections.abc import Callable

from aws_cdk import Stack
from aws_cdk import aws_iam as iam

from orchestration.stacks.policies import NODE_NAME, Conditions, acknowledge, allow, arn, starred

_OF_NODES = (
    "loadbalancer/app/" + NODE_NAME + "-*/*",
    "listener/app/" + NODE_NAME + "-*/*/*",
    "targetgroup/" + NODE_NAME + "-*/*",
)
_TASKS_OF_NODES = "task-definition/" + NODE_NAME + "-*:*"


class ProvisioningRole(iam.Role):
    """CloudFormation's role for stacks of nodes. Its one policy is its permissions boundary too.

    What the handlers of the resource types call is in the registry's schemas; a test compares. There is no
    right to make a service-linked role: this deployment's own balancer and service made those of ELB and ECS.
    """

    def __init__(self, stack: Stack, construct_id: str, output: Callable[[str], str]) -> None:
        """Declare the role; `output` returns the value of an output of the cluster's stack."""
        statements = [
            *_balancer(stack, output("LoadBalancerSecurityGroup")),
            *_service(stack, output("ClusterName")),
            allow(
                ["iam:PassRole"],
                [output("ExecutionRoleArn"), output("TaskRoleArn")],
                {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
            ),
            _describe(),
        ]
        most = iam.ManagedPolicy(
            stack,
            "NodeProvisioning",
            description="The most that CloudFormation can do for the orchestration: make and unmake nodes",
            statements=statements,
        )
        acknowledge(most, _stars())
        super().__init__(
            stack,
            construct_id,
            assumed_by=iam.ServicePrincipal("cloudformation.amazonaws.com"),
            managed_policies=[most],
            permissions_boundary=most,
        )


def _balancer(stack: Stack, security_group: str) -> list[iam.PolicyStatement]:
    """Balancer, listener and target group, in the security group that was made for it."""
    balancer, listener, target = (arn(stack, "elasticloadbalancing", kind) for kind in _OF_NODES)
    only_this_group: Conditions = {
        "ForAllValues:StringEquals": {"elasticloadbalancing:SecurityGroup": [security_group]},
        # ForAllValues also holds for none at all, and none would mean the network's default group.
        "Null": {"elasticloadbalancing:SecurityGroup": "false"},
    }
    placed = _elb("CreateLoadBalancer", "SetSecurityGroups")
    on_balancer = _elb("CreateListener", "DeleteLoadBalancer", "ModifyLoadBalancerAttributes")
    on_target = _elb("CreateTargetGroup", "DeleteTargetGroup", "ModifyTargetGroupAttributes")
    return [
        allow(placed, [balancer], only_this_group),
        allow(on_balancer, [balancer]),
        allow(_elb("DeleteListener", "ModifyListenerAttributes"), [listener]),
        allow(on_target, [target]),
        allow(_elb("AddTags"), [balancer, listener, target]),
    ]


def _service(stack: Stack, cluster_name: str) -> list[iam.PolicyStatement]:
    """Service and task definition, in our cluster, without a shell into the running node."""
    task = arn(stack, "ecs", _TASKS_OF_NODES)
    service, deployments = (arn(stack, "ecs", kind) for kind in _services_of_nodes(cluster_name))
    cluster = arn(stack, "ecs", f"cluster/{cluster_name}")
    here: Conditions = {"ArnEquals": {"ecs:cluster": cluster}}
    no_shell: Conditions = {"StringEqualsIfExists": {"ecs:enable-execute-command": "false"}}
    return [
        allow(["ecs:CreateService"], [service], {**here, **no_shell}),
        allow(["ecs:DeleteService", "ecs:DescribeServices"], [service], here),
        allow(["ecs:DescribeServiceDeployments", "ecs:ListServiceDeployments"], [service, deployments]),
        allow(["ecs:RegisterTaskDefinition"], [task]),
        allow(["ecs:TagResource"], [service, task]),
    ]


def _describe() -> iam.PolicyStatement:
    """All that AWS can't narrow to resources we know the names of. One of it writes: see the comment."""
    network = (
        "DescribeAccountAttributes",
        "DescribeAvailabilityZones",
        "DescribeInternetGateways",
        "DescribeSecurityGroups",
        "DescribeSubnets",
        "DescribeVpcs",
        "GetSecurityGroupsForVpc",
    )
    balancing = _elb(
        "DescribeCapacityReservation",
        "DescribeListenerAttributes",
        "DescribeListeners",
        "DescribeLoadBalancerAttributes",
        "DescribeLoadBalancers",
        "DescribeTags",
        "DescribeTargetGroupAttributes",
        "DescribeTargetGroups",
        "DescribeTargetHealth",
    )
    # Deregistering only marks a revision as not to be started again; what runs goes on.
    tasks = ["ecs:DeregisterTaskDefinition", "ecs:DescribeTaskDefinition"]
    return allow([*(f"ec2:{action}" for action in network), *balancing, *tasks], ["*"])


def _services_of_nodes(cluster_name: str) -> tuple[str, str]:
    """Name a node's service, and the deployments that CloudFormation watches until it is stable."""
    of_node = f"{cluster_name}/{NODE_NAME}-*"
    return f"service/{of_node}", f"service-deployment/{of_node}/*"


def _stars() -> dict[str, str]:
    by_name = "Every name that a node's stack gives begins so; what follows isn't known before."
    imported = _services_of_nodes("<ClusterStack>-ClusterName")
    return {
        "IAM5[Resource::*]": "Neither descriptions nor ecs:DeregisterTaskDefinition can be narrowed.",
        **{starred("elasticloadbalancing", kind): by_name for kind in _OF_NODES},
        **{starred("ecs", kind): by_name for kind in (_TASKS_OF_NODES, *imported)},
    }


def _elb(*actions: str) -> list[str]:
    return [f"elasticloadbalancing:{action}" for action in actions]
