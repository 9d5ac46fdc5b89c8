"""The tables of datasets, users, API keys and the audit log, and the marketplace's attributes."""

import logging

import pytest
import structlog

from orchestration.adapters.dynamo import DynamoApiKeys, DynamoAuditLog, DynamoDatasets, DynamoUsers
from orchestration.domain.credentials import ELLIPSIS, StoredKey
from orchestration.domain.errors import Conflict, NotFound, Upstream
from orchestration.domain.ports import AuditEntry
from tests.builders import (
    DATASET,
    DEVELOPER,
    LEGACY_KEY,
    NOON,
    a_dataset,
    a_developer,
    a_user,
    dataset_item,
    user_item,
)
from tests.fakes import FakeClock


class TestDatasets:
    @pytest.fixture
    def table(self, table_of):
        return table_of("dataset_table")

    @pytest.fixture
    def datasets(self, table):
        return DynamoDatasets(table)

    @pytest.fixture
    def put(self, table):
        """Write the item of a dataset."""
        return lambda dataset: table.put(dataset_item(dataset))

    @pytest.mark.parametrize("changes", [{}, {"is_set_up": False}, {"node_address": "node.test"}])
    def test_what_was_written_is_read(self, put, datasets, changes):
        """Every field of the entity."""
        put(a_dataset(**changes))

        assert datasets.get(DATASET) == a_dataset(**changes)

    def test_an_unknown_dataset_is_not_found(self, put, datasets):
        """Ids keep their letter case."""
        put(a_dataset())

        with pytest.raises(NotFound):
            datasets.get(DATASET.lower())

    def test_the_first_contact_is_noted(self, put, datasets):
        """For good."""
        put(a_dataset(is_set_up=False))
        datasets.mark_set_up(DATASET)

        assert datasets.get(DATASET).is_set_up

    def test_the_address_comes_and_goes(self, put, datasets):
        """Clearing it twice is as once."""
        put(a_dataset())
        datasets.publish_node(DATASET, "node.test")
        shown = datasets.get(DATASET).node_address
        for _ in range(2):
            datasets.unpublish_node(DATASET)

        assert shown == "node.test"
        assert datasets.get(DATASET).node_address is None

    def test_a_dataset_that_is_gone_is_not_made_again(self, datasets):
        """There is nobody left to tell."""
        datasets.publish_node(DATASET, "node.test")
        datasets.unpublish_node(DATASET)
        datasets.mark_set_up(DATASET)

        with pytest.raises(NotFound):
            datasets.get(DATASET)


class TestUsers:
    @pytest.fixture
    def table(self, table_of):
        return table_of("user_table")

    @pytest.fixture
    def users(self, table):
        return DynamoUsers(table)

    @pytest.fixture
    def put(self, table):
        """Write the row of a user."""
        return lambda user: table.put(user_item(user))

    @pytest.mark.parametrize("user", [a_user(), a_developer(), a_user(purchased=frozenset({"a", "b"}))])
    def test_a_user_is_found_by_their_username(self, put, users, user):
        """The key of the row is the e-mail."""
        put(user)

        assert users.named(user.username) == user

    def test_an_unknown_user_is_not_found(self, put, users):
        """An e-mail is no username."""
        put(a_user())

        with pytest.raises(NotFound):
            users.named("ada@example.org")

    def test_the_plaintext_key_becomes_a_hint(self, put, users):
        """Which is no key."""
        put(a_developer())
        users.mask_legacy_key(a_developer(), f"art_{ELLIPSIS}")

        assert users.named(DEVELOPER.username).legacy_api_key is None

    def test_a_key_that_changed_meanwhile_is_left(self, put, users):
        """Somebody signed up anew: what stands there isn't what was handed over."""
        put(a_developer(legacy_api_key="a newer one"))
        users.mask_legacy_key(a_developer(), f"art_{ELLIPSIS}")

        assert users.named(DEVELOPER.username).legacy_api_key == "a newer one"

    def test_no_row_is_made_for_a_hint(self, table, users):
        """A user who is gone stays gone."""
        users.mask_legacy_key(a_user(), f"art_{ELLIPSIS}")

        assert list(table.scan()) == []


