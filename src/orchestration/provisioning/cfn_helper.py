"""Calls CloudFormation: creates, describes, deletes and waits for stacks.

Every method raises Upstream when CloudFormation can't be reached or throttles, StackFailed when it refuses.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from botocore.exceptions import ClientError

from orchestration.aws import CLOUDFORMATION_REFUSALS, is_absent_stack, upstream_errors
from orchestration.domain.errors import StackFailed
from orchestration.domain.node import StackPhase
from orchestration.provisioning import cfn_status

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.literals import CapabilityType
    from mypy_boto3_cloudformation.type_defs import StackEventTypeDef, StackTypeDef

Template = Mapping[str, Any]

PAGE_PAUSE = 0.5
"""Seconds between two pages of `CfnHelper.all`."""


_errors = partial(upstream_errors, "CloudFormation", refusals=CLOUDFORMATION_REFUSALS)


class _Role(TypedDict, total=False):
    RoleARN: str


class _Deletion(TypedDict, total=False):
    RetainResources: list[str]
    DeletionMode: Literal["FORCE_DELETE_STACK"]


@dataclass(frozen=True, slots=True)
class NewStack:
    """A stack to create. `token` makes the request idempotent: same token, same stack.

    CloudFormation acts with the role `role_arn`; without one, with the caller's permissions.
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
    """A stack as CloudFormation describes it; times in seconds since the epoch, 0 for never."""

    stack_id: str
    name: str
    phase: StackPhase
    status: str
    status_reason: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    deleted_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Removal:
    """How to delete a stack. `token` makes it idempotent: same token, same deletion.

    The resources in `retain` are left behind; `by_force`, all that can't be deleted. CloudFormation accepts
    both only after a deletion has failed.
    """

    token: str
    retain: Sequence[str] = ()
    by_force: bool = False


