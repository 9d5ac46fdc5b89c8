from dataclasses import replace
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ConnectTimeoutError
from botocore.parsers import ResponseParserError
from botocore.stub import ANY

from orchestration.domain.errors import StackFailed, Upstream
from orchestration.domain.node import StackPhase
from orchestration.provisioning.cfn_helper import (
    PAGE_PAUSE,
    CfnHelper,
    NewStack,
    Removal,
)

ARN = "arn:aws:cloudformation:us-east-1:000000000000:stack/a-stack/1"
NEW = NewStack("a-stack", {"Resources": {}}, token="launch-1", parameters={"NodeId": "n1"}, tags={"k": "v"})
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROLE = "arn:aws:iam::000000000000:role/maker"
GONE = Removal("delete-1")


@pytest.fixture
def stacks(client):
    return CfnHelper(client)


def described(status, **more):
    return {"StackName": "a-stack", "StackId": ARN, "StackStatus": status, "CreationTime": NOW, **more}


def event(resource, status, reason="", *, physical="physical"):
    return {
        "StackId": ARN,
        "StackName": "a-stack",
        "EventId": f"{resource}-{status}",
        "Timestamp": NOW,
        "LogicalResourceId": resource,
        "PhysicalResourceId": physical,
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
    }


class Time:
    """A clock that only `sleep` advances."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_create_passes_the_template_inline(stacks, answers):
    """One call, idempotent by its token, with parameters and tags as pairs."""
    expected = {
        "StackName": "a-stack",
        "TemplateBody": '{"Resources": {}}',
        "Parameters": [{"ParameterKey": "NodeId", "ParameterValue": "n1"}],
        "Tags": [{"Key": "k", "Value": "v"}],
        "Capabilities": [],
        "ClientRequestToken": "launch-1",
    }
    answers.add_response("create_stack", {"StackId": ARN}, expected)

    assert stacks.create(NEW) == ARN


def test_role_is_passed_to_cloudformation(stacks, answers):
    """CloudFormation acts with the role's permissions, not with the caller's."""
    created = {"TemplateBody": ANY, "Parameters": ANY, "Tags": ANY, "Capabilities": ANY, "RoleARN": ROLE}
    answers.add_response(
        "create_stack",
        {"StackId": ARN},
        {"StackName": "a-stack", "ClientRequestToken": "launch-1", **created},
    )
    of_stack = {"StackName": ARN, "ClientRequestToken": "t-1", "RoleARN": ROLE}
    for operation in ("delete_stack", "rollback_stack", "continue_update_rollback"):
        answers.add_response(operation, {}, of_stack)

    stacks.create(replace(NEW, role_arn=ROLE))
    stacks.delete(ARN, Removal("t-1"), ROLE)
    stacks.roll_back(ARN, "t-1", ROLE)
    stacks.continue_rollback(ARN, "t-1", ROLE)


@pytest.mark.parametrize("code", ["AlreadyExistsException", "TokenAlreadyExistsException"])
def test_create_returns_none_for_an_existing_stack(stacks, answers, code):
    """Another process created it first."""
    answers.add_client_error("create_stack", code, "Stack [a-stack] already exists")

    assert stacks.create(NEW) is None


@pytest.mark.parametrize(
    "code", ["ValidationError", "LimitExceededException", "AccessDenied", "InsufficientCapabilitiesException"]
)
def test_refusal_is_a_failed_stack(stacks, answers, code):
    """Repeating the call doesn't help; the error keeps CloudFormation's message and the cause."""
    answers.add_client_error("create_stack", code, "No, because of this.")

    with pytest.raises(StackFailed, match=r"create a-stack: \w+: No, because of this\.") as caught:
        stacks.create(NEW)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("code", ["Throttling", "InternalFailure", "ExpiredToken"])
def test_temporary_error_is_no_failed_stack(stacks, answers, code):
    """Throttling must not use up an attempt to launch a node."""
    answers.add_client_error("describe_stacks", code, "Rate exceeded")

    with pytest.raises(Upstream) as caught:
        stacks.describe("a-stack")
    assert not isinstance(caught.value, StackFailed)


def test_unreadable_response_is_upstream(stacks, client, monkeypatch):
    """For a proxy's HTML page, botocore has an error that is no BotoCoreError."""

    def page(**_):
        raise ResponseParserError("Unable to parse response: <!doctype html>")

    monkeypatch.setattr(client, "describe_stacks", page)

    with pytest.raises(Upstream, match=r"could not list the stacks: its answer can't be read\.$"):
        list(stacks.all())


def test_timeout_is_upstream(stacks, client, monkeypatch):
    """It is translated like an error that CloudFormation returns."""

    def time_out(**_):
        raise ConnectTimeoutError(endpoint_url="https://cloudformation.test")

    monkeypatch.setattr(client, "describe_stacks", time_out)

    with pytest.raises(Upstream, match="could not describe a-stack"):
        stacks.describe("a-stack")


