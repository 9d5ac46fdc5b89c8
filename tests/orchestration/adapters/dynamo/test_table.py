"""One table: conditional updates, and Python's numbers in DynamoDB's."""

from decimal import Decimal

import pytest
from boto3.dynamodb.conditions import Attr, Key
from botocore.config import Config
from botocore.stub import Stubber

from orchestration.adapters.dynamo.table import ConditionFailed, Table, TransactionFailed, stored
from orchestration.domain.errors import Upstream
from tests.fakes import FakeClock, FakeDynamoDB

KEY = {"node_id": "n1"}
IMPATIENT = Config(connect_timeout=0.2, read_timeout=0.2, retries={"total_max_attempts": 1})


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (0.1, Decimal("0.1")),
        (1 / 3, Decimal("0.3333333333333333")),
        (1e100, Decimal("1e100")),
        (5.0, Decimal("5.0")),
        ([0.5, "a"], [Decimal("0.5"), "a"]),
        ((0.5,), [Decimal("0.5")]),
        ({"a": {"b": 0.5}}, {"a": {"b": Decimal("0.5")}}),
        (7, 7),
        (True, True),
        (None, None),
    ],
)
def test_floats_are_kept_as_their_shortest_decimal(value, kept):
    """A binary float has up to 53 digits, DynamoDB takes 38."""
    assert stored(value) == kept


class TestTable:
    @pytest.fixture
    def table(self, table_of):
        return table_of("node_table")

    @pytest.mark.parametrize("key", ["n1", "", "n" * 2049, "ü" * 1025])
    def test_what_is_not_there_is_none(self, table, key):
        """No error, also for a key that no item can have."""
        assert table.get(node_id=key) is None

    def test_an_update_answers_with_the_item_as_it_is_then(self, table):
        """All its attributes."""
        table.put({**KEY, "a": 1, "gone": 2, "nothing": None})
        item = table.update(
            KEY,
            put={"b": 0.1, "gone": None},
            default={"a": 7, "c": 8},
            add={"n": 0.5},
            remove=("unknown",),
        )

        assert item == {**KEY, "a": 1, "b": Decimal("0.1"), "c": 8, "n": Decimal("0.5")}
        assert table.get(**KEY) == item

    def test_counters_move_and_leave_nothing_behind(self, table):
        """Where there is none, an empty value moves."""
        table.put({**KEY, "a": 5})
        item = table.update(KEY, move={"a": ("old_a", 0), "b": ("old_b", {})})

        assert item == {**KEY, "a": 0, "old_a": 5, "b": {}, "old_b": {}}

    def test_a_condition_that_fails_writes_nothing(self, table):
        """The item stays as it was."""
        table.put({**KEY, "a": 1})
        with pytest.raises(ConditionFailed):
            table.update(KEY, put={"a": 2}, when=Attr("a").eq(7))

        assert table.get(**KEY)["a"] == 1

    def test_a_condition_that_fails_on_a_missing_item_makes_none(self, table):
        """There is no half-written item."""
        with pytest.raises(ConditionFailed):
            table.update(KEY, put={"a": 2}, when=Attr("node_id").exists())

        assert table.get(**KEY) is None

    def test_a_quiet_update_returns_nothing(self, table):
        """It is written all the same."""
        assert table.update(KEY, put={"a": 1}, quietly=True) == {}
        assert table.get(**KEY) == {**KEY, "a": 1}

    def test_names_that_dynamodb_reserves_are_names_like_others(self, table):
        """`status`, `owner` and 570 more."""
        table.update(KEY, put={"status": "x", "owner": "y", "a-b.c": 1})

        assert table.get(**KEY) == {**KEY, "status": "x", "owner": "y", "a-b.c": 1}

    def test_a_scan_reads_every_item(self, table):
        """Page by page."""
        for number in range(30):
            table.put({"node_id": f"n{number}", "text": "x" * 50_000})

        assert len(list(table.scan())) == 30

    def test_an_index_is_scanned_for_what_is_in_it(self, table_of):
        """Sparse: what lacks its key isn't there. Only of a table can everything be asked, and at once."""
        table = table_of("model_table")
        table.put({"model_id": "due", "retrieval_due": "steps", "version": "1"})
        table.put({"model_id": "home"})
        found = table.scan("retrieval-due-index", ProjectionExpression="retrieval_due")

        assert list(found) == [{"retrieval_due": "steps"}]
        assert len(list(table.scan())) == 2

    def test_what_was_just_written_is_read(self):
        """Also while indexes and other reads lag behind."""
        client = FakeDynamoDB(FakeClock())
        table = Table(client, "node_table")
        with client.lagging():
            table.put(KEY)

            assert table.get(**KEY) == KEY
            assert list(table.scan()) == [KEY]

    @pytest.mark.parametrize("text", ["ü" * 100, " ", "\x00", "a\nb", "🙂"])
    def test_a_key_is_free_text(self, table, text):
        """An app developer typed it."""
        table.put({"node_id": text})

        assert table.get(node_id=text) == {"node_id": text}


