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
        "Outputs": {"Said": {"Value": {"Fn::Join": ["-", ["they", {"Ref": "Word"}]]}}},
    }
)
ASKED = {
    "StackName": "a-stack",
    "TemplateBody": SMALL,
    "Parameters": [{"ParameterKey": "Word", "ParameterValue": "said"}],
    "Tags": [{"Key": "whose", "Value": "ours"}],
}


class TestOnBoth:
    """What moto knows as well is the same on it."""

    @pytest.fixture(params=["fake", pytest.param("moto", marks=pytest.mark.moto)])
    def client(self, request, clock, monkeypatch):
        if request.param == "fake":
            yield FakeCloudFormation(clock, durations=Durations(create=0, delete=0))
            return
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        with mock_aws():
            yield boto3.client("cloudformation", region_name="us-east-1")

    def test_a_stack_that_was_created_is_described(self, client):
        """With what it was made of, and what came out."""
        arn = client.create_stack(**ASKED)["StackId"]

        (by_name,) = client.describe_stacks(StackName="a-stack")["Stacks"]
        (by_arn,) = client.describe_stacks(StackName=arn)["Stacks"]
        assert by_name == by_arn
        assert (by_arn["StackId"], by_arn["StackName"]) == (arn, "a-stack")
        assert by_arn["StackStatus"] == "CREATE_COMPLETE"
        assert (by_arn["Parameters"], by_arn["Tags"]) == (ASKED["Parameters"], ASKED["Tags"])
        assert by_arn["Outputs"] == [{"OutputKey": "Said", "OutputValue": "they-said"}]

    def test_a_name_is_taken_once(self, client):
        """Its exception is one of the client's own."""
        client.create_stack(**ASKED)

        with pytest.raises(client.exceptions.AlreadyExistsException, match=r"\[?a-stack\]? already exists"):
            client.create_stack(**ASKED)

    def test_a_deleted_stack_is_found_by_its_arn_only(self, client):
        """Its name is free again."""
        arn = client.create_stack(**ASKED)["StackId"]
        client.delete_stack(StackName="a-stack")

        assert refused(client.describe_stacks, StackName="a-stack") == (
            "ValidationError",
            "Stack with id a-stack does not exist",
        )
        assert status_of(client, arn) == "DELETE_COMPLETE"
        assert client.describe_stacks()["Stacks"] == []
        assert client.create_stack(**ASKED)["StackId"] != arn

    def test_events_come_with_the_newest_first(self, client):
        """The stack's own name itself."""
        arn = client.create_stack(**ASKED)["StackId"]

        pages = client.get_paginator("describe_stack_events").paginate(StackName=arn)
        events = [event for page in pages for event in page["StackEvents"]]
        own = [event["ResourceStatus"] for event in events if event["PhysicalResourceId"] == arn]
        assert own == ["CREATE_COMPLETE", "CREATE_IN_PROGRESS"]

    def test_deleting_what_is_not_there_is_no_error(self, client):
        """By its name; somebody else may have been faster."""
        client.delete_stack(StackName="nobody")

        assert client.describe_stacks()["Stacks"] == []


