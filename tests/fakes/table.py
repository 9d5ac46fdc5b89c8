"""DynamoDB in memory, as the client of boto3's resource: the data stack's tables, with their indexes."""

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from types import SimpleNamespace
from typing import Any

from boto3.dynamodb.conditions import ConditionBase, ConditionExpressionBuilder
from boto3.dynamodb.transform import TransformationInjector
from botocore.exceptions import EndpointConnectionError
from botocore.model import Shape

from orchestration.provisioning.synthesizer import TemplateName, load_template
from tests.fakes.aws_client import Answer, Clock, FakeAwsClient, operation
from tests.fakes.expressions import (
    Invalid,
    Item,
    Scope,
    Tree,
    copied,
    kind_of,
    parse_condition,
    placeholders,
    stored,
    update,
)

LARGEST_ITEM = 400 * 1024
LONGEST_KEY = 2048
PAGE = 5
"""Small, so that tests read more than one page."""

EXPRESSIONS = (
    "ConditionExpression",
    "FilterExpression",
    "KeyConditionExpression",
    "ProjectionExpression",
    "UpdateExpression",
)
NAMED = {"TableName", "ExpressionAttributeNames", "ExpressionAttributeValues"}
CHANGE = {"Key", "ConditionExpression", "UpdateExpression"}
READ = {"IndexName", "FilterExpression", "ProjectionExpression", "ExclusiveStartKey", "ConsistentRead"}
READS = ("get_item", "query", "scan")
WRITES = ("put_item", "update_item", "delete_item")
TRANSACTION = "transact_write_items"
LASTING = 10**9
CONDITION_FAILED = "ConditionalCheckFailedException"

Key = tuple[Any, ...]

WHOLE = {"ProjectionType": "ALL"}


@cache
def table_definitions() -> dict[str, dict[str, Any]]:
    """Return the tables that the data stack declares, by their names."""
    resources = load_template(TemplateName.DATA)["Resources"].values()
    declared = [found["Properties"] for found in resources if found["Type"] == "AWS::DynamoDB::Table"]
    wanted = ("TableName", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "BillingMode")
    return {table["TableName"]: {name: table[name] for name in wanted if name in table} for table in declared}


class _Rows:
    """The items of a table, or of an index: those that have all attributes of its key."""

    def __init__(
        self,
        schema: list[dict[str, str]],
        table_key: tuple[str, ...] = (),
        projection: Mapping[str, Any] = WHOLE,
    ) -> None:
        self.key = tuple(part["AttributeName"] for part in schema)
        self.partitions: dict[Any, dict[Key, Item]] = {}
        self._order = tuple(dict.fromkeys(self.key + table_key))
        self._shown = None if projection == WHOLE else {*self._order, *projection.get("NonKeyAttributes", ())}

    def put(self, key: Key, old: Item | None, new: Item | None) -> None:
        """Replace an item."""
        if old is not None and self._has(old):
            del self.partitions[old[self.key[0]]][key]
        if new is not None and self._has(new):
            self.partitions.setdefault(new[self.key[0]], {})[key] = self._projected(new)

    def ordered(self, partition: Any = None, after: Item | None = None) -> list[Item]:
        """Return the items of a partition, or of all, in the order of their keys, after a key."""
        parts = self.partitions.values() if partition is None else [self.partitions.get(partition, {})]
        items = sorted((item for part in parts for item in part.values()), key=self._position)
        return [item for item in items if after is None or self._position(item) > self._position(after)]

    def key_of(self, item: Mapping[str, Any]) -> Item:
        """Return the key from which a query continues after this item."""
        return {name: item[name] for name in self._order}

    def _projected(self, item: Item) -> Item:
        if self._shown is None:
            return item
        return {name: value for name, value in item.items() if name in self._shown}

    def _position(self, item: Mapping[str, Any]) -> Key:
        return tuple(item[name] for name in self._order)

    def _has(self, item: Item) -> bool:
        return all(name in item for name in self.key)


