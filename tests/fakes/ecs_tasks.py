"""The tasks that ECS has started and stopped for a stack's service, computed from the clock."""

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from tests.fakes.cfn_stack import Resource, Stack
from tests.fakes.fate import Creation, Durations, Stop

KEPT = 3600.0
"""Seconds for which a stopped task is visible."""

SCALED_IN = Stop("Scaling activity initiated by deployment ecs-svc/0", "ServiceSchedulerInitiated", "", 143)


class Task(NamedTuple):
    """One task; times in seconds, `stopped_at` None while it runs."""

    number: int
    created_at: float
    stopped_at: float | None
    stop: Stop | None


def tasks_of(stack: Stack, now: float, durations: Durations) -> list[Task]:
    """Return the tasks that are visible now, the oldest first."""
    service = stack.service
    if service is None or "CREATE_IN_PROGRESS" not in service.times:
        return []
    ends = min(now, _end_of(service))
    seen = [_at(task, now, ends) for task in _started(stack, service, ends, now - KEPT, durations)]
    return [task for task in seen if task.stopped_at is None or task.stopped_at > now - KEPT]


def _started(
    stack: Stack, service: Resource, ends: float, since: float, durations: Durations
) -> Iterator[Task]:
    """Yield the tasks that were started, as if nothing stopped them."""
    begins, first = service.times["CREATE_IN_PROGRESS"], 0
    if stack.fate.creation is not Creation.NEVER_STABLE:
        if service.status == "CREATE_FAILED" or service.times.get("CREATE_FAILED", -inf) >= begins:
            return  # ECS refused the service, so it started no task
        dies_at = service.times.get("CREATE_COMPLETE", inf) + (stack.fate.dies_after or 0.0)
        if stack.fate.dies_after is None:
            dies_at = inf
        yield Task(0, begins, dies_at, stack.fate.stop)
        begins, first = dies_at + durations.restart, 1
    if begins >= ends:
        return
    every = durations.task + durations.restart
    number = max(0, int((since - begins) // every))  # earlier tasks are no longer visible
    while begins + number * every < ends:
        created = begins + number * every
        yield Task(first + number, created, created + durations.task, stack.fate.stop)
        number += 1


def _at(task: Task, now: float, ends: float) -> Task:
    """Return a task's current state; its service ends at `ends`, or later than now."""
    assert task.stopped_at is not None
    if task.stopped_at <= ends:
        return task
    if ends < now:
        return task._replace(stopped_at=ends, stop=SCALED_IN)
    return task._replace(stopped_at=None, stop=None)


def _end_of(service: Resource) -> float:
    """Return when ECS stopped starting tasks: at the service's deletion or by the circuit breaker."""
    ends = [service.times.get("CREATE_FAILED", inf)]
    if service.status in ("DELETE_IN_PROGRESS", "DELETE_COMPLETE"):
        ends.append(service.times.get("DELETE_IN_PROGRESS", -inf))
    return min(ends)
