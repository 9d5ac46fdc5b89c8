"""The key table."""

import pytest

from orchestration.adapters.dynamo import DynamoApiKeys
from orchestration.domain.credentials import StoredKey
from tests.builders import NOON

KEY = StoredKey("hash", "devi", NOON + 0.5)


@pytest.fixture
def keys(table_of):
    return DynamoApiKeys(table_of("key_table"))


@pytest.mark.parametrize("key", [KEY, StoredKey("other", "devi", 0.0, expires_at=NOON)])
def test_a_key_is_found_by_its_hash(keys, key):
    """As it was put."""
    keys.put(key)

    assert keys.find(key.key_hash) == key
    assert keys.find("unknown") is None


def test_putting_again_gives_a_key_its_end(keys):
    """The hash stays, the expiry is new."""
    keys.put(KEY)
    ending = StoredKey(KEY.key_hash, KEY.owner, KEY.created_at, expires_at=NOON + 60)
    keys.put(ending)

    assert keys.find(KEY.key_hash) == ending


def test_keys_are_listed_by_their_owner(keys):
    """Nobody else's."""
    for key in (KEY, StoredKey("second", "devi", NOON), StoredKey("third", "ada", NOON)):
        keys.put(key)

    assert {key.key_hash for key in keys.of("devi")} == {"hash", "second"}
    assert keys.of("nobody") == []


def test_its_last_use_is_noted(keys):
    """And stays, when the key is given its end."""
    keys.put(KEY)
    keys.used(KEY, NOON + 7)

    assert keys.find(KEY.key_hash).last_used_at == NOON + 7


def test_the_use_of_a_key_that_is_gone_makes_no_new_one(keys):
    """DynamoDB removes expired keys by itself."""
    keys.used(KEY, NOON)

    assert keys.find(KEY.key_hash) is None
