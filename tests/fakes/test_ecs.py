from dataclasses import replace

import pytest

from tests.fakes import Creation, Deletion, FakeEcs, Fate, Stop, TokenBucket

CLUSTER = "the-ClusterName"
FAMILY = "artificien-node-n1"
PULL = Stop("CannotPullContainerError: node:1: not found", "TaskFailedToStart", "", None)


@pytest.fixture
def ecs(account, launch):
    """Return a function that creates ECS with the service of one stack of a fate."""

    def make(fate, **settings):
        client = account(fate)
        launch(client)
        return client, FakeEcs(client, **settings)

    return make


def tasks(ecs, **filters):
    status = filters.pop("desiredStatus", "STOPPED")
    arns = ecs.list_tasks(cluster=CLUSTER, desiredStatus=status, **filters)["taskArns"]
    return ecs.describe_tasks(cluster=CLUSTER, tasks=arns)["tasks"] if arns else []


def test_healthy_service_runs_one_task(ecs, clock):
    """It has no stopped tasks."""
    _, ecs = ecs(Fate())
    clock.tick(10_000)

    (task,) = tasks(ecs, desiredStatus="RUNNING", family=FAMILY)
    assert task["lastStatus"] == "RUNNING"
    assert task["containers"][0]["name"] == "node"
    assert tasks(ecs) == tasks(ecs, desiredStatus="PENDING") == []


def test_failed_task_has_a_reason(ecs, clock):
    """Tasks are started one after the other until the circuit breaker stops them."""
    _, ecs = ecs(Fate(creation=Creation.NEVER_STABLE, stop=PULL, breaker=300))
    clock.tick(100 + 90)  # the service is created after two stages of 50 s
    first = tasks(ecs)
    clock.tick(100)
    second = tasks(ecs)
    clock.tick(2_000)

    assert [task["stoppedReason"] for task in first] == [PULL.reason]
    assert (first[0]["stopCode"], "exitCode" in first[0]["containers"][0]) == ("TaskFailedToStart", False)
    assert (first[0]["stoppedAt"] - first[0]["createdAt"]).total_seconds() == 40
    assert second[:1] == first
    assert len(second) == 2
    assert len(tasks(ecs)) == 3


def test_task_of_a_dying_node_is_restarted(ecs, clock):
    """The stopped task has the exit status of its container."""
    client, ecs = ecs(Fate(dies_after=1_000, stop=Stop(exit_code=137, container="OutOfMemoryError")))
    clock.tick(150)
    (output,) = client.describe_stacks(StackName="artificien-node-n1-1")["Stacks"][0]["Outputs"]
    clock.tick(999)
    before = client.serves(output["OutputValue"], "n1"), tasks(ecs)
    clock.tick(1)
    (died,) = tasks(ecs)
    clock.tick(200)

    assert before == (True, [])
    assert not client.serves(output["OutputValue"], "n1")
    assert (died["containers"][0]["exitCode"], died["containers"][0]["reason"]) == (137, "OutOfMemoryError")
    assert len(tasks(ecs)) == 3


def test_stopped_tasks_are_visible_for_an_hour(ecs, clock):
    """Afterwards their ARNs are missing."""
    _, ecs = ecs(Fate(creation=Creation.NEVER_STABLE, breaker=None))
    clock.tick(200)
    (first,) = tasks(ecs)
    clock.tick(3_599 - 60)
    known = ecs.describe_tasks(cluster=CLUSTER, tasks=[first["taskArn"]])
    clock.tick(1)
    forgotten = ecs.describe_tasks(cluster=CLUSTER, tasks=[first["taskArn"]])

    assert known["tasks"] == [first]
    assert forgotten["failures"] == [{"arn": first["taskArn"], "reason": "MISSING"}]
    assert len(tasks(ecs)) == 36


def test_deletion_stops_the_task(ecs, clock):
    """The stop code is that of the scheduler."""
    client, ecs = ecs(Fate())
    clock.tick(1_000)
    client.delete_stack(StackName="artificien-node-n1-1")
    clock.tick(1)

    (task,) = tasks(ecs)
    assert task["stopCode"] == "ServiceSchedulerInitiated"


