"""A CloudFormation whose answers a test writes down, where moto has none to give."""

from collections.abc import Iterator

import boto3
import pytest
from botocore.stub import Stubber


@pytest.fixture
def client():
    """A client that reaches nobody."""
    return boto3.client(
        "cloudformation",
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


@pytest.fixture
def answers(client) -> Iterator[Stubber]:
    """What CloudFormation will say, in order; every answer must be asked for."""
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()
