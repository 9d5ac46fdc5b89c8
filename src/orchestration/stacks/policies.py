"""Pieces that the stacks' roles and findings are written with.

Imported only where the CDK runs (`cdk_app.py`): importing `aws_cdk` starts Node.js.
"""

from collections.abc import Mapping, Sequence

from aws_cdk import Acknowledgment, Stack, Validations
from aws_cdk import aws_iam as iam
from constructs import Construct

NODE_NAME = "artificien-node"
"""With what the names of a node's stack, balancer, target group, service and task definition begin."""
NODE_SECRETS = "artificien/node/*"
"""Names of the secrets that nodes are given; nothing else is readable to them."""

Conditions = Mapping[str, Mapping[str, object]]


def allow(
    actions: Sequence[str], resources: Sequence[str], conditions: Conditions | None = None
) -> iam.PolicyStatement:
    """Return a statement that allows these actions, all named in full."""
    return iam.PolicyStatement(actions=list(actions), resources=list(resources), conditions=conditions)


def arn(stack: Stack, service: str, resource: str) -> str:
    """Return the ARN of a resource of this account and region."""
    return f"arn:{stack.partition}:{service}:{stack.region}:{stack.account}:{resource}"


def starred(service: str, resource: str) -> str:
    """Return how the rule pack calls the finding that such an ARN, which ends in a star, is in a policy."""
    return f"IAM5[Resource::arn:<AWS::Partition>:{service}:<AWS::Region>:<AWS::AccountId>:{resource}]"


def for_tasks(stack: Stack) -> iam.ServicePrincipal:
    """Return who may take a task's role: ECS, and only on behalf of a task of this account."""
    ours = {"StringEquals": {"aws:SourceAccount": stack.account}}
    return iam.ServicePrincipal("ecs-tasks.amazonaws.com", conditions=ours)


def start_tasks(stack: Stack, log_group_arn: str, secrets: Sequence[str]) -> list[iam.PolicyStatement]:
    """Return what ECS does for a task before it runs: pull its image, read its secrets, open its log."""
    pull = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    return [
        allow(["ecr:GetAuthorizationToken"], ["*"]),
        allow(pull, [arn(stack, "ecr", "repository/*")]),
        allow(["secretsmanager:GetSecretValue"], secrets),
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], [log_group_arn]),
    ]


STARS_OF_STARTING = {
    "IAM5[Resource::*]": "ecr:GetAuthorizationToken knows no resources.",
    starred("ecr", "repository/*"): "The image is a parameter, in whichever repository of the account.",
}
"""What is to be acknowledged of `start_tasks`."""
STARS_OF_NODE_SECRETS = {
    starred("secretsmanager", f"secret:{NODE_SECRETS}"): "One secret a node, made and deleted with it."
}


def acknowledge(construct: Construct, reasons: Mapping[str, str]) -> None:
    """Say why findings of the rule pack AwsSolutions are as they should be; keys are its rules, shortened."""
    rules = [Acknowledgment(id=f"AwsSolutions-{rule}", reason=reason) for rule, reason in reasons.items()]
    Validations.of(construct).acknowledge(*rules)
