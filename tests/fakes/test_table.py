"""DynamoDB's expressions and calls on the fake, and on moto where moto behaves like DynamoDB."""

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr, Key
from botocore.exceptions import ClientError, ParamValidationError

from tests.builders import submitted_item
from tests.fakes import FakeClock, FakeDynamoDB

TABLE = "node_table"
KEY = {"node_id": "n1"}
ITEM = KEY | {
    "number": 5,
    "text": "text",
    "yes": True,
    "null": None,
    "list": ["a", 1],
    "map": {"inner": 1},
    "set": {"a", "b"},
    "numbers": {1, 2},
}


@pytest.fixture
def fake() -> FakeDynamoDB:
    return FakeDynamoDB(FakeClock())


@pytest.fixture(params=["fake", pytest.param("moto", marks=pytest.mark.moto)])
def client(request) -> Any:
    if request.param == "fake":
        return request.getfixturevalue("fake")
    return request.getfixturevalue("moto_table_of")(TABLE).client


@pytest.fixture
def item(client) -> None:
    client.put_item(TableName=TABLE, Item=ITEM)


def change(client: Any, expression: str, values: dict[str, Any] | None = None, **more: Any) -> Any:
    """Update the item; the expression has attributes' names as their placeholders."""
    names = {f"#{name}": name for name in (*ITEM, "new", "inner") if f"#{name}" in expression + str(more)}
    arguments: dict[str, Any] = {"UpdateExpression": expression, "ExpressionAttributeNames": names}
    if values:
        arguments["ExpressionAttributeValues"] = values
    answer = client.update_item(TableName=TABLE, Key=KEY, ReturnValues="ALL_NEW", **arguments | more)
    return answer["Attributes"]


def refused(call: Callable[[], Any]) -> str:
    """Return the code of the error that a call raises."""
    with pytest.raises(ClientError) as error:
        call()
    return str(error.value.response["Error"]["Code"])


@pytest.mark.usefixtures("item")
class TestConditions:
    @pytest.mark.parametrize(
        ("condition", "holds"),
        [
            (Attr("number").eq(5), True),
            (Attr("number").eq("5"), False),
            (Attr("number").eq(Decimal("5.0")), True),
            (Attr("number").ne(5), False),
            (Attr("number").ne("5"), True),
            (Attr("number").lt(6) & Attr("number").gt(4), True),
            (Attr("number").lte(5) & Attr("number").gte(5), True),
            (Attr("number").lt(5) | Attr("number").gt(5), False),
            (Attr("text").gt("tex"), True),
            (Attr("missing").eq(5), False),
            (Attr("missing").lt(5), False),
            (Attr("missing").ne(5), True),
            (~Attr("missing").eq(5), True),
            (Attr("missing").not_exists() & Attr("null").exists(), True),
            (Attr("text").not_exists(), False),
            (Attr("text").begins_with("te"), True),
            (Attr("text").begins_with("ex"), False),
            (Attr("text").attribute_type("S"), True),
            (Attr("text").attribute_type("N"), False),
            (Attr("missing").attribute_type("N"), False),
            (Attr("text").contains("ex"), True),
            (Attr("list").contains("a"), True),
            (Attr("set").contains("c"), False),
            (Attr("set").contains("a"), True),
            (Attr("set").size().eq(2), True),
            (Attr("text").size().gt(4), False),
            (Attr("map.inner").eq(1), True),
            (Attr("map.missing").eq(1), False),
            (Attr("text.inner").exists(), False),
            (Attr("yes").eq(True), True),
            (Attr("null").eq(None), True),
        ],
    )
    def test_condition_is_evaluated(self, client, condition, holds):
        """Value and type are compared; a missing value equals none."""
        if holds:
            change(client, "SET #new = :v", {":v": 1}, ConditionExpression=condition)
        else:
            code = refused(lambda: change(client, "SET #new = :v", {":v": 1}, ConditionExpression=condition))
            assert code == "ConditionalCheckFailedException"

        assert ("new" in client.get_item(TableName=TABLE, Key=KEY, ConsistentRead=True)["Item"]) is holds


