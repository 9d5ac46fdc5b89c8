"""API keys, from sign-up to rotation, and lists of purchases."""

import pytest

from orchestration.domain.credentials import SIGN_UP, StoredKey, hash_of, hint_of
from orchestration.domain.errors import AccessDenied, Unauthenticated, Upstream
from tests.builders import DATASET, DEVELOPER, LEGACY_KEY, SCIENTIST, STRANGER, a_developer, a_user
from tests.processes import OVERLAP

OWN_ROW = "devi@example.org"


def is_valid(accounts, key, owner=DEVELOPER.username):
    try:
        accounts.check_key(key, owner=owner)
    except Unauthenticated:
        return False
    return True


@pytest.fixture
def generate(accounts):
    return lambda: accounts.generate_key(OWN_ROW, caller=DEVELOPER)


def test_sign_up_key_is_valid(accounts):
    """Shipped apps contain the plaintext key that was made at sign-up."""
    assert is_valid(accounts, LEGACY_KEY)


@pytest.mark.parametrize("key", ["", "x", LEGACY_KEY[:-1], LEGACY_KEY + " ", "art_" + "x" * 51, "ü\xff"])
def test_wrong_key_is_rejected(accounts, key):
    """A prefix of the key, a longer key and a key with non-ASCII characters are rejected."""
    assert not is_valid(accounts, key)


def test_new_key_is_valid_at_once(accounts, generate):
    """The service returns the key once and does not keep it."""
    key = generate()

    assert is_valid(accounts, key)
    assert key not in repr(accounts)


def test_only_the_hash_is_stored(generate, world):
    """Neither the key table nor the user table contains the key itself."""
    key = generate()

    assert {item["key_hash"] for item in world.dynamodb.items("key_table")} == {
        hash_of(key),
        hash_of(LEGACY_KEY),
    }
    assert key not in repr([world.dynamodb.items(table) for table in ("key_table", "user_table")])


def test_replaced_key_stays_valid_for_the_overlap(accounts, generate, world):
    """Shipped apps need time to switch to the new key."""
    generate()
    world.clock.tick(OVERLAP - 1)
    on_the_last_day = is_valid(accounts, LEGACY_KEY)
    world.clock.tick(1)

    assert on_the_last_day
    assert not is_valid(accounts, LEGACY_KEY)


def test_hint_in_the_user_row_is_not_a_key(accounts, generate, world):
    """The profile page shows the hint; the hint does not authenticate."""
    key = generate()
    hint = world.item("user_table", OWN_ROW)["api_key"]

    assert hint == hint_of(key)
    assert not is_valid(accounts, hint)
    assert world.users.named(DEVELOPER.username).legacy_api_key is None


def test_third_key_ends_the_first(accounts, generate, world):
    """At most two generated keys are valid at the same time."""
    first, second, third = (world.clock.tick(60) or generate() for _ in range(3))

    assert [is_valid(accounts, key) for key in (first, second, third)] == [False, True, True]


def test_overlap_starts_when_the_key_is_replaced(accounts, generate, world):
    """A replaced key expires one overlap after its replacement."""
    first = generate()
    world.clock.tick(60)
    generate()
    ends = world.keys.find(hash_of(first)).expires_at

    assert ends == world.clock.now + OVERLAP


def test_generating_twice_does_not_shorten_the_overlap_of_the_sign_up_key(accounts, generate, world):
    """The sign-up key stays valid for its 30 days, however often its owner generates another key."""
    generate()
    world.clock.tick(60)
    generate()
    world.clock.tick(OVERLAP - 61)
    on_the_last_day = is_valid(accounts, LEGACY_KEY)
    world.clock.tick(1)

    assert on_the_last_day
    assert not is_valid(accounts, LEGACY_KEY)


