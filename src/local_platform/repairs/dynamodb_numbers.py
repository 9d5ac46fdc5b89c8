"""Addition of DynamoDB numbers: moto takes a number without a point for an integer, and fails on 1E-45."""

from decimal import Decimal

from boto3.dynamodb.types import DYNAMODB_CONTEXT
from moto.dynamodb.models.dynamo_type import DDBType, DynamoType


def add_any_numbers() -> None:
    """Make `ADD` accept every number that `PUT` accepts."""
    DynamoType.__add__ = added


def added(number: DynamoType, other: DynamoType) -> DynamoType:
    """Return the sum, rounded as DynamoDB rounds."""
    context = DYNAMODB_CONTEXT.copy()
    context.clear_traps()
    return DynamoType({DDBType.NUMBER: str(context.add(Decimal(number.value), Decimal(other.value)))})
