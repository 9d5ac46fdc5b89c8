"""The border to ECS: what a node's task said before it stopped. Its client is passed in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestration.aws import upstream_errors

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_ecs.type_defs import ContainerTypeDef, TaskTypeDef


@dataclass(frozen=True, slots=True)
class EcsTasks:
    """Tells why tasks stopped. ECS remembers a stopped task for about an hour."""

    client: "ECSClient"

    def last_words(self, cluster: str, family: str, since: float) -> str:
        """Say in a sentence why the newest task of a family stopped; nothing if none has.

        Tasks made before `since`, in seconds since the epoch, are another launch's. Two calls at most. Raises
        Upstream.
        """
        with upstream_errors("ECS", f"tell of {family}"):
            tasks = self._stopped(cluster, family)
        ours = [task for task in tasks if _made_at(task) >= since]
        return _sentence(max(ours, key=_made_at)) if ours else ""

    def _stopped(self, cluster: str, family: str) -> "Sequence[TaskTypeDef]":
        """Describe up to 100, more than a service that fails to start leaves behind within the hour."""
        found = self.client.list_tasks(cluster=cluster, family=family, desiredStatus="STOPPED")
        if not found["taskArns"]:
            return ()
        # Of those that ECS forgets between the two calls, it says so; the others are in the answer.
        return self.client.describe_tasks(cluster=cluster, tasks=found["taskArns"])["tasks"]


def _made_at(task: "TaskTypeDef") -> float:
    made = task.get("createdAt")
    return made.timestamp() if made is not None else 0.0


def _sentence(task: "TaskTypeDef") -> str:
    reason = task.get("stoppedReason") or "ECS gave no reason"
    details = [
        f" (container {container.get('name', '')}: {', '.join(words)})"
        for container in task.get("containers", ())
        if (words := list(_words(container, reason)))
    ]
    return f"Task stopped: {reason}{''.join(details)}"


def _words(container: "ContainerTypeDef", told_already: str) -> Iterator[str]:
    """A container repeats its task's reason where it is the cause of it."""
    reason = container.get("reason", "")
    if reason and reason not in told_already:
        yield reason
    if "exitCode" in container:
        yield f"exit code {container['exitCode']}"
