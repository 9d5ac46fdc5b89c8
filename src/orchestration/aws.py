"""One translation for every border to AWS: botocore's errors become ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from orchestration.domain.errors import Upstream


@contextmanager
def upstream_errors(system: str) -> Iterator[None]:
    """Raise Upstream, naming the system and AWS's error code, for whatever botocore raises inside."""
    try:
        yield
    except ClientError as error:
        raise Upstream(f"{system} refused a call: {error.response['Error']['Code']}.") from error
    except (
        BotoCoreError,
        ResponseParserError,
    ) as error:  # the second is a page of HTML, and no BotoCoreError
        raise Upstream(f"{system} did not answer.") from error