@pytest.mark.usefixtures("item")
class TestUpdates:
    @pytest.mark.parametrize(
        ("expression", "values", "changed"),
        [
            ("SET #new = #number + :v", {":v": 2}, {"new": 7}),
            ("SET #number = #number - :v", {":v": 2}, {"number": 3}),
            ("SET #new = #number, #number = :v", {":v": 2}, {"new": 5, "number": 2}),
            ("SET #new = if_not_exists(#number, :v)", {":v": 2}, {"new": 5}),
            ("SET #list = list_append(#list, :v)", {":v": ["b"]}, {"list": ["a", 1, "b"]}),
            ("SET #map.#new = :v", {":v": 2}, {"map": {"inner": 1, "new": 2}}),
            ("REMOVE #map.#inner, #new", {}, {"map": {}}),
            (
                "ADD #number :v, #new :v",
                {":v": Decimal("0.5")},
                {"number": Decimal("5.5"), "new": Decimal("0.5")},
            ),
            ("ADD #set :v, #new :v", {":v": {"b", "c"}}, {"set": {"a", "b", "c"}, "new": {"b", "c"}}),
            ("DELETE #set :v SET #new = :one", {":v": {"a", "c"}, ":one": 1}, {"set": {"b"}, "new": 1}),
        ],
    )
    def test_update_changes_the_item(self, client, expression, values, changed):
        """Every action reads the item as it was before."""
        assert change(client, expression, values) == ITEM | changed

    def test_empty_set_is_removed(self, client):
        """DynamoDB has no empty sets."""
        assert "set" not in change(client, "DELETE #set :v", {":v": {"a", "b"}})

    @pytest.mark.parametrize(
        ("expression", "values"),
        [
            ("SET #node_id = :v", {":v": "n2"}),
            ("SET #new = :v, #new = :v", {":v": 1}),
            ("SET #new = #inner", {}),
            ("SET #new.#inner = :v", {":v": 1}),
            ("SET #new = #inner + :v", {":v": 1}),
            ("ADD #text :v", {":v": 1}),
            ("ADD #set :v", {":v": {1}}),
            ("DELETE #number :v", {":v": 1}),
            ("SET #new = :v", {":v": 1, ":unused": 1}),
            ("SET #new = :undefined", {":v": 1}),
        ],
    )
    def test_invalid_update_is_refused(self, client, expression, values):
        """Nothing is written."""
        assert refused(lambda: change(client, expression, values)) == "ValidationException"
        assert client.get_item(TableName=TABLE, Key=KEY, ConsistentRead=True)["Item"] == ITEM


class TestStricterThanMoto:
    @pytest.fixture(autouse=True)
    def _item(self, fake):
        fake.put_item(TableName=TABLE, Item=ITEM)

    @pytest.mark.parametrize("condition", [Attr("number").lt("6"), Attr("yes").eq(1), Attr("null").lt(1)])
    def test_values_of_two_types_are_not_ordered(self, fake, condition):
        """Python would order some of them."""
        code = refused(lambda: change(fake, "SET #new = :v", {":v": 1}, ConditionExpression=condition))

        assert code == "ConditionalCheckFailedException"

    @pytest.mark.parametrize(
        "expression", ["SET #map = :v, #map.#inner = :v", "SET #new = #text + :v", "SET #new = #list - :v"]
    )
    def test_invalid_update_is_refused(self, fake, expression):
        """Paths must not overlap, and only numbers are added."""
        assert refused(lambda: change(fake, expression, {":v": 1})) == "ValidationException"


