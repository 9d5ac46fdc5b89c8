"""What a node's task said before it stopped."""

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
    """A client that reaches nobody."""
    return boto3.client(
        "ecs", region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )


@pytest.fixture
def answers(client):
    """What ECS will say, in order; every answer must be asked for."""
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def ecs_has(answers, *tasks):
    """Let ECS list and describe these; each is asked for once."""
    arns = [f"arn:aws:ecs:task/{number}" for number, _ in enumerate(tasks)]
    asked = {"cluster": CLUSTER, "family": FAMILY, "desiredStatus": "STOPPED"}
    answers.add_response("list_tasks", {"taskArns": arns}, asked)
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
        pytest.param(a_task(PULL, reason=PULL), f"Task stopped: {PULL}", id="said twice"),
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
def test_a_stopped_task_is_told_as_a_sentence(client, answers, task, sentence):
    """With what its container adds to the task's own reason, and nothing twice."""
    ecs_has(answers, task)

    assert stop_reason(client) == sentence


def test_only_the_newest_is_told(client, answers):
    """ECS lists them in no order, and tries again and again."""
    made = {"first": LAUNCHED + 1, "third": LAUNCHED + 3, "second": LAUNCHED + 2}
    ecs_has(answers, *(a_task(reason, when) for reason, when in made.items()))

    assert stop_reason(client) == "Task stopped: third"


def test_tasks_of_an_earlier_launch_say_nothing_about_this_one(client, answers):
    """The family is the node's, whatever its generation."""
    ecs_has(answers, a_task("old", LAUNCHED - 1), {"stoppedReason": "of unknown age"})

    assert stop_reason(client) == ""


def test_a_task_made_at_the_very_moment_counts(client, answers):
    """`since` is included."""
    ecs_has(answers, a_task("at once", LAUNCHED))

    assert stop_reason(client) == "Task stopped: at once"


def test_without_a_stopped_task_there_is_one_call_and_no_word(client, answers):
    """Nothing has failed, or ECS has forgotten it."""
    ecs_has(answers)

    assert stop_reason(client) == ""


def test_a_task_that_ecs_forgets_between_the_calls_says_nothing(client, answers):
    """It is listed, and then not described."""
    answers.add_response("list_tasks", {"taskArns": ["arn:aws:ecs:task/0"]})
    answers.add_response("describe_tasks", {"tasks": [], "failures": [{"reason": "MISSING"}]})

    assert stop_reason(client) == ""


@pytest.mark.parametrize("operation", ["list_tasks", "describe_tasks"])
def test_what_ecs_refuses_is_upstream(client, answers, operation):
    """With its code and its words: no cluster, no right, too many calls."""
    if operation == "describe_tasks":
        answers.add_response("list_tasks", {"taskArns": ["arn:aws:ecs:task/0"]})
    answers.add_client_error(operation, "ClusterNotFoundException", "Cluster not found.")

    with pytest.raises(Upstream, match=f"would not tell of {FAMILY}: ClusterNotFoundException: Cluster not"):
        stop_reason(client)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (ReadTimeoutError(endpoint_url="https://ecs.test"), "Read timeout"),
        (ResponseParserError("Unable to parse response: <!doctype html>"), "its answer can't be read"),
    ],
)
def test_an_ecs_that_does_not_answer_is_upstream(client, trouble, told):
    """Whoever asks goes on without its words."""

    def fail(**_):
        raise trouble

    client.meta.events.register("before-send.ecs.*", fail)

    with pytest.raises(Upstream, match=f"ECS could not tell of artificien-node-n1: {told}"):
        stop_reason(client)
