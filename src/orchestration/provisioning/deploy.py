"""Deploys the data, cluster and orchestration stacks, for the command line and the local platform."""

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestration.domain.errors import StackFailed
from orchestration.domain.node import StackPhase
from orchestration.provisioning.cfn_helper import CfnHelper, NewStack, Stack
from orchestration.provisioning.names import CLUSTER_STACK, DATA_STACK, ORCHESTRATION_STACK
from orchestration.provisioning.synthesizer import Synthesize, TemplateName, load_template, synthesize

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

_STACK_TAG = "artificien:stack"
_DEADLINE = 2400.0  # seconds; the cluster's database alone may take a quarter of an hour


def deploy_cluster(
    client: "CloudFormationClient",
    name: str = CLUSTER_STACK,
    *,
    nat: bool = False,
    deadline: float = _DEADLINE,
    synthesize: Synthesize = synthesize,
) -> Mapping[str, str]:
    """Create the cluster stack if it is absent, wait for it, and return its outputs. Raises StackFailed.

    With `nat`, tasks run in private subnets behind a NAT gateway. This template has no snapshot.
    """
    return deploy_stack(
        CfnHelper(client),
        name,
        TemplateName.CLUSTER,
        context={"nat": "1"} if nat else None,
        deadline=deadline,
        synthesize=synthesize,
    )


def deploy_data(
    client: "CloudFormationClient", name: str = DATA_STACK, *, deadline: float = _DEADLINE
) -> Mapping[str, str]:
    """Create the data stack if it is absent, wait for it, and return its outputs. Raises StackFailed."""
    return deploy_stack(CfnHelper(client), name, TemplateName.DATA, deadline=deadline)


def deploy_service(
    client: "CloudFormationClient",
    parameters: Mapping[str, str],
    name: str = ORCHESTRATION_STACK,
    *,
    deadline: float = _DEADLINE,
) -> Mapping[str, str]:
    """Create the orchestration stack if it is absent, wait for it, and return its outputs.

    The data and the cluster stack must exist: it imports their outputs. Raises StackFailed.
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
    deadline: float = _DEADLINE,
    synthesize: Synthesize = synthesize,
) -> Mapping[str, str]:
    """Create a stack if it is absent, wait until it is usable, and return its outputs.

    `deadline` is in seconds. Raises StackFailed with the first failure. An existing stack is not changed;
    `cdk deploy` updates it.
    """
    existing = stacks.describe(name)
    if existing is not None:
        return _outputs(stacks, stacks.wait(existing.stack_id, deadline))
    created = stacks.create(
        NewStack(
            name=name,
            template=load_template(template, context, synthesize=synthesize),
            token=f"deploy-{uuid.uuid4()}",
            parameters=parameters or {},
            tags={_STACK_TAG: template},
            capabilities=("CAPABILITY_IAM",),
        )
    )
    return _outputs(stacks, stacks.wait(created or name, deadline))


def _outputs(stacks: CfnHelper, stack: Stack) -> Mapping[str, str]:
    """Return the outputs of a usable stack. Raises StackFailed for any other."""
    if stack.phase is StackPhase.USABLE:
        return stack.outputs
    reason = stacks.first_failure(stack.stack_id) or stack.status_reason or "no reason given"
    raise StackFailed(f"The stack {stack.name} is {stack.status}: {reason}")
