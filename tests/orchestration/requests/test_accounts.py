"""API keys from sign-up to rotation, and purchases."""

import pytest

from orchestration.domain.credentials import SIGN_UP, StoredKey, hash_of, hint_of
from orchestration.domain.errors import AccessDenied, Unauthenticated, Upstream
from tests.builders import DATASET, DEVELOPER, LEGACY_KEY, SCIENTIST, STRANGER, a_developer, a_user
from tests.processes import OVERLAP

OWN_ROW = "devi@example.org"


def opens(accounts, key, owner=DEVELOPER.username):
    try:
        accounts.check_key(key, owner=owner)
    except Unauthenticated:
        return False
    return True


@pytest.fixture
def generate(accounts):
    return lambda: accounts.generate_key(OWN_ROW, caller=DEVELOPER)


def test_the_key_of_the_sign_up_opens(accounts):
    """It is out in shipped apps."""
    assert opens(accounts, LEGACY_KEY)


@pytest.mark.parametrize("key", ["", "x", LEGACY_KEY[:-1], LEGACY_KEY + " ", "art_" + "x" * 51, "ü\xff"])
def test_anything_else_does_not(accounts, key):
    """A part of it neither, nor what isn't ASCII."""
    assert not opens(accounts, key)


def test_a_new_key_opens_at_once(accounts, generate):
    """It is shown this once, and kept as a hash."""
    key = generate()

    assert opens(accounts, key)
    assert key not in repr(accounts)


def test_only_a_hash_of_it_is_kept(generate, world):
    """Neither table holds the key."""
    key = generate()

    assert {item["key_hash"] for item in world.dynamodb.items("key_table")} == {
        hash_of(key),
        hash_of(LEGACY_KEY),
    }
    assert key not in repr([world.dynamodb.items(table) for table in ("key_table", "user_table")])


def test_the_key_before_lives_on_for_the_overlap(accounts, generate, world):
    """A shipped app can't change overnight."""
    generate()
    world.clock.tick(OVERLAP - 1)
    on_the_last_day = opens(accounts, LEGACY_KEY)
    world.clock.tick(1)

    assert on_the_last_day
    assert not opens(accounts, LEGACY_KEY)


def test_a_row_shows_a_hint_that_opens_nothing(accounts, generate, world):
    """The profile page reads the row."""
    key = generate()
    hint = world.item("user_table", OWN_ROW)["api_key"]

    assert hint == hint_of(key)
    assert not opens(accounts, hint)
    assert world.users.named(DEVELOPER.username).legacy_api_key is None


def test_of_three_keys_the_oldest_is_over(accounts, generate, world):
    """Two live while rotating."""
    first, second, third = (world.clock.tick(60) or generate() for _ in range(3))

    assert [opens(accounts, key) for key in (first, second, third)] == [False, True, True]


def test_a_key_that_is_already_ending_is_not_prolonged(accounts, generate, world):
    """The last one before a new one gets its overlap once."""
    first = generate()
    world.clock.tick(60)
    generate()
    ends = world.keys.find(hash_of(first)).expires_at

    assert ends == world.clock.now + OVERLAP


def test_generating_twice_does_not_cut_off_shipped_apps(accounts, generate, world):
    """The sign-up's key lives on for its 30 days, however often its owner asks for another one."""
    generate()
    world.clock.tick(60)
    generate()
    world.clock.tick(OVERLAP - 61)
    on_the_last_day = opens(accounts, LEGACY_KEY)
    world.clock.tick(1)

    assert on_the_last_day
    assert not opens(accounts, LEGACY_KEY)


@pytest.mark.parametrize("write", ["put_item", "update_item"])
def test_a_rotation_that_died_half_way_can_be_done_again(accounts, generate, world, write):
    """Neither the shipped apps nor the new key suffer, whether no key was written or no hint."""
    world.dynamodb.throttle = lambda operation: operation == write
    with pytest.raises(Upstream):
        generate()
    world.dynamodb.throttle = 0.0
    world.clock.tick(5)
    key = generate()

    assert opens(accounts, key)
    assert opens(accounts, LEGACY_KEY)
    world.clock.tick(OVERLAP)
    assert not opens(accounts, LEGACY_KEY)
    assert opens(accounts, key)


def test_a_key_that_has_expired_stays_so_though_the_row_still_shows_it(accounts, generate, world):
    """The key table has the last word, and another rotation doesn't wake it."""
    world.keys.put(StoredKey(hash_of(LEGACY_KEY), DEVELOPER.username, SIGN_UP, expires_at=world.clock.now))
    before = opens(accounts, LEGACY_KEY)
    generate()

    assert not before
    assert not opens(accounts, LEGACY_KEY)


def test_a_key_opens_its_owners_datasets_only(accounts, generate, world):
    """Another developer's key is as good as none."""
    world.put(a_developer(user_id="m", username=STRANGER.username, legacy_api_key="theirs"))
    key = generate()

    assert not opens(accounts, key, owner=STRANGER.username)
    assert not opens(accounts, LEGACY_KEY, owner=STRANGER.username)
    assert not opens(accounts, "theirs")


def test_a_dataset_whose_owner_has_no_account_is_closed(accounts, world):
    """Nobody's key opens it."""
    assert not opens(accounts, LEGACY_KEY, owner="gone")


def test_a_user_without_a_key_gets_one(accounts, world):
    """A data scientist may be a developer tomorrow."""
    key = accounts.generate_key(SCIENTIST.username, caller=SCIENTIST)

    assert opens(accounts, key, owner=SCIENTIST.username)


@pytest.mark.parametrize("user_id", [OWN_ROW, DEVELOPER.username])
def test_the_own_row_is_named_by_either_id(accounts, user_id):
    """The library sends the username, the marketplace the e-mail."""
    assert accounts.generate_key(user_id, caller=DEVELOPER).startswith("art_")


@pytest.mark.parametrize("use_case", ["generate_key", "purchases"])
@pytest.mark.parametrize("user_id", [OWN_ROW, DEVELOPER.username, "nobody", "", "DEVI"])
def test_anybody_elses_row_is_out_of_reach(accounts, world, use_case, user_id):
    """Any user could read another's datasets and rotate another's key once."""
    with pytest.raises(AccessDenied):
        getattr(accounts, use_case)(user_id, caller=SCIENTIST)
    assert world.dynamodb.items("key_table") == []


@pytest.mark.parametrize("use_case", ["generate_key", "purchases"])
def test_a_login_without_an_account_is_told_so(accounts, use_case):
    """It has no row at all."""
    with pytest.raises(AccessDenied, match="no account"):
        getattr(accounts, use_case)(STRANGER.username, caller=STRANGER)


def test_purchases_are_listed_in_order(accounts, world):
    """The row holds a set."""
    world.put(a_user(purchased=frozenset({"z", "a", DATASET})))

    assert accounts.purchases(SCIENTIST.username, caller=SCIENTIST) == [DATASET, "a", "z"]


def test_revoking_ends_all_other_keys_at_once(accounts, generate):
    """For a key that has leaked: no overlap, not even for the sign-up's."""
    old = generate()
    new = accounts.generate_key(OWN_ROW, caller=DEVELOPER, revoke=True)

    assert [opens(accounts, key) for key in (LEGACY_KEY, old, new)] == [False, False, True]


def test_the_last_use_of_a_key_is_noted_once_an_hour(accounts, generate, world):
    """Every phone uses it, and a write costs more than the check."""
    key = generate()
    noted = set()
    for _ in range(5):
        opens(accounts, key)
        noted.add(world.keys.find(hash_of(key)).last_used_at)
        world.clock.tick(1000)

    assert len(noted) == 2
