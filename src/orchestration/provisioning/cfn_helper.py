"""The border to CloudFormation: create, describe, delete and wait for stacks. Its client is passed in.

Every method raises Upstream when CloudFormation can't be reached or asks us to slow down, StackFailed when it
refuses.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from orchestration.domain.errors import StackFailed
from orchestration.domain.node import StackPhase
from orchestration.provisioning import cfn_status
from orchestration.provisioning.cfn_errors import is_absent, translated

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.literals import CapabilityType
    from mypy_boto3_cloudformation.type_defs import StackEventTypeDef, StackTypeDef

Template = Mapping[str, Any]


class _Role(TypedDict, total=False):
    RoleARN: str


@dataclass(frozen=True, slots=True)
class NewStack:
    """What is asked of CloudFormation. `token` makes the request idempotent: same token, same stack.

    It acts with the role `role_arn`; without one, with the caller's rights.
    """

    name: str
    template: Template
    token: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    capabilities: "Sequence[CapabilityType]" = ()
    role_arn: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """What CloudFormation says about a stack. `deleted_at` is when its last deletion began, as ISO 8601."""

    stack_id: str
    name: str
    phase: StackPhase
    status: str
    status_reason: str = ""
    deleted_at: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def cloudformation_client(region: str) -> "CloudFormationClient":
    """Make the client that this module expects: time-outs on every call, a few retries with jitter."""
    retries = Config(
        connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 5}
    )
    return boto3.client("cloudformation", region_name=region, config=retries)


class CfnHelper:
    """A thin CloudFormation that speaks in values of ours."""

    def __init__(
        self,
        client: "CloudFormationClient",
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Use this client. `clock` and `sleep`, in seconds, are only for `wait`."""
        self._client = client
        self._clock = clock
        self._sleep = sleep

    def create(self, new: NewStack) -> str | None:
        """Ask for a stack and return its ARN; None if one of that name is there already."""
        with translated(f"create {new.name}"):
            try:
                answer = self._client.create_stack(
                    StackName=new.name,
                    TemplateBody=json.dumps(new.template),
                    Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in new.parameters.items()],
                    Tags=[{"Key": key, "Value": value} for key, value in new.tags.items()],
                    Capabilities=list(new.capabilities),
                    ClientRequestToken=new.token,
                    **_role(new.role_arn),
                )
            except (
                self._client.exceptions.AlreadyExistsException,
                # Somebody else sent the same wish with other parameters, and was first.
                self._client.exceptions.TokenAlreadyExistsException,
            ):
                return None
        return answer["StackId"]

    def describe(self, stack: str) -> Stack | None:
        """Look at a stack by name or ARN; None if there is none. By its ARN a deleted one is still found."""
        with translated(f"describe {stack}"):
            try:
                answer = self._client.describe_stacks(StackName=stack)
            except ClientError as error:
                if is_absent(error):
                    return None
                raise
        return _stack(answer["Stacks"][0])

    def delete(self, stack_id: str, token: str, role_arn: str = "") -> None:
        """Have a stack deleted. By its ARN: another one of its name may come. No error if it is gone.

        Without a role, CloudFormation takes the one that made the stack.
        """
        with translated(f"delete {stack_id}"):
            try:
                self._client.delete_stack(StackName=stack_id, ClientRequestToken=token, **_role(role_arn))
            except ClientError as error:
                if not is_absent(error):
                    raise

    def first_failure(self, stack_id: str) -> str:
        """Say what failed first in the last operation on a stack, `<resource>: <reason>`, or nothing."""
        found = ""
        with translated(f"read the events of {stack_id}"):
            for event in self._newest_first(stack_id):
                status = event.get("ResourceStatus", "")
                of_stack = event.get("PhysicalResourceId") == event["StackId"]
                if of_stack and cfn_status.starts_operation(status):
                    break
                if not of_stack and cfn_status.is_failure(status) and not _is_consequence(event):
                    found = f"{event.get('LogicalResourceId')}: {event.get('ResourceStatusReason', status)}"
        return found

    def wait(self, stack_id: str, deadline: float, pause: float = 5) -> Stack:
        """Poll until the stack stays as it is. Blocks, so not for a web worker.

        `deadline` and `pause` are in seconds. Raises StackFailed when the deadline passes first. Takes an
        ARN, since an absent stack counts as not seen yet: DescribeStacks lags behind for seconds.
        """
        ends = self._clock() + deadline
        while True:
            stack = self.describe(stack_id)
            if stack is not None and cfn_status.is_settled(stack.phase):
                return stack
            if self._clock() >= ends:
                seen = stack.status if stack is not None else "absent"
                raise StackFailed(f"The stack {stack_id} is still {seen} after {deadline:.0f} s.")
            self._sleep(pause)

    def _newest_first(self, stack_id: str) -> "Iterator[StackEventTypeDef]":
        pages = self._client.get_paginator("describe_stack_events").paginate(StackName=stack_id)
        return (event for page in pages for event in page["StackEvents"])


def _role(role_arn: str) -> "_Role":
    return {"RoleARN": role_arn} if role_arn else {}


def _is_consequence(event: "StackEventTypeDef") -> bool:
    """Whether a resource failed only because another one had."""
    return "cancelled" in event.get("ResourceStatusReason", "").lower()


def _stack(told: "StackTypeDef") -> Stack:
    deleted = told.get("DeletionTime")
    return Stack(
        stack_id=told.get("StackId", told["StackName"]),
        name=told["StackName"],
        phase=cfn_status.phase_of(told["StackStatus"]),
        status=told["StackStatus"],
        status_reason=told.get("StackStatusReason", ""),
        deleted_at=deleted.isoformat() if deleted else "",
        outputs={o["OutputKey"]: o["OutputValue"] for o in told.get("Outputs", ())},
        tags={tag["Key"]: tag["Value"] for tag in told.get("Tags", ())},
    )
