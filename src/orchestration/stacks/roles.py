"""The roles of web process and reconciler, and the role with which CloudFormation creates nodes.

The first two allow exactly the calls that the process's adapters make; a test follows every call from the
composition root and compares.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aws_cdk import Stack
from aws_cdk import aws_iam as iam

from orchestration.provisioning.names import CLUSTER_NAME_OUTPUT, NODE_STACK
from orchestration.stacks.policies import (
    NODE_SECRETS,
    STARS_OF_NODE_SECRETS,
    Conditions,
    acknowledge,
    allow,
    arn,
    for_tasks,
    starred,
)

_Grants = Mapping[str, tuple[str, ...]]
"""Maps a table's name, or `<table>/<index>`, to DynamoDB's actions."""

_FOR_BOTH: _Grants = {
    "model_table": ("GetItem", "UpdateItem"),
    "training_table": ("GetItem", "UpdateItem"),
    "training_table/trains-on-index": ("Query",),
    "training_table/retrieval-due-index": ("Query",),
    "training_table/shown-on-index": ("Query",),
    "dataset_table": ("GetItem", "UpdateItem"),
    "audit_table": ("PutItem",),  # entries can be neither read nor changed
}
_FOR_WEB: _Grants = {
    **_FOR_BOTH,
    "node_table": ("GetItem", "UpdateItem"),
    "user_table": ("UpdateItem",),
    "user_table/users_username_index": ("Query",),
    "key_table": ("GetItem", "UpdateItem"),
    "key_table/owner-index": ("Query",),
}
_FOR_RECONCILER: _Grants = {
    **_FOR_BOTH,
    "training_table/retrieval-due-index": ("Query", "Scan"),
    "node_table": ("GetItem", "Scan", "UpdateItem"),
    "node_table/attention-index": ("Query",),
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Names and ARNs that the roles' policies refer to."""

    cluster_stack: str
    cluster_name: str
    model_bucket: str
    database_arn: str
    database_secret_arn: str
    provisioning_role: str


def web_role(stack: Stack, around: Surroundings) -> iam.Role:
    """Declare the role of the web process: tables, and presigned URLs of trained models. Nothing else.

    The web process records that a node should run or stop; it can neither launch nor delete one.
    """
    statements = [*_on_tables(stack, _FOR_WEB), _on_models(stack, around, "s3:GetObject")]
    return _role(stack, "WebRole", statements, _STARS_OF_MODELS)


def reconciler_role(stack: Stack, around: Surroundings) -> iam.Role:
    """Declare the role of the reconciler. It stores trained models, and reads neither users nor API keys.

    It describes all stacks, for which AWS also requires `ListStacks`, and lists the names of secrets. AWS
    can't restrict either to certain resources.
    """
    listing = ["cloudformation:DescribeStacks", "cloudformation:ListStacks", "secretsmanager:ListSecrets"]
    statements = [
        *_on_tables(stack, _FOR_RECONCILER),
        _on_models(stack, around, "s3:PutObject"),
        *_on_nodes(stack, around),
        *_on_tasks(stack, around.cluster_name),
        allow(["rds-data:ExecuteStatement"], [around.database_arn]),
        allow(["secretsmanager:GetSecretValue"], [around.database_secret_arn]),
        allow(listing, ["*"]),
    ]
    stars = _STARS_OF_MODELS | _STARS_OF_NODES | STARS_OF_NODE_SECRETS
    return _role(stack, "ReconcilerRole", statements, stars)


def _role(stack: Stack, name: str, statements: list[iam.PolicyStatement], stars: dict[str, str]) -> iam.Role:
    role = iam.Role(stack, name, assumed_by=for_tasks(stack))
    for statement in statements:
        role.add_to_policy(statement)
    acknowledge(role, stars)
    return role


_STARS_OF_MODELS = {
    "IAM5[Resource::arn:<AWS::Partition>:s3:::<DataStack>-ModelBucketName/models/*]": (
        "Trained models are named by their models' ids, which are free text."
    ),
}
_STARS_OF_NODES = {
    "IAM5[Resource::*]": "A condition restricts ListTasks to one cluster; the reconciler lists all names.",
    starred("ecs", "task/<ClusterStack>-ClusterName/*"): "The id of a task is unknown before it exists.",
    starred(
        "cloudformation", f"stack/{NODE_STACK}-*/*"
    ): "One stack for each generation of a node; its id is unknown before it exists.",
    starred("cloudformation", "stack/<ClusterStack>/*"): "The id of a stack is unknown before it exists.",
}


_BY_ITS_ROLE = ("ContinueUpdateRollback", "CreateStack", "DeleteStack", "RollbackStack")


def _on_tables(stack: Stack, tables: _Grants) -> list[iam.PolicyStatement]:
    def path(name: str) -> str:
        return "table/" + name.replace("/", "/index/")

    return [
        allow([f"dynamodb:{action}" for action in tables[name]], [arn(stack, "dynamodb", path(name))])
        for name in sorted(tables)
    ]


def _on_models(stack: Stack, around: Surroundings, action: str) -> iam.PolicyStatement:
    return allow([action], [f"arn:{stack.partition}:s3:::{around.model_bucket}/models/*"])


