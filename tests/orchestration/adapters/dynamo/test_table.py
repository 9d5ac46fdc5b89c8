"""One table: conditional updates, and numbers of Python in DynamoDB."""

from decimal import Decimal

import pytest
from boto3.dynamodb.conditions import Attr, Key
from botocore.config import Config
from botocore.stub import Stubber

from orchestration.adapters.dynamo.table import (
    MOST_ATTEMPTS,
    ConditionFailed,
    Table,
    TransactionFailed,
    stored,
)
from orchestration.domain.errors import Unavailable, Upstream
from tests.fakes import FakeClock, FakeDynamoDB

KEY = {"node_id": "n1"}
NO_RETRIES = Config(connect_timeout=0.2, read_timeout=0.2, retries={"total_max_attempts": 1})


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
def test_float_is_stored_as_its_shortest_decimal(value, kept):
    """A binary float has up to 53 digits; DynamoDB accepts 38."""
    assert stored(value) == kept


class TestTable:
    @pytest.fixture
    def table(self, table_of):
        return table_of("node_table")

    @pytest.mark.parametrize("key", ["n1", "", "n" * 2049, "ü" * 1025])
    def test_missing_item_is_none(self, table, key):
        """A key that no item can have is no error."""
        assert table.get(node_id=key) is None

    def test_update_returns_the_new_item(self, table):
        """All attributes are returned."""
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

    def test_move_copies_an_attribute_and_resets_it(self, table):
        """A missing attribute counts as its initial value."""
        table.put({**KEY, "a": 5})
        item = table.update(KEY, move={"a": ("old_a", 0), "b": ("old_b", {})})

        assert item == {**KEY, "a": 0, "old_a": 5, "b": {}, "old_b": {}}

    def test_failed_condition_writes_nothing(self, table):
        """The item stays unchanged."""
        table.put({**KEY, "a": 1})
        with pytest.raises(ConditionFailed):
            table.update(KEY, put={"a": 2}, when=Attr("a").eq(7))

        assert table.get(**KEY)["a"] == 1

    def test_failed_condition_creates_no_item(self, table):
        """A partial item would be malformed."""
        with pytest.raises(ConditionFailed):
            table.update(KEY, put={"a": 2}, when=Attr("node_id").exists())

        assert table.get(**KEY) is None

    def test_quiet_update_returns_nothing(self, table):
        """The item is written."""
        assert table.update(KEY, put={"a": 1}, quietly=True) == {}
        assert table.get(**KEY) == {**KEY, "a": 1}

    def test_reserved_words_are_valid_names(self, table):
        """DynamoDB reserves `status`, `owner` and 570 more."""
        table.update(KEY, put={"status": "x", "owner": "y", "a-b.c": 1})

        assert table.get(**KEY) == {**KEY, "status": "x", "owner": "y", "a-b.c": 1}

    def test_scan_reads_every_page(self, table):
        """DynamoDB ends a page at 1 MB."""
        for number in range(30):
            table.put({"node_id": f"n{number}", "text": "x" * 50_000})

        assert len(list(table.scan())) == 30

    def test_scan_of_a_sparse_index(self, table_of):
        """An item without the index's key is not in the index."""
        table = table_of("training_table")
        table.put({"name": "due", "retrieval_due": "steps", "version": "1"})
        table.put({"name": "retrieved"})
        found = table.scan("retrieval-due-index", ProjectionExpression="retrieval_due")

        assert list(found) == [{"retrieval_due": "steps"}]
        assert len(list(table.scan())) == 2

    def test_index_contains_what_it_includes(self, table_of):
        """The attributes that it names, and the keys of index and table."""
        table = table_of("training_table")
        table.put({"name": "m", "trains_on": "d", "version": "1", "loss_sum": 1})

        assert list(table.scan("trains-on-index")) == [{"name": "m", "trains_on": "d", "version": "1"}]

    def test_reads_are_consistent(self):
        """Indexes and eventually consistent reads may lag behind."""
        client = FakeDynamoDB(FakeClock())
        table = Table(client, "node_table", sleep=lambda _: None)
        with client.lagging():
            table.put(KEY)

            assert table.get(**KEY) == KEY
            assert list(table.scan()) == [KEY]

    @pytest.mark.parametrize("text", ["ü" * 100, " ", "\x00", "a\nb", "🙂"])
    def test_key_may_be_any_text(self, table, text):
        """App developers choose the ids of datasets."""
        table.put({"node_id": text})

        assert table.get(node_id=text) == {"node_id": text}