class TestValues:
    @pytest.mark.parametrize(
        "item",
        [
            {"node_id": ""},
            {"node_id": 1},
            {"other": "n1"},
            KEY | {"set": set()},
            KEY | {"text": "x" * 410_000},
        ],
    )
    def test_invalid_item_is_refused(self, client, item):
        """Keys have a type, sets are not empty, and items are at most 400 kB."""
        assert refused(lambda: client.put_item(TableName=TABLE, Item=item)) == "ValidationException"

    @pytest.mark.parametrize("value", [0.5, Decimal("Infinity"), object(), {"a", 1}])
    def test_value_that_boto3_refuses_is_not_sent(self, client, value):
        """boto3 raises the error."""
        with pytest.raises(TypeError):
            client.put_item(TableName=TABLE, Item=KEY | {"value": value})

    def test_number_has_38_digits(self, client):
        """boto3 refuses more; a sum is rounded."""
        client.put_item(TableName=TABLE, Item=KEY | {"number": Decimal("1e30")})
        summed = change(client, "ADD #number :v", {":v": Decimal("1e-30")})

        assert summed["number"] == Decimal("1e30")
        with pytest.raises(ArithmeticError):
            client.put_item(TableName=TABLE, Item=KEY | {"number": Decimal("1." + "1" * 38)})

    def test_key_of_an_index_has_a_type(self, fake):
        """The table refuses an item with another type."""
        item = submitted_item(active_status="yes")

        assert refused(lambda: fake.put_item(TableName="model_table", Item=item)) == "ValidationException"

    def test_number_has_a_maximum(self, fake):
        """So has a sum."""
        largest = KEY | {"number": Decimal("1e126")}

        assert refused(lambda: fake.put_item(TableName=TABLE, Item=largest)) == "ValidationException"
        fake.put_item(TableName=TABLE, Item=KEY | {"number": Decimal("9e125")})

        assert (
            refused(lambda: change(fake, "ADD #number :v", {":v": Decimal("9e125")})) == "ValidationException"
        )

    def test_read_item_is_a_copy(self, fake):
        """Changing it changes no item."""
        fake.put_item(TableName=TABLE, Item=ITEM)
        fake.get_item(TableName=TABLE, Key=KEY, ConsistentRead=True)["Item"]["list"].append("b")

        assert fake.items(TABLE) == [ITEM]


