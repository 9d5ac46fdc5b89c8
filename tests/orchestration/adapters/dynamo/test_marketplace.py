"""The tables of datasets and users, and the marketplace's attributes."""

import pytest

from orchestration.adapters.dynamo import DynamoDatasets, DynamoUsers
from orchestration.domain.credentials import ELLIPSIS
from orchestration.domain.errors import Conflict, NotFound
from tests.builders import (
    DATASET,
    DEVELOPER,
    LEGACY_KEY,
    SCIENTIST,
    a_dataset,
    a_developer,
    a_user,
    dataset_item,
    user_item,
)


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

    def test_no_row_is_made_for_a_hint(self, users):
        """A user who is gone stays gone."""
        users.mask_legacy_key(a_user(), f"art_{ELLIPSIS}")

        with pytest.raises(NotFound):
            users.named(SCIENTIST.username)


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
