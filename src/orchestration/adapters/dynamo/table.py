"""One DynamoDB table: get, put, conditional update, query, scan; never read, change, write back."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from orchestration.adapters.dynamo.changes import Change, stored
from orchestration.aws import upstream_errors
from orchestration.domain.errors import OrchestrationError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import UpdateTypeDef

Item = dict[str, Any]

LONGEST_KEY = 2048
"""Bytes that DynamoDB takes in a partition key."""


class ConditionFailed(OrchestrationError):
    """A conditional write found something else than was expected; `item` is what it found, if anything."""

    def __init__(self, item: Item | None) -> None:
        super().__init__("The item is not as expected.")
        self.item = item


class PartFailed(OrchestrationError):
    """One of several changes was not as expected, so none was made; `position` says which, from 0."""

    def __init__(self, position: int) -> None:
        super().__init__("An item is not as expected.")
        self.position = position


@dataclass(frozen=True, slots=True)
class Table:
    """A table by its name. `client` is the resource's client, which takes and gives Python values."""

    client: "DynamoDBClient"
    name: str

    def get(self, **key: str) -> Item | None:
        """Return the item with this key, read consistently, or None.

        DynamoDB refuses a key that is empty or too long; a caller's mistake must not look like its failure.
        """
        if not all(0 < len(value.encode()) <= LONGEST_KEY for value in key.values()):
            return None
        with upstream_errors("DynamoDB"):
            return self.client.get_item(TableName=self.name, Key=key, ConsistentRead=True).get("Item")

    def put(self, item: Mapping[str, Any]) -> None:
        """Write a whole item of our own."""
        with upstream_errors("DynamoDB"):
            self.client.put_item(TableName=self.name, Item=_present(item))

    def update(self, key: Mapping[str, str], *, quietly: bool = False, **change: Any) -> Item:
        """Change single attributes, as `Change` names them, and return the item as it is then.

        Where nobody looks at it, `quietly` spares the way of an item with a long history: nothing is
        returned. Raises ConditionFailed.
        """
        with upstream_errors("DynamoDB"):
            try:
                answer = self.client.update_item(
                    TableName=self.name,
                    Key=dict(key),
                    **Change(**change).arguments(),
                    ReturnValues="NONE" if quietly else "ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="NONE" if quietly else "ALL_OLD",
                )
                return answer.get("Attributes", {})
            except ClientError as error:
                if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                    raise ConditionFailed(_found(error)) from error
                raise

    def part(self, key: Mapping[str, str], **change: Any) -> "UpdateTypeDef":
        """Return such a change as a part of `together`."""
        arguments = Change(**change).arguments()
        return cast("UpdateTypeDef", {"TableName": self.name, "Key": dict(key), **arguments})

    def together(self, *parts: "UpdateTypeDef") -> None:
        """Carry out all of these changes or none. Raises PartFailed when one's condition doesn't hold."""
        with upstream_errors("DynamoDB"):
            try:
                self.client.transact_write_items(TransactItems=[{"Update": part} for part in parts])
            except self.client.exceptions.TransactionCanceledException as error:
                codes = [reason.get("Code") for reason in error.response.get("CancellationReasons", ())]
                if "ConditionalCheckFailed" in codes:
                    raise PartFailed(codes.index("ConditionalCheckFailed")) from error
                raise

    def query(self, index: str | None, key: Any, **options: Any) -> Iterator[Item]:
        """Return the items of an index, or of the table itself, page by page, eventually consistent."""
        options |= {"IndexName": index} if index else {}
        return self._pages(self.client.query, KeyConditionExpression=key, **options)

    def scan(self, index: str | None = None, **options: Any) -> Iterator[Item]:
        """Return every item of the table, consistently, or of an index, which lags behind; page by page."""
        options |= {"IndexName": index} if index else {"ConsistentRead": True}
        return self._pages(self.client.scan, **options)

    def _pages(self, operation: Callable[..., Any], **options: Any) -> Iterator[Item]:
        with upstream_errors("DynamoDB"):
            while True:
                page = operation(TableName=self.name, **options)
                yield from page["Items"]
                if "LastEvaluatedKey" not in page:
                    return
                options["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _found(error: ClientError) -> Item | None:
    response: Mapping[str, Any] = error.response
    return response.get("Item")


def _present(item: Mapping[str, Any]) -> Item:
    return {name: stored(value) for name, value in item.items() if value is not None}
