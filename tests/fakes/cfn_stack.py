"""One stack of the fake CloudFormation: its history, and its further steps if nothing interferes."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any, NamedTuple

from tests.fakes.cfn_template import SERVICE, Template
from tests.fakes.fate import Fate

STACK = "AWS::CloudFormation::Stack"


class Step(NamedTuple):
    """A change of a resource or, without one, of the stack; `exists` is set where existence changes."""

    at: float
    status: str
    resource: str = ""
    reason: str = ""
    exists: bool | None = None


class Event(NamedTuple):
    """A step that was taken, for DescribeStackEvents."""

    number: int
    step: Step
    physical_id: str
    kind: str
    token: str


@dataclass(slots=True)
class Resource:
    """A resource's current state; `times` are the seconds at which it last entered each status."""

    logical_id: str
    kind: str
    physical_id: str
    status: str = ""
    reason: str = ""
    exists: bool = False
    times: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Snapshot:
    """What DescribeStacks returns about a stack from a moment on."""

    at: float
    status: str
    reason: str
    protected: bool
    deleted_at: float | None = None
    updated_at: float | None = None
    has_outputs: bool = False
    described: dict[str, Any] | None = None


@dataclass(slots=True, eq=False)
class Stack:
    """`number` counts all stacks; `description` is the constant part of DescribeStacks's response."""

    number: int
    name: str
    stack_id: str
    fate: Fate
    description: Mapping[str, Any]
    template: Template | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    on_failure: str = "ROLLBACK"
    protected: bool = False
    token: str = ""
    failed_deletions: int = 0
    failing_rollbacks: int = 0
    resources: dict[str, Resource] = field(default_factory=dict)
    history: list[Snapshot] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    plan: deque[Step] = field(default_factory=deque)

    @property
    def status(self) -> str:
        """Status after the steps that were taken."""
        return self.history[-1].status

    @property
    def exists(self) -> bool:
        """Whether the stack isn't deleted."""
        return self.history[-1].status != "DELETE_COMPLETE"

    @property
    def service(self) -> Resource | None:
        """The ECS service among its resources."""
        return next((r for r in self.resources.values() if r.kind == SERVICE), None)

    def made(self) -> list[str]:
        """Return the logical ids of the resources that exist."""
        return [id_ for id_, resource in self.resources.items() if resource.exists]

    def begun(self) -> list[Resource]:
        """Return the resources that have changed at least once."""
        return [resource for resource in self.resources.values() if resource.times]

    def begin(self, steps: Iterable[Step], token: str, now: float) -> None:
        """Replace the planned steps; each is taken at its time."""
        self.plan = deque(steps)
        self.token = token
        self.reconcile(now)

    def reconcile(self, now: float) -> None:
        """Take the steps that are due."""
        plan = self.plan
        while plan and plan[0].at <= now:
            self.take(plan.popleft())

    def take(self, step: Step) -> None:
        """Take one step."""
        physical_id, kind = self.stack_id, STACK
        if step.resource:
            resource = self.resources[step.resource]
            physical_id, kind = resource.physical_id, resource.kind
            resource.status, resource.reason = step.status, step.reason
            resource.exists = resource.exists if step.exists is None else step.exists
            resource.times[step.status] = step.at
        else:
            self._change_status(step)
        self.events.append(Event(len(self.events), step, physical_id, kind, self.token))

    def protect(self, protected: bool, now: float) -> None:
        """Switch termination protection, without a change of status."""
        self.protected = protected
        last = self.history[-1]
        self.history.append(
            Snapshot(
                now, last.status, last.reason, protected, last.deleted_at, last.updated_at, last.has_outputs
            )
        )

    def as_of(self, moment: float) -> Snapshot | None:
        """Return the snapshot at a moment, or None before the stack was created."""
        last = self.history[-1]
        if last.at <= moment:
            return last
        return next((snapshot for snapshot in reversed(self.history) if snapshot.at <= moment), None)

    def described(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return DescribeStacks's response for a snapshot."""
        if snapshot.described is None:
            snapshot.described = self._describe(snapshot)
        return dict(snapshot.described)

    def serves(self, now: float) -> bool:
        """Return whether the node answers."""
        service = self.service
        if service is None or service.status == "DELETE_IN_PROGRESS":
            return False
        age = now - service.times.get("CREATE_COMPLETE", inf)
        is_silent = self.fate.silent is not None and self.fate.silent[0] <= age < self.fate.silent[1]
        is_dead = self.fate.dies_after is not None and age >= self.fate.dies_after
        is_whole = all(resource.exists for resource in self.resources.values())
        return self.fate.answers and age >= 0 and is_whole and not is_silent and not is_dead

    def _change_status(self, step: Step) -> None:
        last = self.history[-1] if self.history else Snapshot(step.at, "", "", self.protected)
        status = step.status
        if status == "DELETE_FAILED":
            self.failed_deletions += 1
        elif status == "UPDATE_ROLLBACK_FAILED":
            self.failing_rollbacks -= 1
        snapshot = Snapshot(
            at=step.at,
            status=status,
            reason=step.reason,
            protected=self.protected,
            deleted_at=step.at if status == "DELETE_IN_PROGRESS" else last.deleted_at,
            updated_at=step.at if status in ("UPDATE_IN_PROGRESS", "IMPORT_IN_PROGRESS") else last.updated_at,
            has_outputs=last.has_outputs or status in ("CREATE_COMPLETE", "IMPORT_COMPLETE"),
        )
        self.history.append(snapshot)

    def _describe(self, snapshot: Snapshot) -> dict[str, Any]:
        described = dict(self.description) | {
            "StackName": self.name,
            "StackId": self.stack_id,
            "StackStatus": snapshot.status,
            "EnableTerminationProtection": snapshot.protected,
        }
        if snapshot.reason:
            described["StackStatusReason"] = snapshot.reason
        if snapshot.deleted_at is not None:
            described["DeletionTime"] = timestamp(snapshot.deleted_at)
        if snapshot.updated_at is not None:
            described["LastUpdatedTime"] = timestamp(snapshot.updated_at)
        if snapshot.has_outputs and self.outputs:
            described["Outputs"] = [{"OutputKey": k, "OutputValue": v} for k, v in self.outputs.items()]
        return described


def timestamp(seconds: float) -> datetime:
    """Return a time as boto3 does."""
    return datetime.fromtimestamp(seconds, UTC)
