"""Calls ECS: looks up why the task of a node stopped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestration.aws import upstream_errors

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.type_defs import ContainerTypeDef, TaskTypeDef


@dataclass(frozen=True, slots=True)
class EcsTasks:
    """The tasks of ECS. A stopped task stays visible for about an hour."""

    client: "ECSClient"

    def stop_reason(self, cluster: str, family: str, since: float) -> str:
        """Return a sentence about why the newest task of a family stopped, or "" if none has.

        Tasks created before `since`, in seconds since the epoch, belong to another launch. At most two calls.
        Raises Upstream.
        """
        with upstream_errors("ECS", f"describe tasks of {family}"):
            tasks = self._stopped(cluster, family)
        recent = [task for task in tasks if _created_at(task) >= since]
        return _sentence(max(recent, key=_created_at)) if recent else ""

    def _stopped(self, cluster: str, family: str) -> "Sequence[TaskTypeDef]":
        """Describe up to 100 tasks; a service that fails to start leaves fewer within an hour."""
        found = self.client.list_tasks(cluster=cluster, family=family, desiredStatus="STOPPED")
        if not found["taskArns"]:
            return ()
        # A task that ECS drops between the two calls is in `failures`, not in `tasks`.
        return self.client.describe_tasks(cluster=cluster, tasks=found["taskArns"])["tasks"]


def _created_at(task: "TaskTypeDef") -> float:
    created = task.get("createdAt")
    return created.timestamp() if created is not None else 0.0


def _sentence(task: "TaskTypeDef") -> str:
    reason = task.get("stoppedReason") or "ECS gave no reason"
    details = [
        f" (container {container.get('name', '')}: {', '.join(known)})"
        for container in task.get("containers", ())
        if (known := list(_details(container, reason)))
    ]
    return f"Task stopped: {reason}{''.join(details)}"


def _details(container: "ContainerTypeDef", task_reason: str) -> Iterator[str]:
    """Return reason and exit code. A container that stopped its task repeats the task's reason."""
    reason = container.get("reason", "")
    if reason and reason not in task_reason:
        yield reason
    if "exitCode" in container:
        yield f"exit code {container['exitCode']}"
