"""Configuration of botocore, and translation of its errors."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError

from orchestration.domain.errors import StackFailed, Unavailable, Upstream

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

CONFIG = Config(
    connect_timeout=2,
    read_timeout=10,
    max_pool_connections=32,
    retries={"mode": "standard", "total_max_attempts": 4},
)
"""Times in seconds; no request waits long for AWS. botocore retries with exponential backoff and jitter."""

CONFIG_ONE_ATTEMPT = CONFIG.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
"""For calls that the reconciler repeats anyway: a retry would sleep inside its pass."""

CONFIG_PRESIGNING = CONFIG.merge(Config(signature_version="s3v4"))
"""In some regions boto3 presigns with version 2 by default; buckets made since 2020 accept version 4 only."""

CLOUDFORMATION_REFUSALS = frozenset(
    {
        "AccessDenied",
        "InsufficientCapabilitiesException",
        "LimitExceededException",
        "ValidationError",
    }
)
"""Codes after which the same call fails again. Throttling, server errors, expired credentials may pass."""

PERMANENT = CLOUDFORMATION_REFUSALS | {
    "AccessDeniedException",
    "InvalidParameterException",
    "InvalidRequestException",
    "NoSuchBucket",
    "ResourceNotFoundException",
    "SerializationException",
    "ValidationException",
}
"""Codes of mistakes in this service, or in how it is deployed. All other errors of AWS may pass."""


def cloudformation_client(region: str) -> "CloudFormationClient":
    """Return a client for the command line, which has no composition root."""
    return boto3.client("cloudformation", region_name=region, config=CONFIG)


@contextmanager
def upstream_errors(system: str, action: str = "", *, refusals: Collection[str] = ()) -> Iterator[None]:
    """Raise Upstream for every error that botocore raises inside; StackFailed for the codes in `refusals`.

    It is Unavailable if the same call may succeed later. The message names the system and AWS's error code.
    It repeats AWS's own message, which may contain anything, only if `action` says what was attempted:
    "create a-stack".
    """
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        kind = StackFailed if code in refusals else Upstream if code in PERMANENT else Unavailable
        if action:
            raise kind(f"{system} would not {action}: {code}: {error_message(error)}") from error
        raise kind(f"{system} refused a call: {code}.") from error
    except (BotoCoreError, ResponseParserError) as error:
        kind = Upstream if isinstance(error, ParamValidationError) else Unavailable
        if action:
            raise kind(f"{system} could not {action}: {_reason(error)}") from error
        raise kind(f"{system} did not answer.") from error


def error_code(error: ClientError) -> str:
    """Return AWS's code of an error, such as `AccessDenied`."""
    return error.response["Error"]["Code"]


def error_message(error: ClientError) -> str:
    """Return AWS's message of an error, or nothing if it has none."""
    return error.response["Error"].get("Message", "")


def is_absent_stack(error: ClientError) -> bool:
    """Whether CloudFormation reports that a stack does not exist. It has no error code for this."""
    return error_code(error) == "ValidationError" and "does not exist" in error_message(error)


def _reason(error: BotoCoreError | ResponseParserError) -> str:
    # A response that is no XML or JSON, such as a proxy's HTML page. It is no BotoCoreError, and its message
    # repeats the response.
    return "its answer can't be read." if isinstance(error, ResponseParserError) else str(error)