@pytest.mark.parametrize("write", ["put_item", "update_item"])
def test_interrupted_rotation_can_be_repeated(accounts, generate, world, write):
    """The sign-up key and the new key stay valid, whichever write of the first attempt failed."""
    world.dynamodb.throttle = lambda operation: operation == write
    with pytest.raises(Upstream):
        generate()
    world.dynamodb.throttle = 0.0
    world.clock.tick(5)
    key = generate()

    assert is_valid(accounts, key)
    assert is_valid(accounts, LEGACY_KEY)
    world.clock.tick(OVERLAP)
    assert not is_valid(accounts, LEGACY_KEY)
    assert is_valid(accounts, key)


def test_expired_key_stays_expired_while_the_user_row_holds_it(accounts, generate, world):
    """The key table overrides the user row, also after another rotation."""
    world.keys.put(StoredKey(hash_of(LEGACY_KEY), DEVELOPER.username, SIGN_UP, expires_at=world.clock.now))
    before = is_valid(accounts, LEGACY_KEY)
    generate()

    assert not before
    assert not is_valid(accounts, LEGACY_KEY)


def test_key_is_valid_for_its_owners_datasets_only(accounts, generate, world):
    """A key of another developer is rejected, whether it is hashed or in plaintext."""
    world.put(a_developer(user_id="m", username=STRANGER.username, legacy_api_key="theirs"))
    key = generate()

    assert not is_valid(accounts, key, owner=STRANGER.username)
    assert not is_valid(accounts, LEGACY_KEY, owner=STRANGER.username)
    assert not is_valid(accounts, "theirs")


def test_no_key_is_valid_for_an_owner_without_an_account(accounts, world):
    """A dataset whose owner has no account rejects every key."""
    assert not is_valid(accounts, LEGACY_KEY, owner="gone")


def test_user_without_a_key_can_generate_one(accounts, world):
    """A data scientist may become an app developer."""
    key = accounts.generate_key(SCIENTIST.username, caller=SCIENTIST)

    assert is_valid(accounts, key, owner=SCIENTIST.username)


@pytest.mark.parametrize("user_id", [OWN_ROW, DEVELOPER.username])
def test_username_and_email_name_the_callers_row(accounts, user_id):
    """The library sends the username, the marketplace sends the e-mail address."""
    assert accounts.generate_key(user_id, caller=DEVELOPER).startswith("art_")


@pytest.mark.parametrize("use_case", ["generate_key", "purchases"])
@pytest.mark.parametrize("user_id", [OWN_ROW, DEVELOPER.username, "unknown", "", "DEVI"])
def test_row_of_another_user_is_refused(accounts, world, use_case, user_id):
    """A caller can neither read the purchases nor replace the key of another user."""
    with pytest.raises(AccessDenied):
        getattr(accounts, use_case)(user_id, caller=SCIENTIST)
    assert world.dynamodb.items("key_table") == []


@pytest.mark.parametrize("use_case", ["generate_key", "purchases"])
def test_login_without_an_account_is_refused(accounts, use_case):
    """The error says that the user table has no row for the login."""
    with pytest.raises(AccessDenied, match="no account"):
        getattr(accounts, use_case)(STRANGER.username, caller=STRANGER)


def test_purchases_are_sorted(accounts, world):
    """The user row holds a set; the answer is a sorted list."""
    world.put(a_user(purchased=frozenset({"z", "a", DATASET})))

    assert accounts.purchases(SCIENTIST.username, caller=SCIENTIST) == [DATASET, "a", "z"]


def test_revoking_ends_all_other_keys_at_once(accounts, generate):
    """A key that has leaked gets no overlap, not even the sign-up key."""
    old = generate()
    new = accounts.generate_key(OWN_ROW, caller=DEVELOPER, revoke=True)

    assert [is_valid(accounts, key) for key in (LEGACY_KEY, old, new)] == [False, False, True]


def test_last_use_of_a_key_is_recorded_once_an_hour(accounts, generate, world):
    """Every device's request uses a key, and a write costs more than the check."""
    key = generate()
    recorded = set()
    for _ in range(5):
        is_valid(accounts, key)
        recorded.add(world.keys.find(hash_of(key)).last_used_at)
        world.clock.tick(1000)

    assert len(recorded) == 2
