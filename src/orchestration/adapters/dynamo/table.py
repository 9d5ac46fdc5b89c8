"""One DynamoDB table: get, put, conditional update, query, scan; never read, change, write back."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import ConditionBase
from botocore.exceptions import ClientError

from orchestration.adapters.aws_errors import upstream_errors
from orchestration.domain.errors import OrchestrationError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = dict[str, Any]


class ConditionFailed(OrchestrationError):
    """A conditional write found something else than was expected; `item` is what it found, if anything."""

    def __init__(self, item: Item | None) -> None:
        super().__init__("The item is not as expected.")
        self.item = item


@dataclass(frozen=True, slots=True)
class Table:
    """A table by its name. `client` is the resource's client, which takes and gives Python values."""

    client: "DynamoDBClient"
    name: str

    def get(self, **key: str) -> Item | None:
        """Return the item with this key, read consistently, or None."""
        with upstream_errors("DynamoDB"):
            return self.client.get_item(TableName=self.name, Key=key, ConsistentRead=True).get("Item")

    def put(self, item: Mapping[str, Any]) -> None:
        """Write a whole item of our own."""
        with upstream_errors("DynamoDB"):
            self.client.put_item(TableName=self.name, Item=_present(item))

    def update(
        self,
        key: Mapping[str, str],
        *,
        put: Mapping[str, Any] | None = None,
        put_inside: Mapping[tuple[str, str], Any] | None = None,
        default: Mapping[str, Any] | None = None,
        move: Mapping[str, tuple[str, Any]] | None = None,
        add: Mapping[str, float] | None = None,
        remove: Iterable[str] = (),
        when: ConditionBase | None = None,
    ) -> Item:
        """Change single attributes and return the item as it is then.

        A None among `put` removes; `put_inside` sets a name of a map that is there; `default` is put where
        there is no value yet; `move` takes a value to another name and leaves an empty one. Raises
        ConditionFailed.
        """
        clauses = _Clauses()
        for name, value in (put or {}).items():
            if value is None:
                clauses.remove(name)
            else:
                clauses.put(name, value)
        for path, value in (put_inside or {}).items():
            clauses.put_inside(path, value)
        for name, value in (default or {}).items():
            clauses.default(name, value)
        for source, (target, nothing) in (move or {}).items():
            clauses.move(source, target, nothing)
        for name, amount in (add or {}).items():
            clauses.add(name, amount)
        for name in remove:
            clauses.remove(name)
        return self._update(key, clauses, when)

    def _update(self, key: Mapping[str, str], clauses: "_Clauses", when: ConditionBase | None) -> Item:
        condition: Any = {} if when is None else {"ConditionExpression": when}
        with upstream_errors("DynamoDB"):
            try:
                return self.client.update_item(
                    TableName=self.name,
                    Key=dict(key),
                    ReturnValues="ALL_NEW",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **clauses.arguments(),
                    **condition,
                )["Attributes"]
            except ClientError as error:
                if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                    raise ConditionFailed(_found(error)) from error
                raise

    def query(self, index: str, key: Any, **options: Any) -> Iterator[Item]:
        """Return the items of an index, page by page, eventually consistent."""
        pages = self.client.get_paginator("query")
        with upstream_errors("DynamoDB"):
            for page in pages.paginate(
                TableName=self.name, IndexName=index, KeyConditionExpression=key, **options
            ):
                yield from page["Items"]

    def scan(self) -> Iterator[Item]:
        """Return every item, page by page."""
        with upstream_errors("DynamoDB"):
            for page in self.client.get_paginator("scan").paginate(TableName=self.name, ConsistentRead=True):
                yield from page["Items"]


class _Clauses:
    """An update expression in the making; placeholders begin with `u`, boto3's own conditions use others."""

    def __init__(self) -> None:
        self.parts: dict[str, list[str]] = {"SET": [], "ADD": [], "REMOVE": []}
        self.names: dict[str, str] = {}
        self.values: dict[str, Any] = {}

    def put_inside(self, path: tuple[str, str], value: Any) -> None:
        self.parts["SET"].append(f"{'.'.join(map(self._name, path))} = {self._value(value)}")

    def put(self, name: str, value: Any) -> None:
        self.parts["SET"].append(f"{self._name(name)} = {self._value(value)}")

    def default(self, name: str, value: Any) -> None:
        place = self._name(name)
        self.parts["SET"].append(f"{place} = if_not_exists({place}, {self._value(value)})")

    def move(self, source: str, target: str, nothing: Any) -> None:
        """All of SET sees the item as it was, so this can't lose what is added meanwhile."""
        place, empty = self._name(source), self._value(nothing)
        self.parts["SET"] += [f"{self._name(target)} = if_not_exists({place}, {empty})", f"{place} = {empty}"]

    def add(self, name: str, amount: float) -> None:
        self.parts["ADD"].append(f"{self._name(name)} {self._value(amount)}")

    def remove(self, name: str) -> None:
        self.parts["REMOVE"].append(self._name(name))

    def arguments(self) -> dict[str, Any]:
        expression = " ".join(f"{word} {', '.join(parts)}" for word, parts in self.parts.items() if parts)
        arguments = {"UpdateExpression": expression, "ExpressionAttributeNames": self.names}
        return arguments | ({"ExpressionAttributeValues": self.values} if self.values else {})

    def _name(self, name: str) -> str:
        place = f"#u{len(self.names)}"
        self.names[place] = name
        return place

    def _value(self, value: Any) -> str:
        place = f":u{len(self.values)}"
        self.values[place] = stored(value)
        return place


def _found(error: ClientError) -> Item | None:
    response: Mapping[str, Any] = error.response
    return response.get("Item")


def _present(item: Mapping[str, Any]) -> Item:
    return {name: stored(value) for name, value in item.items() if value is not None}


def stored(value: Any) -> Any:
    """DynamoDB takes decimals of 38 digits; the shortest text of a float has 17 at most."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, list | tuple):
        return [stored(part) for part in value]
    if isinstance(value, dict):
        return {name: stored(part) for name, part in value.items()}
    return value
