"""The tables of datasets, users, API keys and audit entries, and the marketplace's attributes."""

import logging
from dataclasses import replace

import pytest
import structlog

from orchestration.adapters.dynamo import DynamoApiKeys, DynamoAuditLog, DynamoDatasets, DynamoUsers
from orchestration.domain.credentials import ELLIPSIS, SIGN_UP, StoredKey, new_key
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
    def test_stored_dataset_is_read(self, put, datasets, changes):
        """Every field of the entity is read."""
        put(a_dataset(**changes))

        assert datasets.get(DATASET) == a_dataset(**changes)

    def test_unknown_dataset_is_not_found(self, put, datasets):
        """Ids are case-sensitive."""
        put(a_dataset())

        with pytest.raises(NotFound):
            datasets.get(DATASET.lower())

    def test_mark_set_up_is_stored(self, put, datasets):
        """The dataset is set up once a device has called /info."""
        put(a_dataset(is_set_up=False))
        datasets.mark_set_up(DATASET)

        assert datasets.get(DATASET).is_set_up

    def test_address_is_published_and_removed(self, put, datasets):
        """Removing it is idempotent."""
        put(a_dataset())
        datasets.publish_node(DATASET, "node.test")
        shown = datasets.get(DATASET).node_address
        for _ in range(2):
            datasets.unpublish_node(DATASET)

        assert shown == "node.test"
        assert datasets.get(DATASET).node_address is None

    def test_missing_dataset_is_not_created(self, datasets):
        """Updates of a deleted dataset write nothing."""
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
    def test_user_is_found_by_username(self, put, users, user):
        """The key of the table is the e-mail address."""
        put(user)

        assert users.named(user.username) == [user]

    def test_every_row_with_the_username_is_found(self, put, users):
        """Users may write any username into their rows."""
        rows = [a_user(user_id=f"{number}@example.org") for number in range(3)]
        for row in rows:
            put(row)

        assert sorted(users.named("ada"), key=lambda row: row.user_id) == rows

    def test_unknown_user_has_no_row(self, put, users):
        """An e-mail address is no username."""
        put(a_user())

        assert users.named("ada@example.org") == []

    def test_legacy_key_is_replaced_by_a_hint(self, put, users):
        """The hint is no valid key."""
        put(a_developer())
        users.mask_legacy_key(a_developer(), f"art_{ELLIPSIS}")

        assert [row.legacy_api_key for row in users.named(DEVELOPER.username)] == [None]

    def test_changed_legacy_key_is_kept(self, put, users):
        """A user who signs up again gets a new key."""
        put(a_developer(legacy_api_key="a newer one"))
        users.mask_legacy_key(a_developer(), f"art_{ELLIPSIS}")

        assert [row.legacy_api_key for row in users.named(DEVELOPER.username)] == ["a newer one"]

    def test_missing_user_is_not_created(self, table, users):
        """Masking the key of a deleted user writes nothing."""
        users.mask_legacy_key(a_user(), f"art_{ELLIPSIS}")

        assert list(table.scan()) == []