class _Table:
    """`stale` is what eventually consistent reads return, while it is set."""

    def __init__(self, definition: Mapping[str, Any]) -> None:
        indexes = definition.get("GlobalSecondaryIndexes", ())
        self.rows = _Rows(definition["KeySchema"])
        self.indexes = {
            index["IndexName"]: _Rows(index["KeySchema"], self.rows.key, index["Projection"])
            for index in indexes
        }
        self.kinds = {a["AttributeName"]: a["AttributeType"] for a in definition["AttributeDefinitions"]}
        self.items: dict[Key, Item] = {}
        self.stale: _Table | None = None

    def key(self, values: Mapping[str, Any]) -> Key:
        """Return a key's values. Raises Invalid if they are no key of the table."""
        if values.keys() != set(self.rows.key):
            raise Invalid("The provided key element does not match the schema")
        found = stored(values)
        self.check(found)
        return tuple(found[name] for name in self.rows.key)

    def check(self, item: Mapping[str, Any]) -> None:
        """Raise Invalid where a key of the table, or of an index, has a wrong value."""
        wrong = "One or more parameter values were invalid"
        for name, kind in self.kinds.items():
            if name not in item and name in self.rows.key:
                raise Invalid(f"{wrong}: Missing the key {name} in the item")
            if name in item and (kind_of(item[name]) != kind or item[name] == ""):
                raise Invalid(f"{wrong}: Type mismatch for key {name}")
            if kind == "S" and len(item.get(name, "").encode()) > LONGEST_KEY:
                raise Invalid(f"{wrong}: Size of key {name} has exceeded the maximum size limit")

    def write(self, key: Key, new: Item | None) -> None:
        """Put or delete an item."""
        old = self.items.get(key)
        if new is None:
            self.items.pop(key, None)
        else:
            self.items[key] = new
        for rows in (self.rows, *self.indexes.values()):
            rows.put(key, old, new)


Error = Callable[["FakeDynamoDB", str, int], Exception]


@dataclass(frozen=True)
class Fault:
    """A failure of DynamoDB; `error(client, operation, updates)` is what boto3 raises after its retries."""

    error: Error
    operations: frozenset[str] = frozenset({*READS, *WRITES, TRANSACTION})


def _refused(code: str) -> Error:
    return lambda client, operation, _updates: client.error(code, "Try again.", operation)


def _cancelled(reason: str) -> Error:
    def error(client: "FakeDynamoDB", operation: str, updates: int) -> Exception:
        cancelled = client.error("TransactionCanceledException", "Transaction cancelled", operation)
        codes = ["None"] * (updates - 1) + [reason]
        cancelled.response["CancellationReasons"] = [{"Code": code} for code in codes]
        return cancelled

    return error


FAULTS: Mapping[str, Fault] = {
    "throttled": Fault(_refused("ThrottlingException")),
    "over its capacity": Fault(_refused("ProvisionedThroughputExceededException")),
    "failing": Fault(_refused("InternalServerError")),
    "credentials expired": Fault(_refused("ExpiredTokenException")),
    "unreachable": Fault(lambda *_: EndpointConnectionError(endpoint_url="https://dynamodb.test/")),
    "conflict": Fault(_refused("TransactionConflictException"), frozenset(WRITES)),
    "cancelled by a conflict": Fault(_cancelled("TransactionConflict"), frozenset({TRANSACTION})),
    "cancelled by throttling": Fault(_cancelled("ThrottlingError"), frozenset({TRANSACTION})),
}


@dataclass
class _Faults:
    fault: Fault
    failing: range
    table: str
    calls: int = 0

    def befall(self, operation: str, tables: list[str]) -> bool:
        """Count a call to these tables, and return whether it fails."""
        if operation not in self.fault.operations or (self.table and self.table not in tables):
            return False
        self.calls += 1
        return self.calls in self.failing


