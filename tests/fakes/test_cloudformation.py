import json
import random

import boto3
import botocore.session
import pytest
from botocore.exceptions import ClientError, ParamValidationError, ReadTimeoutError
from moto import mock_aws

from tests.fakes import (
    Census,
    Creation,
    Deletion,
    Durations,
    FakeCloudFormation,
    Fate,
    Import,
    Operator,
    TokenBucket,
    Update,
)
from tests.fakes.conftest import NAME

MODEL = botocore.session.get_session().get_service_model("cloudformation")
STATUSES = MODEL.shape_for("StackStatus").enum
LONG = 100_000
SERVICE = "ServiceD69D759B"


def status_of(client, name=NAME):
    return client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]


def failures(client, name=NAME):
    events = client.describe_stack_events(StackName=name)["StackEvents"]
    return [
        (event["LogicalResourceId"], event["ResourceStatusReason"])
        for event in reversed(events)
        if event["ResourceStatus"].endswith("_FAILED") and event["LogicalResourceId"] != event["StackName"]
    ]


def refused(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


SMALL = json.dumps(
    {
        "Parameters": {"Word": {"Type": "String"}},
        "Resources": {"Cluster": {"Type": "AWS::ECS::Cluster"}},
        "Outputs": {"Output": {"Value": {"Fn::Join": ["-", ["the", {"Ref": "Word"}]]}}},
    }
)
REQUEST = {
    "StackName": "a-stack",
    "TemplateBody": SMALL,
    "Parameters": [{"ParameterKey": "Word", "ParameterValue": "word"}],
    "Tags": [{"Key": "app", "Value": "artificien"}],
}


class TestOnBoth:
    """Operations that moto supports behave the same on the fake and on moto."""

    @pytest.fixture(params=["fake", pytest.param("moto", marks=pytest.mark.moto)])
    def client(self, request, clock, monkeypatch):
        if request.param == "fake":
            yield FakeCloudFormation(clock, durations=Durations(create=0, delete=0))
            return
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        with mock_aws():
            yield boto3.client("cloudformation", region_name="us-east-1")

    def test_created_stack_is_described(self, client):
        """The description has its parameters, tags and outputs."""
        arn = client.create_stack(**REQUEST)["StackId"]

        (by_name,) = client.describe_stacks(StackName="a-stack")["Stacks"]
        (by_arn,) = client.describe_stacks(StackName=arn)["Stacks"]
        assert by_name == by_arn
        assert (by_arn["StackId"], by_arn["StackName"]) == (arn, "a-stack")
        assert by_arn["StackStatus"] == "CREATE_COMPLETE"
        assert (by_arn["Parameters"], by_arn["Tags"]) == (REQUEST["Parameters"], REQUEST["Tags"])
        assert by_arn["Outputs"] == [{"OutputKey": "Output", "OutputValue": "the-word"}]

    def test_second_stack_of_a_name_is_refused(self, client):
        """The exception is one of the client's own."""
        client.create_stack(**REQUEST)

        with pytest.raises(client.exceptions.AlreadyExistsException, match=r"\[?a-stack\]? already exists"):
            client.create_stack(**REQUEST)

    def test_deleted_stack_is_found_only_by_its_arn(self, client):
        """Its name can be used again."""
        arn = client.create_stack(**REQUEST)["StackId"]
        client.delete_stack(StackName="a-stack")

        assert refused(client.describe_stacks, StackName="a-stack") == (
            "ValidationError",
            "Stack with id a-stack does not exist",
        )
        assert status_of(client, arn) == "DELETE_COMPLETE"
        assert client.describe_stacks()["Stacks"] == []
        assert client.create_stack(**REQUEST)["StackId"] != arn

    def test_events_are_listed_newest_first(self, client):
        """They include the stack's own."""
        arn = client.create_stack(**REQUEST)["StackId"]

        pages = client.get_paginator("describe_stack_events").paginate(StackName=arn)
        events = [event for page in pages for event in page["StackEvents"]]
        own = [event["ResourceStatus"] for event in events if event["PhysicalResourceId"] == arn]
        assert own == ["CREATE_COMPLETE", "CREATE_IN_PROGRESS"]

    def test_deletion_of_a_missing_stack_is_no_error(self, client):
        """Another process may have deleted it."""
        client.delete_stack(StackName="missing")

        assert client.describe_stacks()["Stacks"] == []


BEGINS, UNCHANGED = "begins", "unchanged"
DELETIONS = dict.fromkeys(STATUSES, BEGINS) | {
    "DELETE_COMPLETE": UNCHANGED,
    "DELETE_IN_PROGRESS": UNCHANGED,
    "ROLLBACK_IN_PROGRESS": "refused",
    "UPDATE_IN_PROGRESS": "refused",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": "refused",
    "UPDATE_ROLLBACK_IN_PROGRESS": "refused",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": "refused",
    "IMPORT_IN_PROGRESS": "refused",
    "IMPORT_ROLLBACK_IN_PROGRESS": "refused",
}
ROLLBACKS = {
    "cancel_update_stack": {"UPDATE_IN_PROGRESS": "UPDATE_ROLLBACK_IN_PROGRESS"},
    "continue_update_rollback": {"UPDATE_ROLLBACK_FAILED": "UPDATE_ROLLBACK_IN_PROGRESS"},
    "rollback_stack": {
        "CREATE_FAILED": "ROLLBACK_IN_PROGRESS",
        "UPDATE_FAILED": "UPDATE_ROLLBACK_IN_PROGRESS",
    },
}
UPDATABLE = {
    "CREATE_COMPLETE",
    "CREATE_FAILED",
    "UPDATE_COMPLETE",
    "UPDATE_FAILED",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
}
EVERY = [*STATUSES, "SOMETHING_NEW"]


@pytest.fixture(params=EVERY)
def in_status(request, account, launch, clock):
    """A stack in each status, with its client and ARN."""
    client = account()
    arn = launch(client)
    clock.tick(LONG)
    Operator(client).put(NAME, request.param)
    return client, arn, request.param


def test_deletion_is_accepted_or_refused_by_status(in_status):
    """A refusal leaves the status unchanged."""
    client, arn, status = in_status
    outcome = DELETIONS.get(status, BEGINS)

    if outcome == "refused":
        error = refused(client.delete_stack, StackName=arn)
        assert error == ("ValidationError", f"Stack [{arn}] cannot be deleted while in status {status}")
    else:
        client.delete_stack(StackName=arn)
    assert status_of(client, arn) == ("DELETE_IN_PROGRESS" if outcome == BEGINS else status)


@pytest.mark.parametrize("operation", ROLLBACKS)
def test_rollback_operations_are_accepted_by_status(in_status, operation):
    """Each operation has its own statuses."""
    client, arn, status = in_status
    becomes = ROLLBACKS[operation].get(status)

    if becomes is None:
        code, message = refused(getattr(client, operation), StackName=arn)
        assert code == "ValidationError"
        assert message.endswith(("cannot be called from current stack status", "does not exist"))
    else:
        getattr(client, operation)(StackName=arn)
    assert status_of(client, arn) == (becomes or status)


def test_name_is_taken_until_the_stack_is_deleted(in_status, launch):
    """All statuses but DELETE_COMPLETE take the name."""
    client, arn, status = in_status

    if status == "DELETE_COMPLETE":
        assert launch(client) != arn
    else:
        with pytest.raises(client.exceptions.AlreadyExistsException):
            launch(client)


@pytest.mark.parametrize("option", [{"RetainResources": [SERVICE]}, {"DeletionMode": "FORCE_DELETE_STACK"}])
def test_deletion_options_require_a_failed_deletion(in_status, option):
    """Force and resources to retain are refused before."""
    client, arn, status = in_status
    if status == "DELETE_FAILED":
        client.delete_stack(StackName=arn, **option)
    elif status != "DELETE_COMPLETE":
        assert refused(client.delete_stack, StackName=arn, **option)[0] == "ValidationError"

    assert status_of(client, arn) == ("DELETE_IN_PROGRESS" if status == "DELETE_FAILED" else status)


@pytest.mark.parametrize("status", [status for status in EVERY if status != "DELETE_COMPLETE"])
def test_update_is_accepted_or_refused_by_status(account, launch, clock, status):
    """CloudFormation refuses it with its own message."""
    client = account()
    arn = launch(client)
    Operator(client).put(NAME, status)
    is_updatable = status in UPDATABLE

    if is_updatable:
        Operator(client).update(NAME)
    else:
        error = refused(Operator(client).update, name=NAME)
        assert error == ("ValidationError", f"Stack:{arn} is in {status} state and can not be updated.")
    assert status_of(client) == ("UPDATE_IN_PROGRESS" if is_updatable else status)


WAYS = [
    (Fate(), {}, []),
    (Fate(creation=Creation.FAILS), {}, []),
    (Fate(creation=Creation.FAILS), {"OnFailure": "DO_NOTHING"}, []),
    (Fate(creation=Creation.FAILS), {"OnFailure": "DELETE"}, []),
    (Fate(creation=Creation.ROLLBACK_FAILS), {}, []),
    (Fate(deletion=Deletion.FAILS), {}, [lambda client: client.delete_stack(StackName=NAME)]),
    *((Fate(), {}, [lambda client, end=end: Operator(client).update(NAME, end)]) for end in Update),
    *((Fate(), {}, [lambda client, end=end: Operator(client).import_into(NAME, end)]) for end in Import),
]


def test_every_status_is_reached_by_operations(account, launch, clock):
    """A status that CloudFormation adds fails here."""
    seen = set()
    for fate, options, steps in WAYS:
        client = account(fate)
        launch(client, **options)
        for step in steps:
            clock.tick(LONG)
            step(client)
        clock.tick(LONG)
        Operator(client).review("in-review")
        client.describe_stacks()
        seen |= {snapshot.status for stack in client.account.all for snapshot in stack.history}

    assert seen == set(STATUSES)


def test_creation_takes_time(account, launch, clock):
    """Only the clock advances it."""
    client = account()
    launch(client)

    seen = []
    for _ in range(4):
        (stack,) = client.describe_stacks(StackName=NAME)["Stacks"]
        seen.append((stack["StackStatus"], "Outputs" in stack))
        clock.tick(50)
    assert seen == [("CREATE_IN_PROGRESS", False)] * 3 + [("CREATE_COMPLETE", True)]


def test_first_failure_has_a_reason(account, launch, clock):
    """The other failures are cancelled resources."""
    client = account(Fate(creation=Creation.FAILS, fails_at="LoadBalancer", reason="Quota exceeded"))
    launch(client)
    clock.tick(LONG)

    assert failures(client) == [
        ("LoadBalancerBE9EEC3A", "Quota exceeded"),
        ("Target3191CF44", "Resource creation cancelled"),
    ]
    assert status_of(client) == "ROLLBACK_COMPLETE"
    assert Census(client.account).live_services() == []


def test_unstable_service_is_stopped_by_the_circuit_breaker(account, launch, clock):
    """It costs money until then; afterwards the stack is rolled back."""
    client = account(Fate(creation=Creation.NEVER_STABLE, breaker=600))
    launch(client)
    clock.tick(600)
    before = status_of(client), Census(client.account).live_services()
    clock.tick(LONG)

    assert before == ("CREATE_IN_PROGRESS", [NAME])
    assert "Circuit Breaker was triggered" in failures(client)[0][1]
    assert (status_of(client), Census(client.account).live_services()) == ("ROLLBACK_COMPLETE", [])


@pytest.mark.parametrize(
    "fate", [Fate(creation=Creation.HANGS), Fate(creation=Creation.NEVER_STABLE, breaker=None)]
)
def test_hanging_creation_can_be_deleted(account, launch, clock, fate):
    """A stack can be deleted while it is created."""
    client = account(fate)
    arn = launch(client)
    clock.tick(LONG)
    before = status_of(client)
    client.delete_stack(StackName=arn)
    clock.tick(60)

    assert (before, status_of(client, arn)) == ("CREATE_IN_PROGRESS", "DELETE_COMPLETE")
    assert Census(client.account).leaks() == []


PLAIN, RETAIN, FORCE = {}, {"RetainResources": [SERVICE]}, {"DeletionMode": "FORCE_DELETE_STACK"}


@pytest.mark.parametrize(
    ("deletion", "tries", "statuses", "leaks"),
    [
        (Deletion.WELL, [PLAIN], ["COMPLETE"], []),
        (Deletion.FAILS, [PLAIN, PLAIN], ["FAILED", "COMPLETE"], []),
        (Deletion.NEEDS_RETAIN, [PLAIN, PLAIN, RETAIN], ["FAILED", "FAILED", "COMPLETE"], [SERVICE]),
        (Deletion.NEEDS_RETAIN, [PLAIN, FORCE], ["FAILED", "COMPLETE"], [SERVICE]),
        (Deletion.NEEDS_FORCE, [PLAIN, FORCE], ["FAILED", "COMPLETE"], [SERVICE]),
        (Deletion.NEVER, [PLAIN, FORCE], ["FAILED", "FAILED"], []),
        (Deletion.HANGS, [PLAIN, PLAIN], ["IN_PROGRESS", "IN_PROGRESS"], []),
    ],
)
def test_deletions_end_by_the_fate(account, launch, clock, deletion, tries, statuses, leaks):
    """Resources that are retained, or skipped by force, still exist and cost money."""
    client = account(Fate(deletion=deletion))
    arn = launch(client)
    seen = []
    for options in tries:
        clock.tick(LONG)
        client.delete_stack(StackName=arn, **options)
        clock.tick(LONG)
        seen.append(status_of(client, arn))

    assert seen == [f"DELETE_{status}" for status in statuses]
    assert Census(client.account).leaks() == [(NAME, resource) for resource in leaks]
    assert Census(client.account).live_services() == (
        [] if seen[-1] == "DELETE_COMPLETE" and not leaks else [NAME]
    )


def test_retaining_one_of_two_stuck_resources_fails(account, launch, clock):
    """Such a stack can only be deleted by force."""
    client = account(Fate(deletion=Deletion.NEEDS_FORCE))
    arn = launch(client)
    clock.tick(LONG)
    client.delete_stack(StackName=arn)
    clock.tick(LONG)
    client.delete_stack(StackName=arn, RetainResources=[SERVICE])
    clock.tick(LONG)

    assert status_of(client, arn) == "DELETE_FAILED"


@pytest.mark.parametrize("resource", ["Missing", "Target3191CF44"])
def test_only_existing_resources_can_be_retained(account, launch, clock, resource):
    """CloudFormation refuses others."""
    client = account(Fate(deletion=Deletion.FAILS, stuck="LoadBalancer"))
    arn = launch(client)
    clock.tick(LONG)
    client.delete_stack(StackName=arn)
    clock.tick(LONG)

    error = refused(client.delete_stack, StackName=arn, RetainResources=[resource])
    assert "must be in a valid state" in error[1]


def test_termination_protection_refuses_a_deletion(account, launch, clock):
    """The status doesn't change; an operator can switch the protection off."""
    client = account(Fate(protected=True))
    launch(client)
    clock.tick(LONG)

    error = refused(client.delete_stack, StackName=NAME)
    assert error == (
        "ValidationError",
        f"Stack [{NAME}] cannot be deleted while TerminationProtection is enabled",
    )
    (stack,) = client.describe_stacks(StackName=NAME)["Stacks"]
    assert (stack["StackStatus"], stack["EnableTerminationProtection"]) == ("CREATE_COMPLETE", True)
    client.update_termination_protection(StackName=NAME, EnableTerminationProtection=False)
    client.delete_stack(StackName=NAME)
    assert status_of(client) == "DELETE_IN_PROGRESS"


def test_repeated_request_gets_the_same_response(account, launch, clock):
    """The token makes the request idempotent."""
    client = account()
    first = launch(client, ClientRequestToken="launch-1")
    clock.tick(LONG)
    again = launch(client, ClientRequestToken="launch-1")

    assert first == again
    assert len(Census(client.account).of_node("n1")) == 1


def test_token_is_valid_for_one_request(account, launch):
    """Another request is refused with an exception of its own."""
    client = account()
    launch(client, ClientRequestToken="launch-1")

    with pytest.raises(client.exceptions.TokenAlreadyExistsException):
        launch(client, "another", ClientRequestToken="launch-1")
    with pytest.raises(client.exceptions.TokenAlreadyExistsException):
        client.cancel_update_stack(StackName=NAME, ClientRequestToken="launch-1")


def test_repeated_token_does_not_retry_a_failed_deletion(account, launch, clock):
    """A new token does."""
    client = account(Fate(deletion=Deletion.FAILS))
    arn = launch(client)
    seen = []
    for token in ("delete-1", "delete-1", "delete-2"):
        clock.tick(LONG)
        client.delete_stack(StackName=arn, ClientRequestToken=token)
        seen.append(status_of(client, arn))

    assert seen == ["DELETE_IN_PROGRESS", "DELETE_FAILED", "DELETE_IN_PROGRESS"]


def test_failed_rollback_can_be_continued(account, launch, clock):
    """It fails again unless the stuck resource is skipped."""
    client = account()
    launch(client)
    clock.tick(LONG)
    Operator(client).update(NAME, Update.ROLLBACK_FAILS, failing_rollbacks=3)
    seen = []
    for skip in ([], ["Task79114B6B"], [SERVICE]):
        clock.tick(LONG)
        try:
            client.continue_update_rollback(StackName=NAME, ResourcesToSkip=skip)
        except ClientError as error:
            seen.append(error.response["Error"]["Code"])
        clock.tick(LONG)
        seen.append(status_of(client))

    failed = "UPDATE_ROLLBACK_FAILED"
    assert seen == [failed, "ValidationError", failed, "UPDATE_ROLLBACK_COMPLETE"]


def test_cancelled_update_is_rolled_back_once(account, launch, clock):
    """The old resources keep serving; the repeated token doesn't cancel again."""
    client = account()
    launch(client)
    clock.tick(LONG)
    (output,) = client.describe_stacks(StackName=NAME)["Stacks"][0]["Outputs"]
    Operator(client).update(NAME, Update.HANGS)
    clock.tick(LONG)
    for _ in range(2):
        client.cancel_update_stack(StackName=NAME, ClientRequestToken="cancel-1")
    serves = client.serves(output["OutputValue"], "n1")
    clock.tick(LONG)

    assert serves
    assert status_of(client) == "UPDATE_ROLLBACK_COMPLETE"


def test_failed_creation_can_be_rolled_back(account, launch, clock):
    """The response contains the stack's ARN."""
    client = account(Fate(creation=Creation.NEVER_STABLE))
    arn = launch(client, OnFailure="DO_NOTHING")
    clock.tick(LONG)
    before = status_of(client), Census(client.account).live_services()
    answer = client.rollback_stack(StackName=NAME)
    clock.tick(LONG)

    assert before == ("CREATE_FAILED", [NAME])
    assert answer["StackId"] == arn
    assert (status_of(client), Census(client.account).live_services()) == ("ROLLBACK_COMPLETE", [])


def test_descriptions_lag(account, launch, clock):
    """Descriptions and events lag behind; changes take effect at once."""
    client = account(lag=lambda: 10.0)
    arn = launch(client)

    assert "does not exist" in refused(client.describe_stacks, StackName=NAME)[1]
    assert "does not exist" in refused(client.describe_stacks, StackName=arn)[1]
    assert "does not exist" in refused(client.describe_stack_events, StackName=arn)[1]
    with pytest.raises(client.exceptions.AlreadyExistsException):
        launch(client)
    clock.tick(155)
    assert status_of(client) == "CREATE_IN_PROGRESS"
    clock.tick(5)
    assert status_of(client) == "CREATE_COMPLETE"
    client.delete_stack(StackName=NAME)
    clock.tick(65)
    assert status_of(client) == "DELETE_IN_PROGRESS"
    assert len(client.describe_stacks()["Stacks"]) == 2


def test_lag_is_random_and_repeatable(clock, template, launch):
    """It is drawn from the generator that the test passes in."""
    draws = []
    for _ in range(2):
        client = FakeCloudFormation(clock, lag=10.0, rng=random.Random(4))
        launch(client)
        clock.tick(155)
        draws.append([status_of(client) for _ in range(50)])

    assert draws[0] == draws[1]
    assert set(draws[0]) == {"CREATE_IN_PROGRESS", "CREATE_COMPLETE"}


def test_some_calls_are_throttled(account):
    """A probability decides; both kinds are counted."""
    client = account(throttle=0.3, rng=random.Random(1))
    errors = []
    for _ in range(1000):
        try:
            client.describe_stacks()
        except ClientError as refusal:
            errors.append(refusal.response["Error"])

    assert errors[0] == {"Type": "Sender", "Code": "Throttling", "Message": "Rate exceeded"}
    assert len(errors) == client.throttled["describe_stacks"]
    assert 250 < len(errors) < 350
    assert client.calls["describe_stacks"] == 1000


def test_response_may_get_lost(account, launch, clock):
    """The stack is created; the same request again returns it."""
    client = account(unanswered=lambda operation: operation == "create_stack")
    with pytest.raises(ReadTimeoutError):
        launch(client, ClientRequestToken="launch-1")
    client.unanswered = 0.0
    arn = launch(client, ClientRequestToken="launch-1")

    assert [stack.stack_id for stack in Census(client.account).of_node("n1")] == [arn]
    assert client.calls["create_stack"] == 2


def test_token_bucket_throttles_by_rate(account, clock):
    """Five per second with a burst of ten; other operations aren't throttled."""
    client = account(throttle=TokenBucket(clock, {"describe_stacks": (5.0, 10.0)}))

    def passed(calls):
        before = client.throttled["describe_stacks"]
        for _ in range(calls):
            try:
                client.describe_stacks()
            except ClientError:
                client.list_stacks()
        return calls - client.throttled["describe_stacks"] + before

    assert passed(100) == 10
    clock.tick(1)
    assert passed(100) == 5
    clock.tick(60)
    assert passed(100) == 10


def test_stacks_are_listed_in_pages(account, launch, clock):
    """Each is listed once even if others are deleted meanwhile; ListStacks includes deleted ones."""
    client = account(page=3)
    for number in range(8):
        launch(client, f"stack-{number}")
    client.delete_stack(StackName="stack-4")
    clock.tick(60)

    pages = list(client.get_paginator("describe_stacks").paginate())
    names = [stack["StackName"] for page in pages for stack in page["Stacks"]]
    assert [len(page["Stacks"]) for page in pages] == [3, 3, 2]
    assert sorted(names) == ["artificien-cluster", *(f"stack-{n}" for n in range(8) if n != 4)]
    listed = client.get_paginator("list_stacks").paginate(StackStatusFilter=["DELETE_COMPLETE"])
    assert [s["StackName"] for page in listed for s in page["StackSummaries"]] == ["stack-4"]


def test_events_are_listed_in_pages(account, launch, clock):
    """Any size of pages gives all events."""
    launch(small := account(page=3))
    launch(large := account())
    clock.tick(LONG)

    pages = list(small.get_paginator("describe_stack_events").paginate(StackName=NAME))
    ids = [event["EventId"] for page in pages for event in page["StackEvents"]]
    assert len(pages) > 3
    whole = large.describe_stack_events(StackName=NAME)["StackEvents"]
    assert ids == [event["EventId"] for event in whole]


def test_resources_have_their_status(account, launch, clock):
    """Both operations return it."""
    client = account(Fate(deletion=Deletion.NEVER))
    launch(client)
    clock.tick(LONG)
    client.delete_stack(StackName=NAME)
    clock.tick(LONG)

    shown = client.describe_stack_resources(StackName=NAME)["StackResources"]
    listed = client.list_stack_resources(StackName=NAME)["StackResourceSummaries"]
    statuses = {resource["LogicalResourceId"]: resource["ResourceStatus"] for resource in listed}
    assert statuses[SERVICE] == "DELETE_FAILED"
    assert len(shown) == len(listed) == 5


def test_number_of_stacks_is_limited(account, launch, clock):
    """Deleting one allows another."""
    client = account(limit=2)
    launch(client)
    with pytest.raises(client.exceptions.LimitExceededException):
        launch(client, "one-more")
    client.delete_stack(StackName=NAME)
    clock.tick(60)

    assert launch(client, "one-more")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"StackName": "1st"}, "'stackName' failed to satisfy constraint"),
        ({"StackName": "a" * 129}, "less than or equal to 128"),
        ({"TemplateBody": "Resources: {}"}, "JSON not well-formed"),
        ({"TemplateBody": "{}"}, "At least one Resources member"),
        ({"TemplateBody": "{}" + " " * 51_200}, "less than or equal to 51200"),
        ({"Parameters": []}, "must have values"),
        ({"Parameters": [{"ParameterKey": "X", "ParameterValue": "1"}]}, r"Parameters: [X] do not exist"),
        ({"ClientRequestToken": "what/ever"}, "regular expression pattern"),
        ({"ClientRequestToken": "a" * 129}, "'clientRequestToken' failed"),
        ({"Tags": [{"Key": "k", "Value": "v" * 257}]}, "less than or equal to 256"),
        ({"OnFailure": "PANIC"}, "enum value set: [DO_NOTHING, ROLLBACK, DELETE]"),
    ],
)
def test_invalid_creation_is_refused(account, launch, change, message):
    """CloudFormation's message is raised at once; nothing is created."""
    client = account()
    name = change.pop("StackName", NAME)
    error = refused(launch, client=client, name=name, **change)

    assert error[0] == "ValidationError"
    assert message in error[1]
    assert Census(client.account).of_node("n1") == []


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"AllowedPattern": "a+"},
            "Parameter Word failed to satisfy constraint: must match pattern a+",
        ),
        ({"AllowedValues": ["yes", "no"]}, "Parameter 'Word' must be one of AllowedValues"),
    ],
)
def test_invalid_parameter_is_refused(account, rule, message):
    """The message is CloudFormation's."""
    template = json.loads(SMALL) | {"Parameters": {"Word": {"Type": "String"} | rule}}
    given = [{"ParameterKey": "Word", "ParameterValue": "1"}]
    request = REQUEST | {"TemplateBody": json.dumps(template), "Parameters": given}

    assert refused(account().create_stack, **request) == ("ValidationError", message)


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("describe_stacks", {"Name": "a"}),
        ("delete_stack", {}),
        ("delete_stack", {"StackName": "a", "RetainResources": "Service"}),
        ("create_stack", {"StackName": "a", "Tags": [{"Key": "k", "Value": ""}]}),
    ],
)
def test_invalid_arguments_are_refused_before_the_call(account, operation, arguments):
    """botocore's model checks them, and the call isn't counted."""
    client = account()
    with pytest.raises(ParamValidationError):
        getattr(client, operation)(**arguments)

    assert client.calls[operation] == 0


def test_census_counts_stacks_of_a_node(account, launch, clock):
    """It has the current number and the largest one."""
    client = account()
    census = Census(client.account)
    for number in (1, 2):
        launch(client, f"node-{number}")
        clock.tick(LONG)
        client.delete_stack(StackName=f"node-{number}")
        clock.tick(LONG)
    one_by_one = census.most_at_once("n1")
    launch(client, "node-3")
    launch(client, "node-4")

    assert (one_by_one, census.most_at_once("n1"), census.most_at_once("n2")) == (1, 2, 0)
    assert (census.beside("n1"), census.beside("n2")) == (["CREATE_IN_PROGRESS"], [])
    assert [stack.name for stack in census.standing(prefix="node-")] == ["node-3", "node-4"]
    assert len(census.of_node("n1")) == 2
    assert len(client.describe_stacks()["Stacks"]) == 3