@pytest.mark.moto
@pytest.mark.parametrize(
    "code", ["ThrottlingException", "ResourceNotFoundException", "AccessDeniedException"]
)
@pytest.mark.parametrize("operation", ["get_item", "put_item", "update_item", "query", "scan"])
def test_refusal_is_upstream(session, operation, code):
    """The message contains DynamoDB's code, and no names of this service."""
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
def test_scan_of_an_index_is_eventually_consistent(session, index, more):
    """DynamoDB refuses a consistent read of an index."""
    client = session.resource("dynamodb").meta.client
    with Stubber(client) as stubber:
        stubber.add_response("scan", {"Items": []}, {"TableName": "node_table", **more})

        assert list(Table(client, "node_table").scan(index)) == []


def cancelled_transaction(session, *reasons):
    """Run a transaction of two updates that DynamoDB cancels for these reasons, as often as it is tried."""
    client = session.resource("dynamodb").meta.client
    table = Table(client, "node_table", sleep=lambda _: None)
    fields = {"CancellationReasons": [{"Code": reason} for reason in reasons]} if reasons else {}
    with Stubber(client) as stubber:
        code = "TransactionCanceledException"
        for _ in range(MOST_ATTEMPTS):
            stubber.add_client_error("transact_write_items", code, modeled_fields=fields)
        table.transact(table.update_request(KEY, put={"a": 1}), table.update_request(KEY, put={"a": 2}))


@pytest.mark.moto
@pytest.mark.parametrize("first", ["None", "TransactionConflict"])
def test_failed_condition_of_a_transaction_has_a_position(session, first):
    """A conflict of the other update is ignored."""
    with pytest.raises(TransactionFailed) as failed:
        cancelled_transaction(session, first, "ConditionalCheckFailed")

    assert failed.value.position == 1


@pytest.mark.moto
@pytest.mark.parametrize("reasons", [("TransactionConflict", "None"), ()])
def test_conflict_of_transactions_is_upstream(session, reasons):
    """No condition failed, so a retry may succeed."""
    with pytest.raises(Upstream, match="TransactionCanceledException"):
        cancelled_transaction(session, *reasons)


@pytest.mark.parametrize(
    ("fault", "write"),
    [
        ("conflict", lambda table: table.update(KEY, put={"a": 1})),
        ("conflict", lambda table: table.put({**KEY, "a": 1})),
        ("cancelled by a conflict", lambda table: table.transact(table.update_request(KEY, put={"a": 1}))),
        ("cancelled by throttling", lambda table: table.transact(table.update_request(KEY, put={"a": 1}))),
    ],
)
class TestConflict:
    """A write conflicts with another process's transaction."""

    @pytest.fixture
    def client(self):
        return FakeDynamoDB(FakeClock())

    def test_write_is_repeated(self, client, fault, write):
        """After pauses of random lengths: two processes that conflict don't meet again."""
        pauses: list[float] = []
        with client.failing(fault, times=MOST_ATTEMPTS - 1):
            write(Table(client, "node_table", sleep=pauses.append))

        assert client.items("node_table") == [{**KEY, "a": 1}]
        assert len({*pauses}) == MOST_ATTEMPTS - 1
        assert all(0 <= pause <= 0.5 for pause in pauses)

    def test_lasting_conflict_is_unavailable(self, client, fault, write):
        """No request waits for more than a second."""
        pauses: list[float] = []
        with client.failing(fault, times=MOST_ATTEMPTS), pytest.raises(Unavailable):
            write(Table(client, "node_table", sleep=pauses.append))

        assert client.items("node_table") == []
        assert sum(pauses) <= 1


@pytest.mark.moto
def test_unreachable_dynamodb_is_upstream(session):
    """No server listens at the endpoint."""
    client = session.resource("dynamodb", endpoint_url="http://127.0.0.1:1", config=NO_RETRIES).meta.client

    with pytest.raises(Upstream, match="DynamoDB did not answer"):
        Table(client, "node_table").get(**KEY)
