"""The configuration of botocore, and the translation of its errors."""

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, NoCredentialsError, ParamValidationError
from botocore.parsers import ResponseParserError

from orchestration import aws
from orchestration.aws import CLOUDFORMATION_REFUSALS, PERMANENT, is_absent_stack, upstream_errors
from orchestration.domain.errors import StackFailed, Unavailable, Upstream


def an_error(code="AccessDenied", **more):
    return ClientError({"Error": {"Code": code, **more}}, "AnyOperation")


PASSING = (
    "ExpiredTokenException",
    "InternalServerError",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingException",
    "TransactionConflictException",
)
UNREADABLE = ResponseParserError("Unable to parse response: <!doctype html>")
TIMED_OUT = ConnectTimeoutError(endpoint_url="https://s3.test")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (an_error(Message="a secret"), "S3 refused a call: AccessDenied."),
        (TIMED_OUT, "S3 did not answer."),
        (UNREADABLE, "S3 did not answer."),
    ],
)
def test_botocore_errors_become_upstream(error, message):
    """The message leaves out AWS's own, which may contain anything; the original error is the cause."""
    with pytest.raises(Upstream) as caught, upstream_errors("S3"):
        raise error

    assert str(caught.value) == message
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (an_error(Message="not you"), "ECS would not list tasks: AccessDenied: not you"),
        (an_error(), "ECS would not list tasks: AccessDenied: "),
        (TIMED_OUT, 'ECS could not list tasks: Connect timeout on endpoint URL: "https://s3.test"'),
        (UNREADABLE, "ECS could not list tasks: its answer can't be read."),
    ],
)
def test_message_with_an_action_says_why_it_failed(error, message):
    """The message repeats that of AWS, but not a response that is neither XML nor JSON."""
    with pytest.raises(Upstream) as caught, upstream_errors("ECS", "list tasks"):
        raise error

    assert str(caught.value) == message
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("code", "kind"),
    [*((code, StackFailed) for code in sorted(CLOUDFORMATION_REFUSALS)), ("Throttling", Unavailable)],
)
def test_refusal_is_a_failed_stack(code, kind):
    """Repeating the call does not help; after throttling, it does."""
    with pytest.raises(Upstream) as caught, upstream_errors("CFN", "act", refusals=CLOUDFORMATION_REFUSALS):
        raise an_error(code)

    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        *((an_error(code), Upstream) for code in sorted(PERMANENT)),
        (ParamValidationError(report="Missing required parameter"), Upstream),
        *((an_error(code), Unavailable) for code in PASSING),
        (TIMED_OUT, Unavailable),
        (UNREADABLE, Unavailable),
        (NoCredentialsError(), Unavailable),
    ],
    ids=str,
)
def test_failure_that_may_pass_is_unavailable(error, kind):
    """A mistake of this service or of its deployment fails again."""
    with pytest.raises(Upstream) as caught, upstream_errors("DynamoDB"):
        raise error

    assert type(caught.value) is kind


def test_other_errors_are_not_translated():
    """A bug must not look like an unreachable AWS."""
    with pytest.raises(KeyError), upstream_errors("S3"):
        raise KeyError("x")


@pytest.mark.parametrize(
    ("error", "is_absent"),
    [
        (an_error("ValidationError", Message="Stack with id a-stack does not exist"), True),
        (an_error("ValidationError", Message="1 validation error detected"), False),
        (an_error("ValidationError"), False),
        (an_error("Throttling", Message="does not exist"), False),
    ],
)
def test_absent_stack_is_recognized_by_code_and_message(error, is_absent):
    """CloudFormation has no error code for an absent stack."""
    assert is_absent_stack(error) is is_absent


def test_every_configuration_has_timeouts_and_standard_retries():
    """No call blocks a worker for long."""
    for config, attempts in ((aws.CONFIG, 4), (aws.CONFIG_PRESIGNING, 4), (aws.CONFIG_ONE_ATTEMPT, 1)):
        assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (2, 10, 32)
        assert config.retries == {"mode": "standard", "total_max_attempts": attempts}


def test_command_line_uses_the_same_configuration():
    """The client is for the region of the settings."""
    client = aws.cloudformation_client("eu-west-1")

    assert client.meta.region_name == "eu-west-1"
    assert (client.meta.config.connect_timeout, client.meta.config.read_timeout) == (2, 10)
    assert client.meta.config.retries["total_max_attempts"] == 4
