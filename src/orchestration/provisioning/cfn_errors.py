"""What botocore raises, translated once into the domain's errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from orchestration.domain.errors import StackFailed, Upstream

_REFUSALS = frozenset(
    {
        "AccessDenied",
        "InsufficientCapabilitiesException",
        "LimitExceededException",
        "ValidationError",
    }
)
"""Asking again will not help. Everything else (throttling, server errors, expired credentials) may pass."""


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise StackFailed where CloudFormation refuses to, Upstream where it can't; `doing` says what."""
    try:
        yield
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        kind = StackFailed if code in _REFUSALS else Upstream
        raise kind(f"CloudFormation would not {doing}: {code}: {message}") from error
    except BotoCoreError as error:
        raise Upstream(f"CloudFormation could not {doing}: {error}") from error
    except ResponseParserError as error:  # a page of HTML, from something in between; no BotoCoreError
        raise Upstream(f"CloudFormation could not {doing}: its answer can't be read.") from error


def is_absent(error: ClientError) -> bool:
    """Whether this says that there is no such stack. CloudFormation has no code of its own for it."""
    told = error.response["Error"]
    return told["Code"] == "ValidationError" and "does not exist" in told["Message"]
