"""The deployment's stacks, put up through CloudFormation by the code that does it on AWS."""

import uuid

from local_platform.clients import LocalAws
from orchestration.domain.errors import StackFailed
from orchestration.domain.node import StackPhase
from orchestration.provisioning.cfn_helper import CfnHelper, NewStack, Stack
from orchestration.provisioning.synthesizer import TemplateName, load_template
from orchestration.settings import StackSettings

DATA_STACK = "artificien-data"
DEADLINE = 60.0
"""Seconds."""


def deploy(aws: LocalAws) -> str:
    """Put up data and cluster, and return the name of the models' bucket. Raises StackFailed."""
    cluster = StackSettings(aws_default_region=aws.region).cluster_stack
    helper = CfnHelper(aws.client("cloudformation"))
    _create(helper, cluster, TemplateName.CLUSTER)
    return _create(helper, DATA_STACK, TemplateName.DATA).outputs["ModelBucketName"]


def _create(helper: CfnHelper, name: str, template: TemplateName) -> Stack:
    new = NewStack(name, load_template(template), token=uuid.uuid4().hex, capabilities=["CAPABILITY_IAM"])
    stack = helper.wait(helper.create(new) or name, DEADLINE, pause=0.1)
    if stack.phase is not StackPhase.USABLE:
        raise StackFailed(f"The stack {name} is {stack.status}: {stack.status_reason}")
    return stack
