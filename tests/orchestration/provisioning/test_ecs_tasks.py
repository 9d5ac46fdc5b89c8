"""Why a node's task stopped."""

from datetime import UTC, datetime

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.parsers import ResponseParserError
from botocore.stub import Stubber

from orchestration.domain.errors import Upstream
from orchestration.provisioning.ecs_tasks import EcsTasks

CLUSTER, FAMILY = "the-cluster", "artificien-node-n1"
LAUNCHED = 1_700_000_000.0
PULL = "CannotPullContainerError: pull image manifest has been retried 1 time(s): node:1 not found"


@pytest.fixture
def client():
    """A client whose calls reach no server."""
    return boto3.client(
        "ecs", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )


@pytest.fixture
def answers(client):
    """ECS's responses, in order; the test must request each of them."""
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def ecs_has(answers, *tasks):
    """Let ECS list and describe these tasks once."""
    arns = [f"arn:aws:ecs:task/{number}" for number, _ in enumerate(tasks)]
    request = {"cluster": CLUSTER, "family": FAMILY, "desiredStatus": "STOPPED"}
    answers.add_response("list_tasks", {"taskArns": arns}, request)
    if tasks:
        answers.add_response(
            "describe_tasks", {"tasks": list(tasks), "failures": []}, {"cluster": CLUSTER, "tasks": arns}
        )


def a_task(stopped, made=LAUNCHED + 60, **container):
    return {
        "createdAt": datetime.fromtimestamp(made, UTC),
        "stoppedReason": stopped,
        "containers": [{"name": "node", **container}],
    }


def stop_reason(client):
    return EcsTasks(client).stop_reason(CLUSTER, FAMILY, LAUNCHED)


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        pytest.param(
            a_task(PULL, exitCode=1), f"Task stopped: {PULL} (container node: exit code 1)", id="image"
        ),
        pytest.param(a_task(PULL, reason=PULL), f"Task stopped: {PULL}", id="repeated"),
        pytest.param(
            a_task(
                "Essential container in task exited",
                reason="OutOfMemoryError: Container killed due to memory usage",
                exitCode=137,
            ),
            "Task stopped: Essential container in task exited (container node: OutOfMemoryError: Container "
            "killed due to memory usage, exit code 137)",
            id="memory",
        ),
        pytest.param(
            a_task("Your Spot Task was interrupted."),
            "Task stopped: Your Spot Task was interrupted.",
            id="spot",
        ),
        pytest.param(
            a_task("", exitCode=0),
            "Task stopped: ECS gave no reason (container node: exit code 0)",
            id="no reason",
        ),
    ],
)
def test_stop_reason_is_a_sentence(client, answers, task, sentence):
    """It adds the container's reason to the task's, unless they are the same."""
    ecs_has(answers, task)

    assert stop_reason(client) == sentence


def test_newest_task_counts(client, answers):
    """ECS lists tasks in no order, and restarts failed ones."""
    made = {"first": LAUNCHED + 1, "third": LAUNCHED + 3, "second": LAUNCHED + 2}
    ecs_has(answers, *(a_task(reason, when) for reason, when in made.items()))

    assert stop_reason(client) == "Task stopped: third"


def test_tasks_of_an_earlier_launch_are_ignored(client, answers):
    """All generations of a node have the same family."""
    ecs_has(answers, a_task("old", LAUNCHED - 1), {"stoppedReason": "of unknown age"})

    assert stop_reason(client) == ""


def test_task_created_at_since_counts(client, answers):
    """`since` is inclusive."""
    ecs_has(answers, a_task("at once", LAUNCHED))

    assert stop_reason(client) == "Task stopped: at once"


def test_no_stopped_task_is_an_empty_reason(client, answers):
    """After one call: no task stopped within the last hour."""
    ecs_has(answers)

    assert stop_reason(client) == ""


def test_task_that_disappears_between_the_calls_is_ignored(client, answers):
    """It is listed, but not described."""
    answers.add_response("list_tasks", {"taskArns": ["arn:aws:ecs:task/0"]})
    answers.add_response("describe_tasks", {"tasks": [], "failures": [{"reason": "MISSING"}]})

    assert stop_reason(client) == ""


@pytest.mark.parametrize("operation", ["list_tasks", "describe_tasks"])
def test_refusal_is_upstream(client, answers, operation):
    """The message contains ECS's code and message."""
    if operation == "describe_tasks":
        answers.add_response("list_tasks", {"taskArns": ["arn:aws:ecs:task/0"]})
    answers.add_client_error(operation, "ClusterNotFoundException", "Cluster not found.")

    with pytest.raises(Upstream, match=f"would not describe tasks of {FAMILY}: ClusterNotFoundException"):
        stop_reason(client)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ReadTimeoutError(endpoint_url="https://ecs.test"), "Read timeout"),
        (ResponseParserError("Unable to parse response: <!doctype html>"), "its answer can't be read"),
    ],
)
def test_no_response_is_upstream(client, error, message):
    """The caller continues without the reason."""

    def fail(**_):
        raise error

    client.meta.events.register("before-send.ecs.*", fail)

    with pytest.raises(Upstream, match=f"ECS could not describe tasks of artificien-node-n1: {message}"):
        stop_reason(client)
