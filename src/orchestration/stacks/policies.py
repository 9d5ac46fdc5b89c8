"""Policy statements, and acknowledgements of findings, that several stacks use."""

from collections.abc import Mapping, Sequence

from aws_cdk import Acknowledgment, Stack, Validations
from aws_cdk import aws_iam as iam
from constructs import Construct

HTTPS_PORT = 443
NODE_SECRETS = "artificien/node/*"
"""Pattern of the names of nodes' secrets (`adapters/node_secrets.py`); nodes can read no other secret."""

Conditions = Mapping[str, Mapping[str, object]]


def allow(
    actions: Sequence[str], resources: Sequence[str], conditions: Conditions | None = None
) -> iam.PolicyStatement:
    """Return a statement that allows these actions; none is a pattern."""
    return iam.PolicyStatement(actions=list(actions), resources=list(resources), conditions=conditions)


def arn(stack: Stack, service: str, resource: str) -> str:
    """Return the ARN of a resource of this account and region."""
    return f"arn:{stack.partition}:{service}:{stack.region}:{stack.account}:{resource}"


def starred(service: str, resource: str) -> str:
    """Return the rule pack's name of the finding that a policy contains this ARN with a star."""
    return f"IAM5[Resource::arn:<AWS::Partition>:{service}:<AWS::Region>:<AWS::AccountId>:{resource}]"


def for_tasks(stack: Stack) -> iam.ServicePrincipal:
    """Return the principal that assumes a task's role: ECS, for tasks of this account only."""
    ours = {"StringEquals": {"aws:SourceAccount": stack.account}}
    return iam.ServicePrincipal("ecs-tasks.amazonaws.com", conditions=ours)


def start_tasks(stack: Stack, log_group_arn: str, secrets: Sequence[str]) -> list[iam.PolicyStatement]:
    """Allow what ECS does before a task runs: pull its image, read its secrets, open its log."""
    pull = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    return [
        allow(["ecr:GetAuthorizationToken"], ["*"]),
        allow(pull, [arn(stack, "ecr", "repository/*")]),
        allow(["secretsmanager:GetSecretValue"], secrets),
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], [log_group_arn]),
    ]


STARS_OF_STARTING = {
    "IAM5[Resource::*]": "ecr:GetAuthorizationToken has no resources.",
    starred("ecr", "repository/*"): "The image is a parameter, in any repository of the account.",
}
"""Findings about `start_tasks`, with the reasons why they are accepted."""
STARS_OF_NODE_SECRETS = {
    starred(
        "secretsmanager", f"secret:{NODE_SECRETS}"
    ): "One secret for each generation of a node, created and deleted with it."
}


def acknowledge(construct: Construct, reasons: Mapping[str, str]) -> None:
    """Record why findings of the rule pack AwsSolutions are accepted; keys are its rules without prefix."""
    rules = [Acknowledgment(id=f"AwsSolutions-{rule}", reason=reason) for rule, reason in reasons.items()]
    Validations.of(construct).acknowledge(*rules)