class FakeDynamoDB(FakeAwsClient):
    """DynamoDB in memory. Queries and scans read pages of `page` items."""

    service = "dynamodb"
    refusal_code = "ValidationException"
    throttling_code = "ThrottlingException"

    def __init__(self, clock: Clock, *, page: int = PAGE, **settings: Any) -> None:
        super().__init__(clock, **settings)
        self.page = page
        self.tables = {name: _Table(definition) for name, definition in table_definitions().items()}
        self._lock = threading.RLock()
        self._faults: list[_Faults] = []

    def items(self, table: str) -> list[Item]:
        """Return copies of all items, in the order in which they were first written."""
        return [copied(item) for item in self.tables[table].items.values()]

    @contextmanager
    def lagging(self) -> Iterator[None]:
        """Freeze what indexes and eventually consistent reads return, within the context."""
        for table in self.tables.values():
            table.stale = copy.deepcopy(table)
        yield
        for table in self.tables.values():
            table.stale = None

    @contextmanager
    def failing(self, fault: str, first: int = 1, times: int = LASTING, table: str = "") -> Iterator[None]:
        """Let the calls fail that follow within the context, from the `first`, `times` in a row.

        `fault` is one of FAULTS; only the calls that it can befall are counted, and with `table` only those
        on this table.
        """
        faults = _Faults(FAULTS[fault], range(first, first + times), table)
        self._faults.append(faults)
        yield
        self._faults.remove(faults)

    def received(self, operation: str, params: Answer) -> None:
        """Count a call. Raises if its parameters are invalid, it is throttled, or it is to fail."""
        super().received(operation, params)
        parts = [part["Update"] for part in params.get("TransactItems", ())]
        tables = [part["TableName"] for part in parts or [params]]
        for faults in self._faults:
            if faults.befall(operation, tables):
                raise faults.fault.error(self, operation, len(parts))

    @operation
    def get_item(self, **params: Any) -> Answer:
        """Return one item."""
        with self._table("get_item", params, {"Key", "ConsistentRead"}) as table:
            seen = table if params.get("ConsistentRead") else table.stale or table
            found = seen.items.get(table.key(params["Key"]))
            return {} if found is None else {"Item": copied(found)}

    @operation
    def put_item(self, **params: Any) -> Answer:
        """Write a whole item."""
        with self._table("put_item", params, {"Item"}) as table:
            item = self._fit(table, stored(params["Item"]))
            table.write(tuple(item[name] for name in table.rows.key), item)
            return {}

    @operation
    def delete_item(self, **params: Any) -> Answer:
        """Delete an item."""
        with self._table("delete_item", params, {"Key"}) as table:
            table.write(table.key(params["Key"]), None)
            return {}

    @operation
    def update_item(self, **params: Any) -> Answer:
        """Change or create an item."""
        with self._table("update_item", params, CHANGE | {"ReturnValues"}) as table:
            key, new = self._changed(table, params)
            if new is None:
                raise self.error(CONDITION_FAILED, "The conditional request failed", "update_item")
            table.write(key, new)
            match params.get("ReturnValues", "NONE"):
                case "NONE":
                    return {}
                case "ALL_NEW":
                    return {"Attributes": copied(new)}
        raise NotImplementedError(params["ReturnValues"])

    @operation
    def transact_write_items(self, **params: Any) -> Answer:
        """Make all changes, or none."""
        with self._lock:
            changes = [self._part(**part) for part in params["TransactItems"]]
            if len({(id(table), key) for table, key, _ in changes}) < len(changes):
                message = "Transaction request cannot include multiple operations on one item"
                raise self.error("ValidationException", message, "transact_write_items")
            codes = ["None" if new else "ConditionalCheckFailed" for *_, new in changes]
            if {*codes} != {"None"}:
                message = f"Transaction cancelled, please refer cancellation reasons [{', '.join(codes)}]"
                error = self.error("TransactionCanceledException", message, "transact_write_items")
                error.response["CancellationReasons"] = [{"Code": code} for code in codes]
                raise error
            for table, key, new in changes:
                table.write(key, new)
            return {}

    @operation
    def query(self, **params: Any) -> Answer:
        """Return a page of a partition."""
        with self._table("query", params, READ | {"KeyConditionExpression"}) as table:
            rows = self._rows(table, params)
            texts, names, values = _expressions(params)
            partition, rest = None, []
            for term in _terms(parse_condition(texts["KeyConditionExpression"])):
                name = names[term[1][1][0]] if term[1][0] == "path" else None
                if name == rows.key[0] and term[0] == "=":
                    partition = values[term[2][1]]
                elif name in rows.key[1:]:
                    rest.append(term)
                else:
                    raise Invalid("Query key condition not supported")
            if partition is None:
                raise Invalid(f"Query condition missed key schema element: {rows.key[0]}")
            found = rows.ordered(partition, params.get("ExclusiveStartKey"))
            for term in rest:
                found = [item for item in found if Scope(item, names, values).holds(term)]
            return self._paged(rows, found, texts, names, values)

    @operation
    def scan(self, **params: Any) -> Answer:
        """Return a page of a table or an index."""
        with self._table("scan", params, READ) as table:
            rows = self._rows(table, params)
            found = rows.ordered(after=params.get("ExclusiveStartKey"))
            return self._paged(rows, found, *_expressions(params))

    def sent(self, value: Answer, shape: Shape) -> Answer:
        """Return parameters or a response as boto3's resource sends them."""
        wire = copy.deepcopy(value)
        injector = TransformationInjector()
        model = SimpleNamespace(input_shape=shape)
        injector.inject_condition_expressions(wire, model)
        injector.inject_attribute_value_input(wire, model)
        return wire

    @contextmanager
    def _table(self, operation: str, params: Answer, known: set[str]) -> Iterator[_Table]:
        """Lock the table during an operation."""
        if unknown := params.keys() - known - NAMED:
            raise NotImplementedError(f"{operation}: {unknown}")
        if params["TableName"] not in self.tables:
            raise self.error("ResourceNotFoundException", "Requested resource not found", operation)
        with self._lock:
            try:
                yield self.tables[params["TableName"]]
            except Invalid as error:
                raise self.error(self.refusal_code, str(error), operation) from error

    def _part(self, **part: Answer) -> tuple[_Table, Key, Item | None]:
        (kind, params), *others = part.items()
        if kind != "Update" or others:
            raise NotImplementedError(part)
        with self._table("transact_write_items", params, CHANGE) as table:
            return (table, *self._changed(table, params))

    def _changed(self, table: _Table, params: Answer) -> tuple[Key, Item | None]:
        """Return the item after an update, or None if the condition fails."""
        key = table.key(params["Key"])
        old = table.items.get(key)
        texts, names, values = _expressions(params)
        scope = Scope(old or {}, names, values)
        if "ConditionExpression" in texts and not scope.holds(parse_condition(texts["ConditionExpression"])):
            return key, None
        made = replace(scope, item=old or dict(zip(table.rows.key, key, strict=True)))
        new = update(made, texts["UpdateExpression"])
        if any(new.get(name) != made.item[name] for name in table.rows.key):
            raise Invalid("Cannot update attribute. This attribute is part of the key")
        return key, self._fit(table, new)

    def _fit(self, table: _Table, item: Item) -> Item:
        table.check(item)
        if self.validate and _size(item) > LARGEST_ITEM:
            raise Invalid("Item size has exceeded the maximum allowed size")
        return item

    def _rows(self, table: _Table, params: Answer) -> _Rows:
        if "IndexName" not in params:
            return table.rows if params.get("ConsistentRead") else (table.stale or table).rows
        if params.get("ConsistentRead"):
            raise Invalid("Consistent reads are not supported on global secondary indexes")
        if params["IndexName"] not in table.indexes:
            raise Invalid(f"The table does not have the specified index: {params['IndexName']}")
        return (table.stale or table).indexes[params["IndexName"]]

    def _paged(
        self, rows: _Rows, found: list[Item], texts: dict[str, str], names: dict[str, str], values: Item
    ) -> Answer:
        page = found[: self.page]
        answer: Answer = {"LastEvaluatedKey": rows.key_of(page[-1])} if len(page) < len(found) else {}
        if "FilterExpression" in texts:
            condition = parse_condition(texts["FilterExpression"])
            page = [item for item in page if Scope(item, names, values).holds(condition)]
        if "ProjectionExpression" in texts:
            columns = [name.strip() for name in texts["ProjectionExpression"].split(",")]
            page = [{name: item[name] for name in columns if name in item} for item in page]
        return answer | {"Items": [copied(item) for item in page], "Count": len(page)}


