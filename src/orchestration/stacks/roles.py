"""The roles of the running service: the calls its adapters make, on the resources they make them on.

A test follows every call from the composition root and compares. Imported only where the CDK runs
(`cdk_app.py`): importing `aws_cdk` starts Node.js.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from aws_cdk import Stack
from aws_cdk import aws_iam as iam

from orchestration.stacks.policies import (
    NODE_NAME,
    NODE_SECRETS,
    STARS_OF_NODE_SECRETS,
    Conditions,
    acknowledge,
    allow,
    arn,
    for_tasks,
    starred,
)

Grants = Mapping[str, tuple[str, ...]]
"""A table's name, or `<table>/<index>`, to what is done with it."""

FOR_BOTH: Grants = {
    "model_table": ("GetItem", "UpdateItem"),
    "model_table/dataset-active-index": ("Query",),
    "model_table/retrieval-due-index": ("Query",),
    "dataset_table": ("GetItem", "UpdateItem"),
    "audit_table": ("PutItem",),  # what was noted can be neither read nor changed from here
}
FOR_WEB: Grants = {
    **FOR_BOTH,
    "node_table": ("GetItem", "UpdateItem"),
    "user_table": ("UpdateItem",),
    "user_table/users_username_index": ("Query",),
    "key_table": ("GetItem", "PutItem", "UpdateItem"),
    "key_table/owner-index": ("Query",),
}
FOR_RECONCILER: Grants = {
    **FOR_BOTH,
    "model_table/retrieval-due-index": ("Query", "Scan"),
    "node_table": ("GetItem", "Scan", "UpdateItem"),
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the roles refer to, all of it tokens of other stacks; `provisioning_role` is CloudFormation's."""

    cluster_stack: str
    cluster_name: str
    model_bucket: str
    database_arn: str
    database_secret_arn: str
    provisioning_role: str


def web_role(stack: Stack, around: Surroundings) -> iam.Role:
    """Make the role of the web service: it signs addresses of trained models, and can't write one."""
    return _role(stack, "WebRole", around, FOR_WEB, "s3:GetObject")


def reconciler_role(stack: Stack, around: Surroundings) -> iam.Role:
    """Make the role of the reconciler: it stores trained models, and knows neither users nor API keys.

    It looks at all stacks at once, for which AWS asks for leave to list them too, and goes through the names
    of secrets; AWS knows no narrower resource for either.
    """
    role = _role(stack, "ReconcilerRole", around, FOR_RECONCILER, "s3:PutObject")
    sweep = ["cloudformation:DescribeStacks", "cloudformation:ListStacks", "secretsmanager:ListSecrets"]
    role.add_to_policy(allow(sweep, ["*"]))
    return role


def _role(stack: Stack, name: str, around: Surroundings, tables: Grants, on_models: str) -> iam.Role:
    role = iam.Role(stack, name, assumed_by=for_tasks(stack))
    models = f"arn:{stack.partition}:s3:::{around.model_bucket}/models/*"
    for statement in (
        *_on_tables(stack, tables),
        allow([on_models], [models]),
        *_on_nodes(stack, around),
        *_on_tasks(stack, around.cluster_name),
        allow(["rds-data:ExecuteStatement"], [around.database_arn]),
        allow(["secretsmanager:GetSecretValue"], [around.database_secret_arn]),
    ):
        role.add_to_policy(statement)
    acknowledge(role, _STARS | STARS_OF_NODE_SECRETS)
    return role


_STARS = {
    "IAM5[Resource::*]": "Tasks are listed in one cluster, by a condition; a sweep reads everybody's names.",
    starred("ecs", "task/<ClusterStack>-ClusterName/*"): "The id of a task is known when it is there.",
    starred("cloudformation", f"stack/{NODE_NAME}-*/*"): "A stack a node and generation, and the id of each.",
    starred("cloudformation", "stack/<ClusterStack>/*"): "The id of a stack is known when it is there.",
    "IAM5[Resource::arn:<AWS::Partition>:s3:::<DataStack>-ModelBucketName/models/*]": (
        "Trained models are named by their models' ids, which are free text."
    ),
}


_BY_ITS_ROLE = ("ContinueUpdateRollback", "CreateStack", "DeleteStack", "RollbackStack")


def _on_tables(stack: Stack, tables: Grants) -> list[iam.PolicyStatement]:
    def path(name: str) -> str:
        return "table/" + name.replace("/", "/index/")

    return [
        allow([f"dynamodb:{action}" for action in tables[name]], [arn(stack, "dynamodb", path(name))])
        for name in sorted(tables)
    ]


def _on_nodes(stack: Stack, around: Surroundings) -> list[iam.PolicyStatement]:
    """Launch, describe, mend and retire nodes. CloudFormation acts by its own role, never by this one."""
    nodes, cluster = (
        arn(stack, "cloudformation", f"stack/{name}/*") for name in (f"{NODE_NAME}-*", around.cluster_stack)
    )
    by_its_role = {"StringEquals": {"cloudformation:RoleArn": around.provisioning_role}}
    to_it = {"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}
    keep = ("CreateSecret", "DeleteSecret", "GetSecretValue", "TagResource")
    return [
        allow([f"cloudformation:{action}" for action in _BY_ITS_ROLE], [nodes], by_its_role),
        # It takes no role: what was begun is ended by the role that began it.
        allow(["cloudformation:CancelUpdateStack"], [nodes]),
        # Tags of a new stack are authorized as an action of their own.
        allow(["cloudformation:DescribeStackEvents", "cloudformation:TagResource"], [nodes]),
        allow(["cloudformation:DescribeStacks"], [nodes, cluster]),
        allow(["iam:PassRole"], [around.provisioning_role], to_it),
        allow(
            [f"secretsmanager:{action}" for action in keep],
            [arn(stack, "secretsmanager", f"secret:{NODE_SECRETS}")],
        ),
    ]


def _on_tasks(stack: Stack, cluster_name: str) -> list[iam.PolicyStatement]:
    """Ask why a node's task stopped. Listing is narrowed by the condition only; Fargate has no instances."""
    here: Conditions = {"ArnEquals": {"ecs:cluster": arn(stack, "ecs", f"cluster/{cluster_name}")}}
    return [
        allow(["ecs:ListTasks"], ["*"], here),
        allow(["ecs:DescribeTasks"], [arn(stack, "ecs", f"task/{cluster_name}/*")], here),
    ]
