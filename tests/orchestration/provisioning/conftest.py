"""CloudFormation with responses written by a test, where moto has none."""

from collections.abc import Iterator

import boto3
import pytest
from botocore.stub import Stubber


@pytest.fixture
def client():
    """A client whose calls reach no server."""
    return boto3.client(
        "cloudformation",
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


@pytest.fixture
def answers(client) -> Iterator[Stubber]:
    """CloudFormation's responses, in order; the test must request each of them."""
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()
