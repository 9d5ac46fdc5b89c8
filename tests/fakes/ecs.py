"""A stand-in for boto3's ECS client: the tasks of the services that the fake CloudFormation has created."""

from collections import defaultdict
from typing import Any, NamedTuple

from tests.fakes.aws_client import ACCOUNT, REGION, Answer, Chance, FakeAwsClient, operation
from tests.fakes.cfn_stack import Stack, timestamp
from tests.fakes.cfn_template import TASK, resolve
from tests.fakes.cloudformation import FakeCloudFormation
from tests.fakes.ecs_tasks import Task, tasks_of

_MOST = 100
"""Maximum number of tasks in one call."""


class _Location(NamedTuple):
    """Where the tasks of a stack run."""

    cluster: str
    service: str
    family: str
    container: str


class FakeEcs(FakeAwsClient):
    """ECS in memory. The fate of a stack decides on its tasks; stopped tasks are visible for an hour."""

    service = "ecs"
    refusal_code = "InvalidParameterException"
    throttling_code = "ThrottlingException"

    def __init__(
        self,
        cloudformation: FakeCloudFormation,
        *,
        throttle: Chance = 0.0,
        unanswered: Chance = 0.0,
        validate: bool = True,
    ) -> None:
        super().__init__(
            cloudformation.clock,
            rng=cloudformation.rng,
            throttle=throttle,
            unanswered=unanswered,
            validate=validate,
        )
        self._account = cloudformation.account
        self._locations: dict[int, _Location] = {}
        self._families: defaultdict[str, list[Stack]] = defaultdict(list)

    @operation
    def list_tasks(self, **params: Any) -> Answer:
        """Return the ARNs of a cluster's running tasks, or of the stopped ones on request."""
        cluster = self._cluster("list_tasks", params)
        status = params.get("desiredStatus", "RUNNING")
        found = [
            task_arn(self._location(stack), stack, task)
            for stack in self._chosen(cluster, params)
            for task in self._tasks(stack)
            if status == ("RUNNING" if task.stopped_at is None else "STOPPED")
        ]
        start = int(params.get("nextToken", 0))
        end = start + params.get("maxResults", _MOST)
        more = {"nextToken": str(end)} if end < len(found) else {}
        return {"taskArns": found[start:end], **more}

    @operation
    def describe_tasks(self, **params: Any) -> Answer:
        """Return tasks by their ARNs; those that are no longer visible are failures."""
        cluster = self._cluster("describe_tasks", params)
        if not 0 < len(params["tasks"]) <= _MOST:
            raise self.error(self.refusal_code, f"Name 1 to {_MOST} tasks.", "describe_tasks")
        found, missing = [], []
        for arn in params["tasks"]:
            stack, task = self._known(arn)
            if stack is None or task is None or self._location(stack).cluster != cluster:
                missing.append({"arn": arn, "reason": "MISSING"})
            else:
                found.append(_described_task(self._location(stack), stack, task))
        return {"tasks": found, "failures": missing}

    def _cluster(self, operation: str, params: Answer) -> str:
        name = str(params.get("cluster", "default")).rpartition("/")[2]
        if name not in self._account.clusters:
            raise self.error("ClusterNotFoundException", "Cluster not found.", operation)
        return name

    def _chosen(self, cluster: str, params: Answer) -> list[Stack]:
        self._add_new_services()
        stacks = self._families.get(params["family"], []) if "family" in params else self._account.services
        chosen = [stack for stack in stacks if self._location(stack).cluster == cluster]
        if "serviceName" in params:
            name = params["serviceName"].rpartition("/")[2]
            chosen = [stack for stack in chosen if self._location(stack).service == name]
            if not chosen:
                raise self.error("ServiceNotFoundException", "Service not found.", "list_tasks")
        return chosen

    def _tasks(self, stack: Stack) -> list[Task]:
        now = self.clock()
        stack.reconcile(now)
        return tasks_of(stack, now, self._account.durations)

    def _known(self, arn: str) -> tuple[Stack | None, Task | None]:
        digits = arn.rpartition("/")[2]
        number, task_number = int(digits[:16], 16), int(digits[16:], 16)
        self._add_new_services()
        if number not in self._locations:
            return None, None
        stack = self._account.all[number]
        return stack, next((task for task in self._tasks(stack) if task.number == task_number), None)

    def _add_new_services(self) -> None:
        for stack in self._account.services[len(self._locations) :]:
            self._locations[stack.number] = _location_of(stack)
            self._families[self._locations[stack.number].family].append(stack)

    def _location(self, stack: Stack) -> _Location:
        return self._locations[stack.number]


def _location_of(stack: Stack) -> _Location:
    assert stack.template is not None
    assert stack.service is not None
    _, cluster, service = stack.service.physical_id.split("/")
    task = stack.template.resources[stack.template.of_type(TASK)]["Properties"]
    family = resolve(task.get("Family", stack.name), stack.names)
    return _Location(cluster, service, family, task["ContainerDefinitions"][0]["Name"])


def task_arn(location: _Location, stack: Stack, task: Task) -> str:
    """Return an ARN that contains the stack's and the task's number."""
    return f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{location.cluster}/{stack.number:016x}{task.number:016x}"


def _described_task(location: _Location, stack: Stack, task: Task) -> dict[str, Any]:
    prefix = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
    status = "RUNNING" if task.stopped_at is None else "STOPPED"
    container: dict[str, Any] = {
        "name": location.container,
        "taskArn": task_arn(location, stack, task),
        "lastStatus": status,
    }
    described = {
        "taskArn": container["taskArn"],
        "clusterArn": f"{prefix}:cluster/{location.cluster}",
        "taskDefinitionArn": f"{prefix}:task-definition/{location.family}:{stack.number + 1}",
        "group": f"service:{location.service}",
        "launchType": "FARGATE",
        "lastStatus": status,
        "desiredStatus": status,
        "createdAt": timestamp(task.created_at),
        "containers": [container],
    }
    if task.stopped_at is not None and task.stop is not None:
        described |= {
            "stoppedAt": timestamp(task.stopped_at),
            "stoppedReason": task.stop.reason,
            "stopCode": task.stop.code,
        }
        if task.stop.exit_code is not None:
            container["exitCode"] = task.stop.exit_code
        if task.stop.container:
            container["reason"] = task.stop.container
    return described
