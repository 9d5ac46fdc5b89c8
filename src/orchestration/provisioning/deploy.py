"""Put up the stacks that a deployment has one of: for the command line and the local platform."""

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestration.domain.errors import StackFailed
from orchestration.domain.node import StackPhase
from orchestration.provisioning.cfn_helper import CfnHelper, NewStack, Stack
from orchestration.provisioning.synthesizer import TemplateName, load_template

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

STACK_TAG = "artificien:stack"
DEADLINE = 2400.0
"""Seconds; the cluster's database alone may take a quarter of an hour."""


def deploy_cluster(
    client: "CloudFormationClient", name: str, *, nat: bool = False, deadline: float = DEADLINE
) -> Mapping[str, str]:
    """Create the cluster stack if it is absent, wait for it, and return its outputs. Raises StackFailed.

    With `nat`, tasks run in private subnets behind a NAT gateway; that template is synthesized now.
    """
    context = {"nat": "1"} if nat else None
    return deploy_stack(CfnHelper(client), name, TemplateName.CLUSTER, context=context, deadline=deadline)


def deploy_data(
    client: "CloudFormationClient", name: str = "artificien-data", *, deadline: float = DEADLINE
) -> Mapping[str, str]:
    """Create the data stack if it is absent, wait for it, and return its outputs. Raises StackFailed."""
    return deploy_stack(CfnHelper(client), name, TemplateName.DATA, deadline=deadline)


def deploy_service(
    client: "CloudFormationClient",
    parameters: Mapping[str, str],
    name: str = "artificien-orchestration",
    *,
    deadline: float = DEADLINE,
) -> Mapping[str, str]:
    """Create the stack of this service if it is absent, wait for it, and return its outputs.

    Data and cluster must be there: it imports their outputs. Raises StackFailed.
    """
    stacks = CfnHelper(client)
    return deploy_stack(stacks, name, TemplateName.ORCHESTRATION, parameters=parameters, deadline=deadline)


def deploy_stack(
    stacks: CfnHelper,
    name: str,
    template: TemplateName,
    *,
    parameters: Mapping[str, str] | None = None,
    context: Mapping[str, str] | None = None,
    deadline: float = DEADLINE,
) -> Mapping[str, str]:
    """Create a stack if it is absent, wait until it is usable, and return its outputs.

    `deadline` is in seconds. Raises StackFailed with the first failure. A stack that is there is left as it
    is; `cdk deploy` updates it.
    """
    there = stacks.describe(name)
    if there is None:
        created = stacks.create(
            NewStack(
                name=name,
                template=load_template(template, context),
                token=f"deploy-{uuid.uuid4()}",
                parameters=parameters or {},
                tags={STACK_TAG: template},
                capabilities=("CAPABILITY_IAM",),
            )
        )
        return _usable(stacks, stacks.wait(created or name, deadline))
    return _usable(stacks, stacks.wait(there.stack_id, deadline))


def _usable(stacks: CfnHelper, stack: Stack) -> Mapping[str, str]:
    if stack.phase is StackPhase.USABLE:
        return stack.outputs
    reason = stacks.first_failure(stack.stack_id) or stack.status_reason or "no reason given"
    raise StackFailed(f"The stack {stack.name} is {stack.status}: {reason}")