class CfnHelper:
    """CloudFormation, with the domain's values as arguments and results."""

    def __init__(
        self,
        client: "CloudFormationClient",
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Use this client. `wait` and `all` use `clock` and `sleep`, in seconds."""
        self._client = client
        self._clock = clock
        self._sleep = sleep

    def create(self, new: NewStack) -> str | None:
        """Create a stack and return its ARN; None if one of that name exists."""
        with _errors(f"create {new.name}"):
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
                # Another process sent the same token first, with other parameters.
                self._client.exceptions.TokenAlreadyExistsException,
            ):
                return None
        return answer["StackId"]

    def describe(self, stack: str) -> Stack | None:
        """Return a stack by name or ARN, or None. By its ARN, a deleted stack is still found."""
        with _errors(f"describe {stack}"):
            try:
                answer = self._client.describe_stacks(StackName=stack)
            except ClientError as error:
                if is_absent_stack(error):
                    return None
                raise
        return _stack(answer["Stacks"][0])

    def all(self) -> Iterator[Stack]:
        """Return every stack of the region that isn't deleted, page by page.

        Pauses between pages: all callers of an account share about five such calls a second.
        """
        query: dict[str, str] = {}
        while True:
            with _errors("list the stacks"):
                page = self._client.describe_stacks(**query)
            yield from map(_stack, page["Stacks"])
            if "NextToken" not in page:
                return
            query = {"NextToken": page["NextToken"]}
            self._sleep(PAGE_PAUSE)

    def delete(self, stack_id: str, removal: Removal, role_arn: str = "") -> None:
        """Delete a stack by its ARN, since its name may belong to another by now; no error if it is gone.

        Without a role, CloudFormation uses the one that created the stack.
        """
        options: _Deletion = {"RetainResources": list(removal.retain)} if removal.retain else {}
        if removal.by_force:
            options["DeletionMode"] = "FORCE_DELETE_STACK"
        with _errors(f"delete {stack_id}"):
            try:
                self._client.delete_stack(
                    StackName=stack_id, ClientRequestToken=removal.token, **options, **_role(role_arn)
                )
            except ClientError as error:
                if not is_absent_stack(error):
                    raise

    def cancel_update(self, stack_id: str, token: str) -> None:
        """Cancel an update in progress."""
        with _errors(f"cancel the update of {stack_id}"):
            self._client.cancel_update_stack(StackName=stack_id, ClientRequestToken=token)

    def roll_back(self, stack_id: str, token: str, role_arn: str = "") -> None:
        """Roll back an update that failed without a rollback."""
        with _errors(f"roll back {stack_id}"):
            self._client.rollback_stack(StackName=stack_id, ClientRequestToken=token, **_role(role_arn))

    def continue_rollback(self, stack_id: str, token: str, role_arn: str = "") -> None:
        """Continue the rollback of an update after it failed."""
        with _errors(f"continue the rollback of {stack_id}"):
            self._client.continue_update_rollback(
                StackName=stack_id, ClientRequestToken=token, **_role(role_arn)
            )

    def first_failure(self, stack_id: str) -> str:
        """Return what failed first in the last operation on a stack, `<resource>: <reason>`, or ""."""
        found = ""
        for event in self._events(stack_id):
            status = event.get("ResourceStatus", "")
            if cfn_status.is_failure(status) and not _is_consequence(event):
                found = f"{event.get('LogicalResourceId')}: {event.get('ResourceStatusReason', status)}"
        return found

    def failed_resources(self, stack_id: str) -> Sequence[str]:
        """Return the logical ids of the resources whose last event in the last operation is a failure.

        A resource that CloudFormation deleted in a second try isn't one: it refuses to retain it.
        """
        last: dict[str, str] = {}
        for event in self._events(stack_id):
            last.setdefault(event.get("LogicalResourceId", ""), event.get("ResourceStatus", ""))
        return sorted(resource for resource, status in last.items() if cfn_status.is_failure(status))

    def _events(self, stack_id: str) -> "Iterator[StackEventTypeDef]":
        """Return the resources' events of the last operation, newest first."""
        pages = self._client.get_paginator("describe_stack_events").paginate(StackName=stack_id)
        with _errors(f"read the events of {stack_id}"):
            for event in (event for page in pages for event in page["StackEvents"]):
                status = event.get("ResourceStatus", "")
                of_stack = event.get("PhysicalResourceId") == event["StackId"]
                if of_stack and cfn_status.starts_operation(status):
                    return
                if not of_stack:
                    yield event

    def wait(self, stack_id: str, deadline: float, pause: float = 5) -> Stack:
        """Poll until the stack is stable. It blocks, so a web worker must not call it.

        `deadline` and `pause` are in seconds. Raises StackFailed after the deadline. It expects an ARN,
        because an absent stack counts as not visible yet: DescribeStacks lags by seconds.
        """
        ends = self._clock() + deadline
        while True:
            stack = self.describe(stack_id)
            if stack is not None and cfn_status.is_stable(stack.phase):
                return stack
            if self._clock() >= ends:
                status = stack.status if stack is not None else "absent"
                raise StackFailed(f"The stack {stack_id} is still {status} after {deadline:.0f} s.")
            self._sleep(pause)


def _role(role_arn: str) -> "_Role":
    return {"RoleARN": role_arn} if role_arn else {}


def _is_consequence(event: "StackEventTypeDef") -> bool:
    """Whether a resource failed only because another one did."""
    return "cancelled" in event.get("ResourceStatusReason", "").lower()


def _stack(found: "StackTypeDef") -> Stack:
    return Stack(
        stack_id=found.get("StackId", found["StackName"]),
        name=found["StackName"],
        phase=cfn_status.phase_of(found["StackStatus"]),
        status=found["StackStatus"],
        status_reason=found.get("StackStatusReason", ""),
        outputs={o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", ())},
        tags={tag["Key"]: tag["Value"] for tag in found.get("Tags", ())},
        created_at=found["CreationTime"].timestamp(),
        deleted_at=found["DeletionTime"].timestamp() if "DeletionTime" in found else 0.0,
    )