class TestItems:
    """What the marketplace sees, and what it has written over the years."""

    def test_has_node_and_node_url_go_together(self, table_of):
        """And nothing else of the dataset changes."""
        table = table_of("dataset_table")
        table.put(dataset_item())
        port = DynamoDatasets(table)
        port.publish_node(DATASET, "node.test")
        shown = table.get(dataset_id=DATASET)
        port.unpublish_node(DATASET)
        cleared = table.get(dataset_id=DATASET)

        assert (shown["hasNode"], shown["nodeURL"]) == (True, "node.test")
        assert cleared["hasNode"] is False
        assert "nodeURL" not in cleared
        assert cleared == dataset_item()

    def test_the_marketplaces_word_for_no_node_is_no_address(self, table_of):
        """It writes an empty text."""
        table = table_of("dataset_table")
        table.put(dataset_item(nodeURL=""))

        assert DynamoDatasets(table).get(DATASET).node_address is None

    @pytest.mark.parametrize("faulty", [{"owner_username": None}, {"properlySetUp": "maybe"}])
    def test_a_malformed_dataset_is_a_conflict(self, table_of, faulty):
        """Not a crash."""
        table = table_of("dataset_table")
        table.put(dataset_item() | faulty)

        with pytest.raises(Conflict, match="malformed"):
            DynamoDatasets(table).get(DATASET)

    @pytest.mark.parametrize(
        ("written", "read"),
        [
            (["a", "b", "a"], {"a", "b"}),
            ({"a", "b"}, {"a", "b"}),
            ([], set()),
            (["a", 7, None], {"a"}),
            ("a", set()),
            (None, set()),
        ],
        ids=["list", "set", "empty", "mixed", "text", "null"],
    )
    def test_purchases_are_a_list_or_a_set_of_texts(self, table_of, written, read):
        """The marketplace has written both."""
        table = table_of("user_table")
        table.client.put_item(TableName=table.name, Item=user_item() | {"datasets_purchased": written})

        assert DynamoUsers(table).named("ada").purchased == read

    @pytest.mark.parametrize(
        ("api_key", "legacy"),
        [(LEGACY_KEY, LEGACY_KEY), ("", None), (None, None), (7, None), (f"art_x{ELLIPSIS}y", None)],
    )
    def test_only_a_plaintext_key_is_a_key(self, table_of, api_key, legacy):
        """Neither a hint nor what isn't text."""
        table = table_of("user_table")
        table.client.put_item(TableName=table.name, Item=user_item() | {"api_key": api_key})

        assert DynamoUsers(table).named("ada").legacy_api_key == legacy

    def test_a_row_shows_the_hint(self, table_of):
        """The profile page reads `api_key`."""
        table = table_of("user_table")
        table.put(user_item(a_developer()))
        DynamoUsers(table).mask_legacy_key(a_developer(), f"art_{ELLIPSIS}")

        assert table.get(user_id="devi@example.org") == user_item(a_developer(), api_key=f"art_{ELLIPSIS}")


KEY = StoredKey("hash", "devi", NOON + 0.5)


class TestApiKeys:
    @pytest.fixture
    def keys(self, table_of):
        return DynamoApiKeys(table_of("key_table"))

    @pytest.mark.parametrize("key", [KEY, StoredKey("other", "devi", 0.0, expires_at=NOON)])
    def test_a_key_is_found_by_its_hash(self, keys, key):
        """As it was put."""
        keys.put(key)

        assert keys.find(key.key_hash) == key
        assert keys.find("unknown") is None

    def test_putting_again_gives_a_key_its_end(self, keys):
        """The hash stays, the expiry is new."""
        keys.put(KEY)
        ending = StoredKey(KEY.key_hash, KEY.owner, KEY.created_at, expires_at=NOON + 60)
        keys.put(ending)

        assert keys.find(KEY.key_hash) == ending

    def test_keys_are_listed_by_their_owner(self, keys):
        """Nobody else's."""
        for key in (KEY, StoredKey("second", "devi", NOON), StoredKey("third", "ada", NOON)):
            keys.put(key)

        assert {key.key_hash for key in keys.of("devi")} == {"hash", "second"}
        assert keys.of("nobody") == []

    def test_its_last_use_is_noted(self, keys):
        """And stays, when the key is given its end."""
        keys.put(KEY)
        keys.used(KEY, NOON + 7)

        assert keys.find(KEY.key_hash).last_used_at == NOON + 7

    def test_the_use_of_a_key_that_is_gone_makes_no_new_one(self, keys):
        """DynamoDB removes expired keys by itself."""
        keys.used(KEY, NOON)

        assert keys.find(KEY.key_hash) is None


ENTRY = AuditEntry("ada", "model.withdraw", "model:net", "ok")


class TestAuditLog:
    @pytest.fixture
    def table(self, table_of):
        return table_of("audit_table")

    @pytest.fixture
    def heard(self, logs):
        """The logs, as talkative as in production."""
        usual = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
        yield logs
        structlog.configure(**usual)

    def test_entries_are_told_in_their_order_with_their_time(self, table):
        """Two in the same millisecond are two."""
        clock = FakeClock(NOON)
        audit = DynamoAuditLog(table, clock, days=1)
        audit.record(ENTRY)
        audit.record(ENTRY)
        clock.tick(1)
        audit.record(AuditEntry("bob", "node.retire", "dataset:x", "403 no"))
        audit.record(AuditEntry("service", "model.retrieve", "model:net", "ok"))
        told = list(audit.of("model:net"))

        assert [entry.action for _, entry in told] == ["model.withdraw", "model.withdraw", "model.retrieve"]
        assert told[0] == ("2023-11-14T22:13:20.000+00:00", ENTRY)

    def test_an_entry_expires(self, table):
        """DynamoDB removes it by itself."""
        DynamoAuditLog(table, FakeClock(NOON), days=2).record(ENTRY)

        assert [item["expires_at"] for item in table.scan()] == [NOON + 2 * 86_400]

    def test_it_is_a_log_line_too(self, table, heard):
        """For whoever searches the logs."""
        DynamoAuditLog(table, FakeClock(NOON), days=1).record(ENTRY)

        assert heard[0]["event"] == "audit"
        assert (heard[0]["actor"], heard[0]["subject"], heard[0]["result"]) == ("ada", "model:net", "ok")

    def test_what_can_not_be_noted_was_done_all_the_same(self, table, logs, monkeypatch):
        """A table that is away doesn't undo a withdrawal, or make it a 502."""

        def away(*_):
            raise Upstream("DynamoDB did not answer.")

        monkeypatch.setattr(type(table), "put", away)
        DynamoAuditLog(table, FakeClock(NOON), days=1).record(ENTRY)

        assert logs[-1]["event"] == "audit.not_written"