@pytest.mark.moto
@pytest.mark.parametrize(
    "code", ["ThrottlingException", "ResourceNotFoundException", "AccessDeniedException"]
)
@pytest.mark.parametrize("operation", ["get_item", "put_item", "update_item", "query", "scan"])
def test_what_dynamodb_refuses_is_upstream_with_its_code(session, operation, code):
    """502 for the caller; the code for the operator, and no names of ours."""
    client = session.resource("dynamodb").meta.client
    calls = {
        "get_item": lambda table: table.get(**KEY),
        "put_item": lambda table: table.put(KEY),
        "update_item": lambda table: table.update(KEY, put={"a": 1}),
        "query": lambda table: list(table.query("index", Key("a").eq(1))),
        "scan": lambda table: list(table.scan()),
    }
    with Stubber(client) as stubber:
        stubber.add_client_error(operation, code)
        with pytest.raises(Upstream, match=f"DynamoDB refused a call: {code}"):
            calls[operation](Table(client, "node_table"))


@pytest.mark.moto
@pytest.mark.parametrize(
    ("index", "more"), [(None, {"ConsistentRead": True}), ("an-index", {"IndexName": "an-index"})]
)
def test_a_table_is_scanned_consistently_and_an_index_as_it_can_be(session, index, more):
    """DynamoDB refuses a consistent read of an index."""
    client = session.resource("dynamodb").meta.client
    with Stubber(client) as stubber:
        stubber.add_response("scan", {"Items": []}, {"TableName": "node_table", **more})

        assert list(Table(client, "node_table").scan(index)) == []


def cancelled(session, *reasons):
    """Make two changes together, which DynamoDB cancels for these reasons."""
    client = session.resource("dynamodb").meta.client
    table = Table(client, "node_table")
    told = {"CancellationReasons": [{"Code": reason} for reason in reasons]} if reasons else {}
    with Stubber(client) as stubber:
        code = "TransactionCanceledException"
        stubber.add_client_error("transact_write_items", code, modeled_fields=told)
        table.transact(table.update_request(KEY, put={"a": 1}), table.update_request(KEY, put={"a": 2}))


@pytest.mark.moto
@pytest.mark.parametrize("first", ["None", "TransactionConflict"])
def test_of_several_changes_the_one_that_was_not_as_expected_is_named(session, first):
    """By its place; a conflict beside it doesn't count."""
    with pytest.raises(TransactionFailed) as failed:
        cancelled(session, first, "ConditionalCheckFailed")

    assert failed.value.position == 1


@pytest.mark.moto
@pytest.mark.parametrize("reasons", [("TransactionConflict", "None"), ()])
def test_two_transactions_at_once_are_nobodys_fault(session, reasons):
    """No condition failed: trying again will help."""
    with pytest.raises(Upstream, match="TransactionCanceledException"):
        cancelled(session, *reasons)


@pytest.mark.moto
def test_dynamodb_that_does_not_answer_is_upstream(session):
    """Nobody listens there."""
    client = session.resource("dynamodb", endpoint_url="http://127.0.0.1:1", config=IMPATIENT).meta.client

    with pytest.raises(Upstream, match="DynamoDB did not answer"):
        Table(client, "node_table").get(**KEY)
