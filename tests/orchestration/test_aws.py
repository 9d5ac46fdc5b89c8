"""Whatever botocore raises becomes one error of ours, with the system's name in it."""

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from botocore.parsers import ResponseParserError

from orchestration.aws import upstream_errors
from orchestration.domain.errors import Upstream

REFUSED = ClientError({"Error": {"Code": "AccessDenied", "Message": "a secret"}}, "GetItem")


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (REFUSED, "S3 refused a call: AccessDenied."),
        (ConnectTimeoutError(endpoint_url="https://s3.test"), "S3 did not answer."),
        (ResponseParserError("Unable to parse response: <!doctype html>"), "S3 did not answer."),
    ],
)
def test_what_goes_wrong_with_a_call_is_upstream(trouble, told):
    """Its cause is kept, its words aren't repeated: they may hold anything."""
    with pytest.raises(Upstream) as caught, upstream_errors("S3"):
        raise trouble

    assert str(caught.value) == told
    assert caught.value.__cause__ is trouble


def test_a_fault_of_ours_stays_one():
    """It must not look like AWS being away."""
    with pytest.raises(KeyError), upstream_errors("S3"):
        raise KeyError("x")