def _on_nodes(stack: Stack, around: Surroundings) -> list[iam.PolicyStatement]:
    """Allow to launch, describe, repair and retire nodes. CloudFormation itself acts with its own role."""
    nodes, cluster = (
        arn(stack, "cloudformation", f"stack/{name}/*") for name in (f"{NODE_STACK}-*", around.cluster_stack)
    )
    by_its_role = {"StringEquals": {"cloudformation:RoleArn": around.provisioning_role}}
    to_it = {"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}
    secrets = ("CreateSecret", "DeleteSecret", "GetSecretValue", "TagResource")
    return [
        allow([f"cloudformation:{action}" for action in _BY_ITS_ROLE], [nodes], by_its_role),
        # This call accepts no role: CloudFormation uses the role that began the update.
        allow(["cloudformation:CancelUpdateStack"], [nodes]),
        # AWS authorizes the tags of a new stack as a separate action.
        allow(["cloudformation:DescribeStackEvents", "cloudformation:TagResource"], [nodes]),
        allow(["cloudformation:DescribeStacks"], [nodes, cluster]),
        allow(["iam:PassRole"], [around.provisioning_role], to_it),
        allow(
            [f"secretsmanager:{action}" for action in secrets],
            [arn(stack, "secretsmanager", f"secret:{NODE_SECRETS}")],
        ),
    ]


def _on_tasks(stack: Stack, cluster_name: str) -> list[iam.PolicyStatement]:
    """Allow to look up why a node's task stopped. Only a condition can restrict `ListTasks` on Fargate."""
    here: Conditions = {"ArnEquals": {"ecs:cluster": arn(stack, "ecs", f"cluster/{cluster_name}")}}
    return [
        allow(["ecs:ListTasks"], ["*"], here),
        allow(["ecs:DescribeTasks"], [arn(stack, "ecs", f"task/{cluster_name}/*")], here),
    ]


_OF_NODES = (
    "loadbalancer/app/" + NODE_STACK + "-*/*",
    "listener/app/" + NODE_STACK + "-*/*/*",
    "targetgroup/" + NODE_STACK + "-*/*",
)
_TASKS_OF_NODES = "task-definition/" + NODE_STACK + "-*:*"


class ProvisioningRole(iam.Role):
    """CloudFormation's role for stacks of nodes. Its only policy is also its permissions boundary.

    A test compares it with the registry's schemas, which list what the handlers of each resource type call.
    It can't create service-linked roles: those of ELB and ECS exist since this deployment's own load balancer
    and services were created.
    """

    def __init__(self, stack: Stack, construct_id: str, output: Callable[[str], str]) -> None:
        """Declare the role; `output` returns the value of an output of the cluster's stack."""
        statements = [
            *_create_balancers(stack, output("LoadBalancerSecurityGroup")),
            *_create_services(stack, output(CLUSTER_NAME_OUTPUT)),
            allow(
                ["iam:PassRole"],
                [output("ExecutionRoleArn"), output("TaskRoleArn")],
                {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
            ),
            _describe_all(),
        ]
        policy = iam.ManagedPolicy(
            stack,
            "NodeProvisioning",
            description="The most that CloudFormation can do for the orchestration: make and unmake nodes",
            statements=statements,
        )
        acknowledge(policy, _stars_of_provisioning())
        super().__init__(
            stack,
            construct_id,
            assumed_by=iam.ServicePrincipal("cloudformation.amazonaws.com"),
            managed_policies=[policy],
            permissions_boundary=policy,
        )


def _create_balancers(stack: Stack, security_group: str) -> list[iam.PolicyStatement]:
    """Allow load balancers with the cluster's security group, and their listeners and target groups."""
    balancer, listener, target = (arn(stack, "elasticloadbalancing", kind) for kind in _OF_NODES)
    only_this_group: Conditions = {
        "ForAllValues:StringEquals": {"elasticloadbalancing:SecurityGroup": [security_group]},
        # ForAllValues also matches an empty list, with which ELB would use the network's default group.
        "Null": {"elasticloadbalancing:SecurityGroup": "false"},
    }
    on_group = _elb("CreateLoadBalancer", "SetSecurityGroups")
    on_balancer = _elb("CreateListener", "DeleteLoadBalancer", "ModifyLoadBalancerAttributes")
    on_target = _elb("CreateTargetGroup", "DeleteTargetGroup", "ModifyTargetGroupAttributes")
    return [
        allow(on_group, [balancer], only_this_group),
        allow(on_balancer, [balancer]),
        allow(_elb("DeleteListener", "ModifyListenerAttributes"), [listener]),
        allow(on_target, [target]),
        allow(_elb("AddTags"), [balancer, listener, target]),
    ]


def _create_services(stack: Stack, cluster_name: str) -> list[iam.PolicyStatement]:
    """Allow services in this cluster, without a shell into the container, and their task definitions."""
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


def _describe_all() -> iam.PolicyStatement:
    """Allow the actions that AWS can't restrict to certain resources. One of them writes: see the comment."""
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
    # Deregistering a task definition prevents new tasks only; running tasks continue.
    tasks = ["ecs:DeregisterTaskDefinition", "ecs:DescribeTaskDefinition"]
    return allow([*(f"ec2:{action}" for action in network), *balancing, *tasks], ["*"])


def _services_of_nodes(cluster_name: str) -> tuple[str, str]:
    """Return patterns of nodes' services, and of the deployments that CloudFormation waits for."""
    of_node = f"{cluster_name}/{NODE_STACK}-*"
    return f"service/{of_node}", f"service-deployment/{of_node}/*"


def _stars_of_provisioning() -> dict[str, str]:
    by_name = "All names of a node's resources have this prefix; the rest is unknown before they exist."
    imported = _services_of_nodes(f"<ClusterStack>-{CLUSTER_NAME_OUTPUT}")
    return {
        "IAM5[Resource::*]": "AWS can restrict neither descriptions nor ecs:DeregisterTaskDefinition.",
        **{starred("elasticloadbalancing", kind): by_name for kind in _OF_NODES},
        **{starred("ecs", kind): by_name for kind in (_TASKS_OF_NODES, *imported)},
    }


def _elb(*actions: str) -> list[str]:
    return [f"elasticloadbalancing:{action}" for action in actions]