def test_describe_returns_the_domain_s_values(stacks, answers):
    """Outputs and tags are mappings, the status is a phase, times are seconds since the epoch."""
    stack = described(
        "CREATE_COMPLETE",
        Outputs=[{"OutputKey": "Address", "OutputValue": "lb.test"}],
        Tags=[{"Key": "artificien:node-id", "Value": "n1"}],
    )
    answers.add_response("describe_stacks", {"Stacks": [stack]}, {"StackName": "a-stack"})

    found = stacks.describe("a-stack")

    assert (found.stack_id, found.name, found.phase) == (ARN, "a-stack", StackPhase.USABLE)
    assert (found.status, found.status_reason, found.created_at) == ("CREATE_COMPLETE", "", NOW.timestamp())
    assert found.outputs == {"Address": "lb.test"}
    assert found.tags == {"artificien:node-id": "n1"}


def test_describe_returns_none_for_an_absent_stack(stacks, answers):
    """CloudFormation reports absence as a ValidationError."""
    answers.add_client_error("describe_stacks", "ValidationError", "Stack with id a-stack does not exist")

    assert stacks.describe("a-stack") is None


def test_other_validation_error_is_a_failed_stack(stacks, answers):
    """An invalid request must not look like an absent stack."""
    answers.add_client_error("describe_stacks", "ValidationError", "1 validation error detected")

    with pytest.raises(StackFailed):
        stacks.describe("a-stack")


def test_all_pauses_between_pages(client, answers):
    """All callers of the account share the rate limit of this call."""
    time = Time()
    names = ("a", "b"), ("c",), ()
    for page, (listed, token) in enumerate(zip(names, ("2", "3", None), strict=True), start=1):
        stacks = [
            described("CREATE_COMPLETE", StackId=f"{ARN}-{name}") | {"StackName": name} for name in listed
        ]
        answer = {"Stacks": stacks} | ({"NextToken": token} if token else {})
        answers.add_response("describe_stacks", answer, {"NextToken": str(page)} if page > 1 else {})

    seen_at = [(stack.name, time.now) for stack in CfnHelper(client, sleep=time.sleep).all()]

    assert seen_at == [("a", 0), ("b", 0), ("c", PAGE_PAUSE)]
    assert time.now == 2 * PAGE_PAUSE


def test_interrupted_list_is_upstream(stacks, answers):
    """A stack that was not listed must not look deleted."""
    answers.add_client_error("describe_stacks", "Throttling", "Rate exceeded")

    with pytest.raises(Upstream, match="would not list the stacks: Throttling"):
        list(stacks.all())


@pytest.mark.parametrize(
    ("removal", "more"),
    [
        (Removal("delete-1"), {}),
        (Removal("delete-1", retain=["Listener", "Service"]), {"RetainResources": ["Listener", "Service"]}),
        (Removal("delete-1", by_force=True), {"DeletionMode": "FORCE_DELETE_STACK"}),
    ],
    ids=["plain", "retaining", "by force"],
)
def test_delete_passes_its_options(stacks, answers, removal, more):
    """CloudFormation accepts them only after a failed deletion, so a plain deletion passes none."""
    answers.add_response("delete_stack", {}, {"StackName": ARN, "ClientRequestToken": "delete-1", **more})

    stacks.delete(ARN, removal)


def test_deleting_an_absent_stack_is_no_error(stacks, answers):
    """Deleting is idempotent."""
    expected = {"StackName": ARN, "ClientRequestToken": "delete-1"}
    answers.add_client_error(
        "delete_stack", "ValidationError", f"Stack [{ARN}] does not exist", expected_params=expected
    )

    stacks.delete(ARN, GONE)


def test_termination_protection_is_reported(stacks, answers):
    """The stack's status doesn't change, so the error is the only sign."""
    answers.add_client_error("delete_stack", "ValidationError", "TerminationProtection is enabled")

    with pytest.raises(StackFailed, match="TerminationProtection"):
        stacks.delete(ARN, GONE)


REPAIRS = {
    "cancel_update_stack": CfnHelper.cancel_update,
    "rollback_stack": CfnHelper.roll_back,
    "continue_update_rollback": CfnHelper.continue_rollback,
}


@pytest.mark.parametrize("operation", REPAIRS)
def test_repair_passes_its_token(stacks, answers, operation):
    """It is idempotent; without a role, CloudFormation uses the one that created the stack."""
    answers.add_response(operation, {}, {"StackName": ARN, "ClientRequestToken": "repair-1"})

    REPAIRS[operation](stacks, ARN, "repair-1")


@pytest.mark.parametrize("operation", REPAIRS)
def test_refused_repair_is_a_failed_stack(stacks, answers, operation):
    """For example, an update that has just ended can't be cancelled."""
    answers.add_client_error(operation, "ValidationError", "cannot be called from current stack status")

    with pytest.raises(StackFailed, match="cannot be called from current stack status"):
        REPAIRS[operation](stacks, ARN, "repair-1")