class TestItems:
    """Attributes that the marketplace reads, and values that it has written over the years."""

    def test_has_node_and_node_url_change_together(self, table_of):
        """No other attribute of the dataset changes."""
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

    def test_empty_node_url_is_no_address(self, table_of):
        """The marketplace writes an empty string."""
        table = table_of("dataset_table")
        table.put(dataset_item(nodeURL=""))

        assert DynamoDatasets(table).get(DATASET).node_address is None

    @pytest.mark.parametrize("faulty", [{"owner_username": None}, {"properlySetUp": "maybe"}])
    def test_malformed_dataset_is_a_conflict(self, table_of, faulty):
        """It is not an internal error."""
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
    def test_purchases_are_a_list_or_a_set(self, table_of, written, read):
        """The marketplace has written both; values that aren't strings are ignored."""
        table = table_of("user_table")
        table.client.put_item(TableName=table.name, Item=user_item() | {"datasets_purchased": written})

        assert [row.purchased for row in DynamoUsers(table).named("ada")] == [read]

    @pytest.mark.parametrize(
        ("api_key", "legacy"),
        [
            (LEGACY_KEY, LEGACY_KEY),
            ("art_of mine", "art_of mine"),
            ("", None),
            (None, None),
            (7, None),
            (f"art_x{ELLIPSIS}y", None),
            (new_key(), None),
        ],
        ids=["sign-up", "prefix", "empty", "null", "number", "hint", "generated"],
    )
    def test_only_a_plaintext_key_is_a_legacy_key(self, table_of, api_key, legacy):
        """Hints, generated keys and values that aren't strings are ignored."""
        table = table_of("user_table")
        table.client.put_item(TableName=table.name, Item=user_item() | {"api_key": api_key})

        assert [row.legacy_api_key for row in DynamoUsers(table).named("ada")] == [legacy]

    def test_hint_is_stored_in_api_key(self, table_of):
        """The profile page shows this attribute."""
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
    def test_key_is_found_by_its_hash(self, keys, key):
        """Every field of the key is read."""
        keys.put(key)

        assert keys.find(key.key_hash) == key
        assert keys.find("unknown") is None

    @pytest.mark.parametrize("created_at", [KEY.created_at, SIGN_UP])
    def test_end_of_a_key_only_moves_earlier(self, keys, created_at):
        """So no process that has read an older state brings a key back."""
        seen = []
        for expires_at in (None, NOON + 60, None, NOON + 61, NOON + 5, NOON + 60):
            keys.put(replace(KEY, created_at=created_at, expires_at=expires_at))
            seen.append(keys.find(KEY.key_hash).expires_at)

        assert seen == [None, NOON + 60, NOON + 60, NOON + 60, NOON + 5, NOON + 5]

    @pytest.mark.parametrize("created_at", [KEY.created_at, SIGN_UP])
    @pytest.mark.parametrize("expires_at", [None, NOON - 60, NOON + 60])
    def test_key_of_another_owner_is_not_changed(self, keys, created_at, expires_at):
        """Neither its owner nor its end."""
        keys.put(replace(KEY, created_at=created_at))
        keys.put(replace(KEY, owner="mallory", created_at=created_at, expires_at=expires_at))

        assert keys.find(KEY.key_hash) == replace(KEY, created_at=created_at)
        assert keys.of("mallory") == []

    def test_last_use_is_kept_when_a_key_ends(self, keys):
        """The owner still sees when it was last used."""
        keys.put(KEY)
        keys.used(KEY, NOON + 7)
        keys.put(replace(KEY, expires_at=NOON + 60))

        assert keys.find(KEY.key_hash) == replace(KEY, expires_at=NOON + 60, last_used_at=NOON + 7)

    def test_ended_sign_up_key_is_not_deleted(self, keys):
        """DynamoDB deletes items by `expires_at`; an earlier version wrote it to sign-up keys, too."""
        earlier = {"key_hash": "a", "owner": "devi", "created_at": SIGN_UP, "expires_at": NOON + 60}
        keys.table.put(earlier)
        before = keys.find("a").expires_at
        for key_hash in ("a", "b"):
            keys.put(StoredKey(key_hash, "devi", SIGN_UP, expires_at=NOON))
        keys.put(replace(KEY, expires_at=NOON))
        items = {item["key_hash"]: item for item in keys.table.scan()}

        assert before == NOON + 60
        assert [items[name].get("expires_at") for name in ("a", "b", "hash")] == [None, None, NOON]
        assert {items[name].get("ended_at") for name in ("a", "b")} == {NOON}

    def test_keys_of_an_owner_are_listed(self, keys):
        """Other owners' keys aren't."""
        for key in (KEY, StoredKey("second", "devi", NOON), StoredKey("third", "ada", NOON)):
            keys.put(key)

        assert {key.key_hash for key in keys.of("devi")} == {"hash", "second"}
        assert keys.of("unknown") == []

    def test_last_use_is_recorded(self, keys):
        """The time is stored with the key."""
        keys.put(KEY)
        keys.used(KEY, NOON + 7)

        assert keys.find(KEY.key_hash).last_used_at == NOON + 7

    def test_use_of_a_missing_key_writes_nothing(self, keys):
        """DynamoDB deletes expired keys."""
        keys.used(KEY, NOON)

        assert keys.find(KEY.key_hash) is None