@pytest.mark.parametrize(
    "fate", [Fate(creation=Creation.FAILS), Fate(creation=Creation.FAILS, fails_at="LoadBalancer")]
)
def test_service_that_was_not_created_has_no_tasks(ecs, clock, fate):
    """ECS refused it, or another resource failed before it."""
    _, ecs = ecs(fate)
    clock.tick(1_000)

    assert tasks(ecs) == tasks(ecs, desiredStatus="RUNNING") == []


def test_undeletable_service_keeps_running(ecs, clock):
    """It costs money, and its node answers."""
    client, ecs = ecs(Fate(deletion=Deletion.NEVER))
    clock.tick(1_000)
    (output,) = client.describe_stacks(StackName="artificien-node-n1-1")["Stacks"][0]["Outputs"]
    client.delete_stack(StackName="artificien-node-n1-1")
    clock.tick(1_000)

    assert len(tasks(ecs, desiredStatus="RUNNING")) == 1
    assert client.serves(output["OutputValue"], "n1")


def test_tasks_are_listed_by_family_by_service_and_in_pages(ecs, launch, clock):
    """The service's name is the end of its ARN, which is the resource's physical id."""
    client, ecs = ecs(Fate(creation=Creation.NEVER_STABLE, breaker=None))
    launch(client, "another")
    clock.tick(1_000)
    resources = client.describe_stack_resources(StackName="another")["StackResources"]
    (service,) = (r["PhysicalResourceId"] for r in resources if r["ResourceType"] == "AWS::ECS::Service")

    assert tasks(ecs, family="missing") == []
    assert len(tasks(ecs, family=FAMILY)) == 2 * len(tasks(ecs, serviceName=service)) == 18
    pages = ecs.get_paginator("list_tasks").paginate(
        cluster=CLUSTER, family=FAMILY, desiredStatus="STOPPED", maxResults=5
    )
    assert [len(page["taskArns"]) for page in pages] == [5, 5, 5, 3]


@pytest.mark.parametrize(
    ("operation", "arguments", "error"),
    [
        ("list_tasks", {"cluster": "missing"}, "ClusterNotFoundException"),
        ("list_tasks", {"cluster": CLUSTER, "serviceName": "missing"}, "ServiceNotFoundException"),
        ("describe_tasks", {"cluster": CLUSTER, "tasks": []}, "InvalidParameterException"),
        ("describe_tasks", {"cluster": CLUSTER, "tasks": ["a"] * 101}, "InvalidParameterException"),
        ("list_tasks", {"cluster": CLUSTER, "desiredStatus": "ASLEEP"}, "InvalidParameterException"),
    ],
)
def test_invalid_call_raises_an_exception_of_the_client(ecs, operation, arguments, error):
    """boto3 has a class for each error."""
    _, ecs = ecs(Fate())

    with pytest.raises(getattr(ecs.exceptions, error)):
        getattr(ecs, operation)(**arguments)


def test_unknown_task_is_missing(ecs):
    """It is no error."""
    _, ecs = ecs(Fate())
    arn = f"arn:aws:ecs:us-east-1:000000000000:task/{CLUSTER}/{'f' * 32}"

    assert ecs.describe_tasks(cluster=CLUSTER, tasks=[arn])["failures"] == [{"arn": arn, "reason": "MISSING"}]


def test_throttling_has_the_code_of_ecs(ecs, clock):
    """Each service of AWS has another code."""
    _, ecs = ecs(Fate(), throttle=TokenBucket(clock, {"list_tasks": (1.0, 1.0)}))
    ecs.list_tasks(cluster=CLUSTER)

    with pytest.raises(Exception, match=r"ThrottlingException.*Rate exceeded"):
        ecs.list_tasks(cluster=CLUSTER)


def test_node_may_be_silent(account, launch, clock):
    """Either for some time, or always."""
    silent, mute = account(Fate(silent=(100.0, 200.0))), account(replace(Fate(), answers=False))
    answers = []
    for client in (silent, mute):
        launch(client)
        address = next(iter(client.account.by_address))
        for seconds in (0, 149, 1, 99, 1, 99, 1):  # up after 150 s
            clock.tick(seconds)
            answers.append(client.serves(address, "n1"))

    assert answers == [False, False, True, True, False, False, True] + [False] * 7