def test_first_failure_is_that_of_the_last_operation(stacks, answers):
    """Events are listed newest first, in pages; consequences and earlier operations don't count."""
    first = [
        event("a-stack", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed", physical=ARN),
        event("Task", "CREATE_FAILED", "Resource creation cancelled"),
        event("Listener", "CREATE_FAILED", "A later failure"),
    ]
    second = [
        event("Service", "CREATE_FAILED", "No space left"),
        event("Service", "CREATE_IN_PROGRESS"),
        event("a-stack", "CREATE_IN_PROGRESS", "User Initiated", physical=ARN),
        event("Service", "DELETE_FAILED", "Of an operation before"),
    ]
    answers.add_response(
        "describe_stack_events", {"StackEvents": first, "NextToken": "2"}, {"StackName": ARN}
    )
    answers.add_response(
        "describe_stack_events", {"StackEvents": second}, {"StackName": ARN, "NextToken": ANY}
    )

    assert stacks.first_failure(ARN) == "Service: No space left"


def events_are(answers, *events):
    answers.add_response("describe_stack_events", {"StackEvents": list(events)}, {"StackName": ARN})


def test_failed_resources_are_unique_and_sorted(stacks, answers):
    """They are logical ids for `retain`; failures of earlier operations don't count."""
    events_are(
        answers,
        event("a-stack", "DELETE_FAILED", "The following resource(s) failed to delete", physical=ARN),
        event("Service", "DELETE_FAILED", "In use"),
        event("Listener", "DELETE_FAILED", "In use"),
        event("Service", "DELETE_FAILED", "In use"),
        event("Target", "DELETE_COMPLETE"),
        event("a-stack", "DELETE_IN_PROGRESS", "User Initiated", physical=ARN),
        event("Role", "CREATE_FAILED", "Of an operation before"),
    )

    assert stacks.failed_resources(ARN) == ["Listener", "Service"]


def test_resource_deleted_in_a_second_try_has_not_failed(stacks, answers):
    """CloudFormation retries by itself, and refuses to retain deleted resources."""
    events_are(
        answers,
        event("a-stack", "DELETE_FAILED", physical=ARN),
        event("Service", "DELETE_FAILED", "In use"),
        event("Target", "DELETE_COMPLETE"),
        event("Target", "DELETE_FAILED", "In use by the service"),
        event("a-stack", "DELETE_IN_PROGRESS", "User Initiated", physical=ARN),
    )

    assert stacks.failed_resources(ARN) == ["Service"]


def test_failure_without_a_reason_is_described_by_its_status(stacks, answers):
    """Some events have no reason."""
    failed = event("Service", "UPDATE_FAILED")
    del failed["ResourceStatusReason"]
    events_are(answers, failed)

    assert stacks.first_failure(ARN) == "Service: UPDATE_FAILED"


def test_first_failure_is_empty_without_failures(stacks, answers):
    """The events may lack the start of the operation."""
    answers.add_response("describe_stack_events", {"StackEvents": [event("Task", "CREATE_COMPLETE")]})

    assert stacks.first_failure(ARN) == ""


def test_wait_returns_a_stable_stack(client, answers):
    """A stack that isn't visible yet is waited for like one in progress."""
    time = Time()
    answers.add_client_error("describe_stacks", "ValidationError", f"Stack {ARN} does not exist")
    answers.add_response("describe_stacks", {"Stacks": [described("CREATE_IN_PROGRESS")]})
    answers.add_response("describe_stacks", {"Stacks": [described("ROLLBACK_COMPLETE")]})

    stack = CfnHelper(client, clock=time, sleep=time.sleep).wait(ARN, deadline=60, pause=5)

    assert stack.phase is StackPhase.BROKEN
    assert time.now == 10


@pytest.mark.parametrize(
    ("seen", "status"), [([described("CREATE_IN_PROGRESS")], "CREATE_IN_PROGRESS"), ([], "absent")]
)
def test_wait_has_a_deadline(client, answers, seen, status):
    """The error contains the last status."""
    time = Time()
    for _ in range(3):
        if seen:
            answers.add_response("describe_stacks", {"Stacks": seen})
        else:
            answers.add_client_error("describe_stacks", "ValidationError", "Stack does not exist")

    with pytest.raises(StackFailed, match=f"still {status} after 10 s"):
        CfnHelper(client, clock=time, sleep=time.sleep).wait(ARN, deadline=10, pause=5)


def test_stack_has_the_time_of_its_deletion(stacks, answers):
    """A failed deletion has one, too, so that it can be compared with the record."""
    answers.add_response("describe_stacks", {"Stacks": [described("CREATE_COMPLETE")]})
    answers.add_response("describe_stacks", {"Stacks": [described("DELETE_FAILED", DeletionTime=NOW)]})

    assert [stacks.describe(ARN).deleted_at for _ in range(2)] == [0.0, NOW.timestamp()]