def _expressions(params: Answer) -> tuple[dict[str, str], dict[str, str], Item]:
    """Return all expressions as strings, and the values of their placeholders, including boto3's."""
    texts = {name: params[name] for name in EXPRESSIONS if name in params}
    names = dict(params.get("ExpressionAttributeNames", {}))
    values = {place: stored(value) for place, value in params.get("ExpressionAttributeValues", {}).items()}
    builder = ConditionExpressionBuilder()
    for name, condition in texts.items():
        if isinstance(condition, ConditionBase):
            built = builder.build_expression(condition, is_key_condition=name == "KeyConditionExpression")
            texts[name] = built.condition_expression
            names |= built.attribute_name_placeholders
            values |= stored(built.attribute_value_placeholders)
    if names.keys() | values.keys() != placeholders(*texts.values()):
        raise Invalid("A placeholder is not defined, or unused in expressions")
    return texts, names, values


def _terms(condition: Tree) -> Iterator[Tree]:
    if condition[0] == "AND":
        yield from _terms(condition[1])
        yield from _terms(condition[2])
    else:
        yield condition


def _size(value: Any) -> int:
    """Return the size by DynamoDB's count, nearly: names and values, 1 byte per field, 3 per list or map."""
    match value:
        case dict():
            return 3 + sum(1 + len(name.encode()) + _size(part) for name, part in value.items())
        case list() | set():
            return 3 + sum(1 + _size(part) for part in value)
        case str():
            return len(value.encode())
        case Decimal():
            return 2 + len(value.as_tuple().digits) // 2
        case bytes():
            return len(value)
    return 1