ENTRY = AuditEntry("ada", "model.withdraw", "model:net", "ok")


class TestAuditLog:
    @pytest.fixture
    def table(self, table_of):
        return table_of("audit_table")

    @pytest.fixture
    def lines(self, logs):
        """Log entries from the level INFO, as in production."""
        usual = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
        yield logs
        structlog.configure(**usual)

    def test_entries_are_returned_in_order_with_their_time(self, table):
        """Two entries of the same millisecond are both kept."""
        clock = FakeClock(NOON)
        audit = DynamoAuditLog(table, clock, days=1)
        audit.record(ENTRY)
        audit.record(ENTRY)
        clock.tick(1)
        audit.record(AuditEntry("bob", "node.retire", "dataset:x", "403 no"))
        audit.record(AuditEntry("service", "model.retrieve", "model:net", "ok"))
        entries = list(audit.of("model:net"))

        assert [entry.action for _, entry in entries] == [
            "model.withdraw",
            "model.withdraw",
            "model.retrieve",
        ]
        assert entries[0] == ("2023-11-14T22:13:20.000+00:00", ENTRY)

    @pytest.mark.parametrize("model_id", ["🙂" * 512, "ü" + "🙂" * 511])
    def test_entry_about_a_long_id_is_kept(self, table, model_id):
        """An id may be as long as a key, and the subject is longer than the id."""
        entry = AuditEntry("ada", "model.withdraw", f"model:{model_id}", "ok")
        audit = DynamoAuditLog(table, FakeClock(NOON), days=1)
        audit.record(entry)

        assert [found.action for _, found in audit.of(entry.subject)] == ["model.withdraw"]

    def test_entries_of_earlier_versions_are_found(self, table):
        """They were recorded under the id as it was sent; case counts for all other subjects."""
        clock = FakeClock(NOON)
        audit = DynamoAuditLog(table, clock, days=1)
        for number, subject in enumerate(["model:Net", "model:net", "dataset:Net"]):
            entry = {"subject": subject, "at": f"2023-11-1{number}#0", "actor": f"a{number}"}
            table.put(entry | {"action": "model.withdraw", "result": "ok"})
        audit.record(AuditEntry("ada", "model.withdraw", "model:NET", "ok"))

        assert [entry.actor for _, entry in audit.of("model:Net")] == ["a0", "a1", "ada"]
        assert [entry.actor for _, entry in audit.of("model:net")] == ["a1", "ada"]
        assert [entry.actor for _, entry in audit.of("dataset:Net")] == ["a2"]
        assert list(audit.of("dataset:net")) == []

    def test_entry_expires(self, table):
        """DynamoDB deletes it after the configured days."""
        DynamoAuditLog(table, FakeClock(NOON), days=2).record(ENTRY)

        assert [item["expires_at"] for item in table.scan()] == [NOON + 2 * 86_400]

    def test_entry_is_logged(self, table, lines):
        """Operators search the logs."""
        DynamoAuditLog(table, FakeClock(NOON), days=1).record(ENTRY)

        assert lines[0]["event"] == "audit"
        assert (lines[0]["actor"], lines[0]["subject"], lines[0]["result"]) == (
            "ada",
            "model:net",
            "ok",
        )

    def test_failed_write_is_only_logged(self, table, logs, monkeypatch):
        """The recorded action has succeeded and must not become a 502."""

        def away(*_):
            raise Upstream("DynamoDB did not answer.")

        monkeypatch.setattr(type(table), "put", away)
        DynamoAuditLog(table, FakeClock(NOON), days=1).record(ENTRY)

        assert logs[-1]["event"] == "audit.not_written"
