"""One DynamoDB table: get, put, conditional update, query and scan. Nothing is read, changed and put back."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from boto3.dynamodb.conditions import ConditionBase, ConditionExpressionBuilder
from botocore.exceptions import ClientError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from orchestration.aws import error_code, upstream_errors
from orchestration.domain.errors import OrchestrationError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import UpdateTypeDef

Item = dict[str, Any]

LONGEST_KEY = 2048
"""Bytes that DynamoDB takes in a partition key."""

MOST_ATTEMPTS = 5
WAIT = wait_random_exponential(multiplier=0.05, max=0.5)
"""Seconds between two attempts, with jitter: a conflicting transaction ends within some milliseconds."""

CONFLICTS = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
"""Reasons why DynamoDB cancels a transaction that may succeed at the next attempt."""


class ConditionFailed(OrchestrationError):
    """The condition of an update does not hold; nothing was written."""


class TransactionFailed(OrchestrationError):
    """The condition of one update in a transaction does not hold; nothing was written.

    `position` is the index of that update.
    """

    def __init__(self, position: int) -> None:
        super().__init__("A condition does not hold.")
        self.position = position


@dataclass(frozen=True, slots=True)
class Table:
    """A table by its name. `client` is the client of boto3's resource: it takes and returns Python values.

    Every method raises Upstream. A write that conflicts with a transaction is repeated, after a pause for
    which `sleep` is called: botocore doesn't repeat it.
    """

    client: "DynamoDBClient"
    name: str
    sleep: Callable[[float], None] = time.sleep

    def get(self, **key: str) -> Item | None:
        """Return the item with this key, read consistently, or None.

        None also for a key that DynamoDB refuses to look up because it is empty or too long.
        """
        if not all(0 < len(value.encode()) <= LONGEST_KEY for value in key.values()):
            return None
        with upstream_errors("DynamoDB"):
            return self.client.get_item(TableName=self.name, Key=key, ConsistentRead=True).get("Item")

    def put(self, item: Mapping[str, Any]) -> None:
        """Write a whole item; attributes that are None are left out."""
        kept = {name: stored(value) for name, value in item.items() if value is not None}
        with upstream_errors("DynamoDB"):
            for attempt in self._attempts():
                with attempt:
                    self.client.put_item(TableName=self.name, Item=kept)

    def update(self, key: Mapping[str, str], *, quietly: bool = False, **change: Any) -> Item:
        """Change single attributes and return the item after the change. Raises ConditionFailed.

        `change` takes the fields of `Change`. With `quietly`, an empty dict is returned, which saves sending
        an item with a long history.
        """
        request = self.update_request(key, **change)
        with upstream_errors("DynamoDB"):
            try:
                for attempt in self._attempts():
                    with attempt:
                        answer = self.client.update_item(
                            **request, ReturnValues="NONE" if quietly else "ALL_NEW"
                        )
            except self.client.exceptions.ConditionalCheckFailedException as error:
                raise ConditionFailed("A condition does not hold.") from error
        return answer.get("Attributes", {})

    def update_request(self, key: Mapping[str, str], **change: Any) -> "UpdateTypeDef":
        """Return an update for `transact`. `change` takes the fields of `Change`."""
        expressions = Change(**change).expressions()
        return cast("UpdateTypeDef", {"TableName": self.name, "Key": dict(key), **expressions})

    def transact(self, *updates: "UpdateTypeDef") -> None:
        """Make all of these updates or none. Raises TransactionFailed."""
        with upstream_errors("DynamoDB"):
            try:
                for attempt in self._attempts():
                    with attempt:
                        self.client.transact_write_items(
                            TransactItems=[{"Update": update} for update in updates]
                        )
            except self.client.exceptions.TransactionCanceledException as error:
                codes = _reasons(error)
                if "ConditionalCheckFailed" in codes:
                    raise TransactionFailed(codes.index("ConditionalCheckFailed")) from error
                raise

    def _attempts(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception(_is_conflict),
            wait=WAIT,
            stop=stop_after_attempt(MOST_ATTEMPTS),
            sleep=self.sleep,
            reraise=True,
        )

    def query(self, index: str | None, key: ConditionBase, **options: Any) -> Iterator[Item]:
        """Yield the items of a partition of an index, or of the table, eventually consistent."""
        options |= {"TableName": self.name, "KeyConditionExpression": key}
        options |= {"IndexName": index} if index else {}
        return _items(lambda start: self.client.query(**options, **start))

    def scan(self, index: str | None = None, **options: Any) -> Iterator[Item]:
        """Yield all items of the table, read consistently, or of an index, eventually consistent."""
        options |= {"TableName": self.name}
        options |= {"IndexName": index} if index else {"ConsistentRead": True}
        return _items(lambda start: self.client.scan(**options, **start))


def _is_conflict(error: BaseException) -> bool:
    """Return whether another transaction was writing the same item, or a transaction was throttled."""
    if not isinstance(error, ClientError):
        return False
    if error_code(error) == "TransactionCanceledException":
        return {"None"} < {*_reasons(error), "None"} <= CONFLICTS | {"None"}
    return error_code(error) == "TransactionConflictException"


def _reasons(cancelled: ClientError) -> list[Any]:
    """Return the code for each update of a cancelled transaction, "None" where it was not the reason."""
    return [reason.get("Code") for reason in cancelled.response.get("CancellationReasons", ())]


def _items(page_from: Callable[[Mapping[str, Any]], Any]) -> Iterator[Item]:
    """Yield the items of all pages. botocore's paginator evaluates JMESPath per page, which costs more."""
    start: Mapping[str, Any] | None = {}
    with upstream_errors("DynamoDB"):
        while start is not None:
            page = page_from(start)
            yield from page["Items"]
            last = page.get("LastEvaluatedKey")
            start = {"ExclusiveStartKey": last} if last else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An update of one item, by attributes."""

    put: Mapping[str, Any] = field(default_factory=dict)
    """New values; None removes the attribute."""
    put_inside: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    """New values inside a map: (attribute, name) to value. The map must exist."""
    default: Mapping[str, Any] = field(default_factory=dict)
    """Values for attributes that do not exist yet."""
    move: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    """Attribute to (new name, value that replaces it and that is moved where there is none)."""
    add: Mapping[str, float] = field(default_factory=dict)
    """Amounts to add; a missing attribute counts as 0."""
    remove: Iterable[str] = ()
    when: ConditionBase | None = None
    """Condition that the item must meet."""

    def expressions(self) -> dict[str, Any]:
        """Return the update and condition expressions, with the names and values of their placeholders."""
        made = _Expressions()
        for name, value in self.put.items():
            if value is None:
                made.clauses["REMOVE"].append(made.name(name))
            else:
                made.clauses["SET"].append(f"{made.name(name)} = {made.value(value)}")
        for (name, inner), value in self.put_inside.items():
            made.clauses["SET"].append(f"{made.name(name)}.{made.name(inner)} = {made.value(value)}")
        for name, value in self.default.items():
            place = made.name(name)
            made.clauses["SET"].append(f"{place} = if_not_exists({place}, {made.value(value)})")
        for name, (target, empty) in self.move.items():
            # All of SET sees the item as it was, so an amount that is added meanwhile is not lost.
            place, left = made.name(name), made.value(empty)
            made.clauses["SET"] += [
                f"{made.name(target)} = if_not_exists({place}, {left})",
                f"{place} = {left}",
            ]
        made.clauses["ADD"] += [f"{made.name(name)} {made.value(n)}" for name, n in self.add.items()]
        made.clauses["REMOVE"] += [made.name(name) for name in self.remove]
        return made.arguments(self.when)


class _Expressions:
    """Clauses of an update, with placeholders that begin with `u`: boto3's conditions use other letters."""

    def __init__(self) -> None:
        self.clauses: dict[str, list[str]] = {"SET": [], "ADD": [], "REMOVE": []}
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    def name(self, name: str) -> str:
        place = f"#u{len(self._names)}"
        self._names[place] = name
        return place

    def value(self, value: Any) -> str:
        place = f":u{len(self._values)}"
        self._values[place] = stored(value)
        return place

    def arguments(self, when: ConditionBase | None) -> dict[str, Any]:
        update = " ".join(f"{clause} {', '.join(parts)}" for clause, parts in self.clauses.items() if parts)
        arguments: dict[str, Any] = {"UpdateExpression": update}
        names, values = self._names, self._values
        if when is not None:
            condition = ConditionExpressionBuilder().build_expression(when)
            arguments["ConditionExpression"] = condition.condition_expression
            names = names | condition.attribute_name_placeholders
            values = values | condition.attribute_value_placeholders
        arguments["ExpressionAttributeNames"] = names
        return arguments | ({"ExpressionAttributeValues": values} if values else {})


def stored(value: Any) -> Any:
    """Return a value with its floats as decimals of 17 digits at most; DynamoDB takes 38."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, list | tuple):
        return [stored(part) for part in value]
    if isinstance(value, dict):
        return {name: stored(part) for name, part in value.items()}
    return value
