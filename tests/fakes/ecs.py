"""A stand-in for boto3's ECS client: the tasks of the services that the fake CloudFormation has made."""

from collections import defaultdict
from typing import Any, NamedTuple

from tests.fakes.aws_client import ACCOUNT, REGION, Answer, Chance, FakeAwsClient, operation
from tests.fakes.cfn_stack import Stack, timestamp
from tests.fakes.cfn_template import TASK, resolve
from tests.fakes.cloudformation import FakeCloudFormation
from tests.fakes.ecs_tasks import Task, tasks_of

_MOST = 100
"""Tasks in one call."""


class _Place(NamedTuple):
    """Where the tasks of a stack run."""

    cluster: str
    service: str
    family: str
    container: str


class FakeEcs(FakeAwsClient):
    """ECS in memory. Tasks come and go by the fate of their stack; stopped ones can be seen for an hour."""

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
        self._places: dict[int, _Place] = {}
        self._families: defaultdict[str, list[Stack]] = defaultdict(list)

    @operation
    def list_tasks(self, **params: Any) -> Answer:
        """Show the ARNs of a cluster's tasks: those that are to run, unless asked for the stopped ones."""
        cluster = self._cluster("list_tasks", params)
        status = params.get("desiredStatus", "RUNNING")
        found = [
            task_arn(self._place(stack), stack, task)
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
        """Show tasks by their ARNs; those that are forgotten are failures."""
        cluster = self._cluster("describe_tasks", params)
        if not 0 < len(params["tasks"]) <= _MOST:
            raise self.error(self.refusal_code, f"Name 1 to {_MOST} tasks.", "describe_tasks")
        found, missing = [], []
        for arn in params["tasks"]:
            stack, task = self._known(arn)
            if stack is None or task is None or self._place(stack).cluster != cluster:
                missing.append({"arn": arn, "reason": "MISSING"})
            else:
                found.append(_task_told(self._place(stack), stack, task))
        return {"tasks": found, "failures": missing}

    def _cluster(self, operation: str, params: Answer) -> str:
        name = str(params.get("cluster", "default")).rpartition("/")[2]
        if name not in self._account.clusters:
            raise self.error("ClusterNotFoundException", "Cluster not found.", operation)
        return name

    def _chosen(self, cluster: str, params: Answer) -> list[Stack]:
        self._look_at_new_services()
        asked = self._families.get(params["family"], []) if "family" in params else self._account.services
        chosen = [stack for stack in asked if self._place(stack).cluster == cluster]
        if "serviceName" in params:
            name = params["serviceName"].rpartition("/")[2]
            chosen = [stack for stack in chosen if self._place(stack).service == name]
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
        self._look_at_new_services()
        if number not in self._places:
            return None, None
        stack = self._account.all[number]
        return stack, next((task for task in self._tasks(stack) if task.number == task_number), None)

    def _look_at_new_services(self) -> None:
        for stack in self._account.services[len(self._places) :]:
            self._places[stack.number] = _place_of(stack)
            self._families[self._places[stack.number].family].append(stack)

    def _place(self, stack: Stack) -> _Place:
        return self._places[stack.number]


def _place_of(stack: Stack) -> _Place:
    assert stack.template is not None
    assert stack.service is not None
    _, cluster, service = stack.service.physical_id.split("/")
    task = stack.template.resources[stack.template.of_type(TASK)]["Properties"]
    family = resolve(task.get("Family", stack.name), stack.names)
    return _Place(cluster, service, family, task["ContainerDefinitions"][0]["Name"])


def task_arn(place: _Place, stack: Stack, task: Task) -> str:
    """Name a task so that it can be found again."""
    return f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{place.cluster}/{stack.number:016x}{task.number:016x}"


def _task_told(place: _Place, stack: Stack, task: Task) -> dict[str, Any]:
    prefix = f"arn:aws:ecs:{REGION}:{ACCOUNT}"
    status = "RUNNING" if task.stopped_at is None else "STOPPED"
    container: dict[str, Any] = {
        "name": place.container,
        "taskArn": task_arn(place, stack, task),
        "lastStatus": status,
    }
    told = {
        "taskArn": container["taskArn"],
        "clusterArn": f"{prefix}:cluster/{place.cluster}",
        "taskDefinitionArn": f"{prefix}:task-definition/{place.family}:{stack.number + 1}",
        "group": f"service:{place.service}",
        "launchType": "FARGATE",
        "lastStatus": status,
        "desiredStatus": status,
        "createdAt": timestamp(task.created_at),
        "containers": [container],
    }
    if task.stopped_at is not None and task.stop is not None:
        told |= {
            "stoppedAt": timestamp(task.stopped_at),
            "stoppedReason": task.stop.reason,
            "stopCode": task.stop.code,
        }
        if task.stop.exit_code is not None:
            container["exitCode"] = task.stop.exit_code
        if task.stop.container:
            container["reason"] = task.stop.container
    return told
