"""One stack of the fake CloudFormation: what has happened to it, and what will if nobody interferes."""

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
    """A change of a resource, or, without one, of the stack itself; `exists` where that changes as well."""

    at: float
    status: str
    resource: str = ""
    reason: str = ""
    exists: bool | None = None


class Event(NamedTuple):
    """A step that was taken, as DescribeStackEvents tells of it."""

    number: int
    step: Step
    physical_id: str
    kind: str
    token: str


@dataclass(slots=True)
class Resource:
    """A resource as it is now; `times` is when it last came into each status, in seconds."""

    logical_id: str
    kind: str
    physical_id: str
    status: str = ""
    reason: str = ""
    exists: bool = False
    times: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Snapshot:
    """What DescribeStacks says of a stack from a moment on."""

    at: float
    status: str
    reason: str
    protected: bool
    deleted_at: float | None = None
    updated_at: float | None = None
    has_outputs: bool = False
    told: dict[str, Any] | None = None


@dataclass(slots=True, eq=False)
class Stack:
    """`number` counts all stacks; `description` is what DescribeStacks says of it at any time."""

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
        """As it truly is, as far as it was settled."""
        return self.history[-1].status

    @property
    def stands(self) -> bool:
        """Whether it isn't deleted."""
        return self.history[-1].status != "DELETE_COMPLETE"

    @property
    def service(self) -> Resource | None:
        """The ECS service among its resources."""
        return next((r for r in self.resources.values() if r.kind == SERVICE), None)

    def made(self) -> list[str]:
        """Return the logical ids of the resources that exist."""
        return [id_ for id_, resource in self.resources.items() if resource.exists]

    def begun(self) -> list[Resource]:
        """Return the resources that something has happened to."""
        return [resource for resource in self.resources.values() if resource.times]

    def begin(self, steps: Iterable[Step], token: str, now: float) -> None:
        """Forget what was planned and take these steps instead, each at its time."""
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
            self._turn(step)
        self.events.append(Event(len(self.events), step, physical_id, kind, self.token))

    def protect(self, protected: bool, now: float) -> None:
        """Switch termination protection; that is no change of status."""
        self.protected = protected
        last = self.history[-1]
        self.history.append(
            Snapshot(
                now, last.status, last.reason, protected, last.deleted_at, last.updated_at, last.has_outputs
            )
        )

    def as_of(self, moment: float) -> Snapshot | None:
        """Return what could be seen at a moment, or None if it wasn't there yet."""
        last = self.history[-1]
        if last.at <= moment:
            return last
        return next((snapshot for snapshot in reversed(self.history) if snapshot.at <= moment), None)

    def told(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return the answer of DescribeStacks for a moment."""
        if snapshot.told is None:
            snapshot.told = self._describe(snapshot)
        return dict(snapshot.told)

    def serves(self, now: float) -> bool:
        """Whether the node itself answers."""
        service = self.service
        if service is None or service.status == "DELETE_IN_PROGRESS":
            return False
        life = now - service.times.get("CREATE_COMPLETE", inf)
        is_silent = self.fate.silent is not None and self.fate.silent[0] <= life < self.fate.silent[1]
        is_dead = self.fate.dies_after is not None and life >= self.fate.dies_after
        is_whole = all(resource.exists for resource in self.resources.values())
        return self.fate.answers and life >= 0 and is_whole and not is_silent and not is_dead

    def _turn(self, step: Step) -> None:
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
        told = dict(self.description) | {
            "StackName": self.name,
            "StackId": self.stack_id,
            "StackStatus": snapshot.status,
            "EnableTerminationProtection": snapshot.protected,
        }
        if snapshot.reason:
            told["StackStatusReason"] = snapshot.reason
        if snapshot.deleted_at is not None:
            told["DeletionTime"] = timestamp(snapshot.deleted_at)
        if snapshot.updated_at is not None:
            told["LastUpdatedTime"] = timestamp(snapshot.updated_at)
        if snapshot.has_outputs and self.outputs:
            told["Outputs"] = [{"OutputKey": k, "OutputValue": v} for k, v in self.outputs.items()]
        return told


def timestamp(seconds: float) -> datetime:
    """Write a time as boto3 does."""
    return datetime.fromtimestamp(seconds, UTC)