class TestCalls:
    def test_transaction_is_all_or_nothing(self, client):
        """The error has a reason for each part."""
        parts = [
            {"TableName": TABLE, "Key": {"node_id": name}, "UpdateExpression": "SET #a = :a"}
            | {"ConditionExpression": condition, "ExpressionAttributeNames": {"#a": "a"}}
            | {"ExpressionAttributeValues": {":a": 1}}
            for name, condition in (("one", "attribute_not_exists(#a)"), ("two", "attribute_exists(#a)"))
        ]
        with pytest.raises(client.exceptions.TransactionCanceledException) as error:
            client.transact_write_items(TransactItems=[{"Update": part} for part in parts])

        reasons = error.value.response["CancellationReasons"]
        assert [reason["Code"] for reason in reasons] == ["None", "ConditionalCheckFailed"]
        assert client.scan(TableName=TABLE)["Items"] == []

    def test_transaction_changes_an_item_once(self, client):
        """A second change of the item is refused."""
        part = {"TableName": TABLE, "Key": KEY, "UpdateExpression": "SET #a = :a"}
        part |= {"ExpressionAttributeNames": {"#a": "a"}, "ExpressionAttributeValues": {":a": 1}}
        parts: Any = [{"Update": part}, {"Update": part}]

        assert refused(lambda: client.transact_write_items(TransactItems=parts)) == "ValidationException"

    @pytest.mark.parametrize(
        "condition", [Key("dataset").eq("a"), Key("owner_name").gt("a"), Key("version").eq("1")]
    )
    def test_query_requires_a_partition(self, fake, condition):
        """Its condition contains only attributes of the key."""
        query = {"TableName": "model_table", "IndexName": "owner-active-index"}

        assert refused(lambda: fake.query(**query, KeyConditionExpression=condition)) == "ValidationException"

    @pytest.mark.parametrize(
        ("table", "more"),
        [("no_table", {}), (TABLE, {"IndexName": "no-index"}), ("model_table", {"ConsistentRead": True})],
    )
    def test_missing_table_or_index_is_refused(self, fake, table, more):
        """So is a consistent read of an index."""
        more = {"IndexName": "owner-active-index"} | more if table == "model_table" else more
        code = "ResourceNotFoundException" if table == "no_table" else "ValidationException"

        assert refused(lambda: fake.scan(TableName=table, **more)) == code

    def test_query_is_paginated(self, fake):
        """A filter removes items from each page."""
        for number in range(2 * fake.page + 1):
            item = submitted_item(model_id=f"m{number:02}", version=str(number % 2))
            fake.put_item(TableName="model_table", Item=item)
        query: Any = {"TableName": "model_table", "IndexName": "owner-active-index"}
        query |= {"KeyConditionExpression": Key("owner_name").eq("ada")}
        pages = list(fake.get_paginator("query").paginate(**query, FilterExpression=Attr("version").eq("1")))

        assert [len(page["Items"]) for page in pages] == [2, 3, 0]
        assert pages[0]["LastEvaluatedKey"] == {
            "owner_name": "ada",
            "active_status": 1,
            "model_id": "m04",
        }

    def test_index_may_lag(self, fake):
        """Eventually consistent reads lag, too; consistent ones don't."""
        with fake.lagging():
            fake.put_item(TableName="model_table", Item=submitted_item())
            behind = fake.scan(TableName="model_table", IndexName="owner-active-index")["Count"]
            late = fake.scan(TableName="model_table")["Count"]
            consistent = fake.scan(TableName="model_table", ConsistentRead=True)["Count"]

        assert (behind, late, consistent) == (0, 0, 1)
        assert fake.scan(TableName="model_table", IndexName="owner-active-index")["Count"] == 1

    @pytest.mark.parametrize(
        ("operation", "params"),
        [
            ("scan", {"Select": "COUNT"}),
            ("update_item", {"Key": KEY, "UpdateExpression": "SET a = :a"}),
            ("update_item", {"Key": KEY, "UpdateExpression": "SET #a[0] = :a"}),
            ("update_item", {"Key": KEY, "UpdateExpression": "DROP #a :a"}),
            ("update_item", {"Key": KEY, "UpdateExpression": "SET #a = :a", "ReturnValues": "UPDATED_OLD"}),
            ("scan", {"FilterExpression": "#a BETWEEN :a AND :a"}),
            ("scan", {"FilterExpression": "#a = :a )"}),
        ],
    )
    def test_unsupported_call_raises_not_implemented(self, fake, operation, params):
        """The fake never guesses."""
        fake.put_item(TableName=TABLE, Item=KEY)
        text = str(params)
        params = params | ({"ExpressionAttributeNames": {"#a": "a"}} if "#a" in text else {})
        params = params | ({"ExpressionAttributeValues": {":a": "x"}} if ":a" in text else {})

        with pytest.raises(NotImplementedError):
            getattr(fake, operation)(TableName=TABLE, **params)

    def test_parameters_are_validated_by_botocore(self, client):
        """It validates what goes over the wire."""
        with pytest.raises(ParamValidationError):
            client.get_item(TableName=TABLE, Key="n1")

    def test_concurrent_updates_are_not_lost(self, fake):
        """Each update is atomic."""
        work = [threading.Thread(target=_add_often, args=(fake,)) for _ in range(2)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()

        assert fake.items(TABLE) == [KEY | {"number": 100}]


def _add_often(client: FakeDynamoDB) -> None:
    for _ in range(50):
        change(client, "ADD #number :v", {":v": 1})