BEGINS, NOTHING = "begins", "nothing"
DELETIONS = dict.fromkeys(STATUSES, BEGINS) | {
    "DELETE_COMPLETE": NOTHING,
    "DELETE_IN_PROGRESS": NOTHING,
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
AT_REST = {
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
    """A stack in each status, and its ARN."""
    client = account()
    arn = launch(client)
    clock.tick(LONG)
    Operator(client).put(NAME, request.param)
    return client, arn, request.param


def test_a_stack_can_be_deleted_in_some_statuses(in_status):
    """Elsewhere CloudFormation refuses, and the status stays."""
    client, arn, status = in_status
    outcome = DELETIONS.get(status, BEGINS)

    if outcome == "refused":
        told = refused(client.delete_stack, StackName=arn)
        assert told == ("ValidationError", f"Stack [{arn}] cannot be deleted while in status {status}")
    else:
        client.delete_stack(StackName=arn)
    assert status_of(client, arn) == ("DELETE_IN_PROGRESS" if outcome == BEGINS else status)


@pytest.mark.parametrize("operation", ROLLBACKS)
def test_an_operation_can_be_taken_back_in_few_statuses(in_status, operation):
    """Each has its own."""
    client, arn, status = in_status
    becomes = ROLLBACKS[operation].get(status)

    if becomes is None:
        code, message = refused(getattr(client, operation), StackName=arn)
        assert code == "ValidationError"
        assert message.endswith(("cannot be called from current stack status", "does not exist"))
    else:
        getattr(client, operation)(StackName=arn)
    assert status_of(client, arn) == (becomes or status)


def test_a_name_is_taken_until_the_stack_is_gone(in_status, launch):
    """In any status but one."""
    client, arn, status = in_status

    if status == "DELETE_COMPLETE":
        assert launch(client) != arn
    else:
        with pytest.raises(client.exceptions.AlreadyExistsException):
            launch(client)


@pytest.mark.parametrize("option", [{"RetainResources": [SERVICE]}, {"DeletionMode": "FORCE_DELETE_STACK"}])
def test_only_a_failed_deletion_takes_more_than_a_plain_one(in_status, option):
    """Neither force nor resources to retain before."""
    client, arn, status = in_status
    if status == "DELETE_FAILED":
        client.delete_stack(StackName=arn, **option)
    elif status != "DELETE_COMPLETE":
        assert refused(client.delete_stack, StackName=arn, **option)[0] == "ValidationError"

    assert status_of(client, arn) == ("DELETE_IN_PROGRESS" if status == "DELETE_FAILED" else status)


@pytest.mark.parametrize("status", [status for status in EVERY if status != "DELETE_COMPLETE"])
def test_an_operator_can_update_what_is_at_rest(account, launch, clock, status):
    """Updates and imports are refused elsewhere, in CloudFormation's words."""
    client = account()
    arn = launch(client)
    Operator(client).put(NAME, status)
    rests = status in AT_REST

    if rests:
        Operator(client).update(NAME)
    else:
        told = refused(Operator(client).update, name=NAME)
        assert told == ("ValidationError", f"Stack:{arn} is in {status} state and can not be updated.")
    assert status_of(client) == ("UPDATE_IN_PROGRESS" if rests else status)


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


def test_every_status_is_reached_as_on_aws(account, launch, clock):
    """Without anybody putting a stack there; a status that CloudFormation adds is missed here."""
    seen = set()
    for fate, options, steps in WAYS:
        client = account(fate)
        launch(client, **options)
        for step in steps:
            clock.tick(LONG)
            step(client)
        clock.tick(LONG)
        Operator(client).review("begun")
        client.describe_stacks()
        seen |= {snapshot.status for stack in client.account.all for snapshot in stack.history}

    assert seen == set(STATUSES)


def test_a_creation_takes_its_time(account, launch, clock):
    """Nothing but the clock moves it."""
    client = account()
    launch(client)

    seen = []
    for _ in range(4):
        (stack,) = client.describe_stacks(StackName=NAME)["Stacks"]
        seen.append((stack["StackStatus"], "Outputs" in stack))
        clock.tick(50)
    assert seen == [("CREATE_IN_PROGRESS", False)] * 3 + [("CREATE_COMPLETE", True)]


def test_the_first_failure_has_a_reason_and_the_others_are_its_consequence(account, launch, clock):
    """So that whoever reads the events can tell which is which."""
    client = account(Fate(creation=Creation.FAILS, fails_at="LoadBalancer", reason="Quota exceeded"))
    launch(client)
    clock.tick(LONG)

    assert failures(client) == [
        ("LoadBalancerBE9EEC3A", "Quota exceeded"),
        ("Target3191CF44", "Resource creation cancelled"),
    ]
    assert status_of(client) == "ROLLBACK_COMPLETE"
    assert Census(client.account).live_services() == []


def test_a_service_that_never_gets_stable_waits_for_the_circuit_breaker(account, launch, clock):
    """It costs money until then, and is rolled back after."""
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
def test_a_creation_that_never_ends_can_be_deleted(account, launch, clock, fate):
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
def test_deletions_end_as_the_fate_says(account, launch, clock, deletion, tries, statuses, leaks):
    """What is retained or left behind by force is still there, and still costs money."""
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


def test_retaining_one_resource_of_two_that_stick_does_not_help(account, launch, clock):
    """Only by force does such a stack go."""
    client = account(Fate(deletion=Deletion.NEEDS_FORCE))
    arn = launch(client)
    clock.tick(LONG)
    client.delete_stack(StackName=arn)
    clock.tick(LONG)
    client.delete_stack(StackName=arn, RetainResources=[SERVICE])
    clock.tick(LONG)

    assert status_of(client, arn) == "DELETE_FAILED"


@pytest.mark.parametrize("resource", ["Nobody", "Target3191CF44"])
def test_only_resources_that_are_still_there_are_retained(account, launch, clock, resource):
    """CloudFormation's own words say so."""
    client = account(Fate(deletion=Deletion.FAILS, stuck="LoadBalancer"))
    arn = launch(client)
    clock.tick(LONG)
    client.delete_stack(StackName=arn)
    clock.tick(LONG)

    told = refused(client.delete_stack, StackName=arn, RetainResources=[resource])
    assert "must be in a valid state" in told[1]


def test_termination_protection_refuses_without_a_change_of_status(account, launch, clock):
    """Until somebody switches it off."""
    client = account(Fate(protected=True))
    launch(client)
    clock.tick(LONG)

    told = refused(client.delete_stack, StackName=NAME)
    assert told == (
        "ValidationError",
        f"Stack [{NAME}] cannot be deleted while TerminationProtection is enabled",
    )
    (stack,) = client.describe_stacks(StackName=NAME)["Stacks"]
    assert (stack["StackStatus"], stack["EnableTerminationProtection"]) == ("CREATE_COMPLETE", True)
    client.update_termination_protection(StackName=NAME, EnableTerminationProtection=False)
    client.delete_stack(StackName=NAME)
    assert status_of(client) == "DELETE_IN_PROGRESS"


def test_the_same_request_again_is_answered_as_before(account, launch, clock):
    """One stack, whoever asks how often."""
    client = account()
    first = launch(client, ClientRequestToken="launch-1")
    clock.tick(LONG)
    again = launch(client, ClientRequestToken="launch-1")

    assert first == again
    assert len(Census(client.account).of_node("n1")) == 1


def test_a_token_serves_one_request_only(account, launch):
    """Another one is refused with an exception of its own."""
    client = account()
    launch(client, ClientRequestToken="launch-1")

    with pytest.raises(client.exceptions.TokenAlreadyExistsException):
        launch(client, "another", ClientRequestToken="launch-1")
    with pytest.raises(client.exceptions.TokenAlreadyExistsException):
        client.cancel_update_stack(StackName=NAME, ClientRequestToken="launch-1")


def test_a_deletion_with_the_token_of_one_that_failed_does_nothing(account, launch, clock):
    """It counts as a repetition; a new token tries again."""
    client = account(Fate(deletion=Deletion.FAILS))
    arn = launch(client)
    seen = []
    for token in ("delete-1", "delete-1", "delete-2"):
        clock.tick(LONG)
        client.delete_stack(StackName=arn, ClientRequestToken=token)
        seen.append(status_of(client, arn))

    assert seen == ["DELETE_IN_PROGRESS", "DELETE_FAILED", "DELETE_IN_PROGRESS"]


def test_a_rollback_that_failed_is_continued(account, launch, clock):
    """Again in vain, or without the resource that it fails at."""
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


def test_a_cancelled_update_is_rolled_back_once(account, launch, clock):
    """The old resources serve all the time; the same token again is no second cancelling."""
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


def test_a_creation_that_was_left_failed_is_rolled_back_on_request(account, launch, clock):
    """That answers with the stack's ARN."""
    client = account(Fate(creation=Creation.NEVER_STABLE))
    arn = launch(client, OnFailure="DO_NOTHING")
    clock.tick(LONG)
    before = status_of(client), Census(client.account).live_services()
    answer = client.rollback_stack(StackName=NAME)
    clock.tick(LONG)

    assert before == ("CREATE_FAILED", [NAME])
    assert answer["StackId"] == arn
    assert (status_of(client), Census(client.account).live_services()) == ("ROLLBACK_COMPLETE", [])


def test_descriptions_lag_behind(account, launch, clock):
    """Not there yet; the state before; the events as well. Only looking lags."""
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


def test_how_far_a_description_lags_is_drawn_and_repeatable(clock, template, launch):
    """From the generator that the test passes in."""
    draws = []
    for _ in range(2):
        client = FakeCloudFormation(clock, lag=10.0, rng=random.Random(4))
        launch(client)
        clock.tick(155)
        draws.append([status_of(client) for _ in range(50)])

    assert draws[0] == draws[1]
    assert set(draws[0]) == {"CREATE_IN_PROGRESS", "CREATE_COMPLETE"}


def test_some_calls_are_throttled(account):
    """With a probability, and both are counted."""
    client = account(throttle=0.3, rng=random.Random(1))
    told = []
    for _ in range(1000):
        try:
            client.describe_stacks()
        except ClientError as error:
            told.append(error.response["Error"])

    assert told[0] == {"Type": "Sender", "Code": "Throttling", "Message": "Rate exceeded"}
    assert len(told) == client.throttled["describe_stacks"]
    assert 250 < len(told) < 350
    assert client.calls["describe_stacks"] == 1000


def test_an_answer_may_get_lost(account, launch, clock):
    """The stack is there all the same; the same request again is answered with it."""
    client = account(unanswered=lambda operation: operation == "create_stack")
    with pytest.raises(ReadTimeoutError):
        launch(client, ClientRequestToken="launch-1")
    client.unanswered = 0.0
    arn = launch(client, ClientRequestToken="launch-1")

    assert [stack.stack_id for stack in Census(client.account).of_node("n1")] == [arn]
    assert client.calls["create_stack"] == 2


def test_a_bucket_throttles_by_rate(account, clock):
    """Five a second here, ten at once; what has no rate isn't throttled."""
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


def test_all_stacks_come_in_pages(account, launch, clock):
    """Each once, although some go meanwhile; ListStacks has the deleted ones too."""
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


def test_events_come_in_pages(account, launch, clock):
    """All of them, whatever the size of a page."""
    launch(small := account(page=3))
    launch(large := account())
    clock.tick(LONG)

    pages = list(small.get_paginator("describe_stack_events").paginate(StackName=NAME))
    ids = [event["EventId"] for page in pages for event in page["StackEvents"]]
    assert len(pages) > 3
    whole = large.describe_stack_events(StackName=NAME)["StackEvents"]
    assert ids == [event["EventId"] for event in whole]


def test_resources_are_shown_with_their_status(account, launch, clock):
    """In both ways that CloudFormation has for it."""
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


def test_more_stacks_than_allowed_are_refused(account, launch, clock):
    """One that goes makes room for the next."""
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
def test_a_creation_that_makes_no_sense_is_refused(account, launch, change, message):
    """At once and in CloudFormation's words; nothing is made."""
    client = account()
    name = change.pop("StackName", NAME)
    told = refused(launch, client=client, name=name, **change)

    assert told[0] == "ValidationError"
    assert message in told[1]
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
def test_a_parameter_must_be_as_the_template_says(account, rule, message):
    """Each in CloudFormation's words."""
    template = json.loads(SMALL) | {"Parameters": {"Word": {"Type": "String"} | rule}}
    given = [{"ParameterKey": "Word", "ParameterValue": "1"}]
    asked = ASKED | {"TemplateBody": json.dumps(template), "Parameters": given}

    assert refused(account().create_stack, **asked) == ("ValidationError", message)


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("describe_stacks", {"Name": "a"}),
        ("delete_stack", {}),
        ("delete_stack", {"StackName": "a", "RetainResources": "Service"}),
        ("create_stack", {"StackName": "a", "Tags": [{"Key": "k", "Value": ""}]}),
    ],
)
def test_what_boto3_would_not_send_is_not_taken(account, operation, arguments):
    """It is checked by botocore's own model, and never counts as a call."""
    client = account()
    with pytest.raises(ParamValidationError):
        getattr(client, operation)(**arguments)

    assert client.calls[operation] == 0


def test_the_census_knows_how_many_stood_beside_each_other(account, launch, clock):
    """Ever, and now."""
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
