"""API keys, from sign-up to rotation, and lists of purchases."""

from itertools import count, permutations

import pytest

from orchestration.domain.credentials import SIGN_UP, StoredKey, hash_of, hint_of, sign_up_hash_of
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
        sign_up_hash_of(LEGACY_KEY, DEVELOPER.username),
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

    assert hint == hint_of(key, world.clock())
    assert not is_valid(accounts, hint)
    assert [row.legacy_api_key for row in world.users.named(DEVELOPER.username)] == [None]


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


@pytest.mark.parametrize("written", [0, 1, 2])
def test_interrupted_rotation_can_be_repeated(accounts, generate, world, written):
    """The sign-up key and the new key stay valid, whichever write of the first attempt failed."""
    writes = count()
    world.dynamodb.throttle = lambda operation: operation == "update_item" and next(writes) >= written
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


MALLORYS_ROW = "mallory@example.org"


@pytest.fixture
def edit(world):
    """Write a user's own row, as anybody may: its key, and whose username it claims."""

    def write(api_key, username=STRANGER.username, user_id=MALLORYS_ROW):
        world.put(a_developer(user_id=user_id, username=username, legacy_api_key=api_key))

    return write


@pytest.fixture
def act(accounts, generate, edit):
    """Carry out one step of an attack: with the victim's key in her own row, the attacker rotates."""
    attack = {"caller": STRANGER}

    def step(name, key):
        if name == "attacker rotates":
            edit(key)
            accounts.generate_key(MALLORYS_ROW, **attack)
        elif name == "attacker revokes":
            edit(key)
            accounts.generate_key(STRANGER.username, **attack, revoke=True)
        elif name == "victim rotates":
            generate()
        elif name == "victim's row is restored":
            edit(key, DEVELOPER.username, OWN_ROW)

    return step


STEPS = ["attacker rotates", "attacker revokes", "victim rotates", "victim's row is restored"]


@pytest.mark.parametrize("steps", list(permutations(STEPS)), ids=", ".join)
def test_sign_up_key_in_the_row_of_another_user_stays_its_owners(accounts, act, world, steps):
    """Shipped apps show the key to everybody. In any order, it is valid until its owner's overlap ends."""
    ends = None
    for name in steps:
        act(name, LEGACY_KEY)
        if name == "victim rotates":
            ends = world.clock.now + OVERLAP

        assert is_valid(accounts, LEGACY_KEY)
        world.clock.tick(60)
    world.clock.now = ends - 1
    on_the_last_day = is_valid(accounts, LEGACY_KEY)
    world.clock.now = ends

    assert on_the_last_day
    assert not is_valid(accounts, LEGACY_KEY)


@pytest.mark.parametrize("steps", list(permutations(STEPS[:2] + STEPS[3:])), ids=", ".join)
@pytest.mark.parametrize("is_generated", [False, True])
def test_revoked_key_in_the_row_of_another_user_stays_revoked(
    accounts, generate, act, edit, steps, is_generated
):
    """Neither an attacker, who may write any username into her row, nor the marketplace brings it back."""
    key = generate() if is_generated else LEGACY_KEY
    accounts.generate_key(OWN_ROW, caller=DEVELOPER, revoke=True)
    for name in steps:
        act(name, key)
        edit(key, DEVELOPER.username, "a second row of the same name")

        assert not is_valid(accounts, key)


@pytest.mark.parametrize("revoke", [False, True])
def test_generated_key_in_the_row_of_another_user_stays_its_owners(accounts, generate, edit, world, revoke):
    """A shipped app contains it, too."""
    key = generate()
    edit(key)
    accounts.generate_key(MALLORYS_ROW, caller=STRANGER, revoke=revoke)
    world.clock.tick(10 * OVERLAP)

    assert is_valid(accounts, key)
    assert world.keys.find(hash_of(key)).owner == DEVELOPER.username


@pytest.mark.parametrize("revoke", [False, True])
def test_attackers_own_keys_work(accounts, edit, revoke):
    """The new key, and as ever a plaintext key in her row, are valid for her own datasets."""
    edit(LEGACY_KEY)
    before = is_valid(accounts, LEGACY_KEY, owner=STRANGER.username)
    key = accounts.generate_key(MALLORYS_ROW, caller=STRANGER, revoke=revoke)
    edit("another plaintext key")

    assert before
    assert is_valid(accounts, key, owner=STRANGER.username)
    assert is_valid(accounts, "another plaintext key", owner=STRANGER.username)
    assert is_valid(accounts, LEGACY_KEY, owner=STRANGER.username) is not revoke
    assert not is_valid(accounts, key)


def test_hash_that_was_recorded_for_another_owner_does_not_shadow_a_sign_up_key(accounts, generate, world):
    """An earlier version recorded sign-up keys by their bare hash, for the owner of whichever row."""
    poison = StoredKey(hash_of(LEGACY_KEY), STRANGER.username, SIGN_UP, expires_at=world.clock.now)
    world.keys.put(poison)
    before = is_valid(accounts, LEGACY_KEY)
    generate()

    assert before
    assert is_valid(accounts, LEGACY_KEY)
    assert world.keys.find(hash_of(LEGACY_KEY)) == poison


def test_revoked_sign_up_key_does_not_return_when_dynamodb_deletes_expired_keys(accounts, edit, world):
    """The row may hold the key for ever: its masking may have failed, or the marketplace restores it."""
    accounts.generate_key(OWN_ROW, caller=DEVELOPER, revoke=True)
    edit(LEGACY_KEY, DEVELOPER.username, OWN_ROW)
    world.clock.tick(10 * OVERLAP)
    after_deletion = expire(world)

    assert not is_valid(accounts, LEGACY_KEY)
    accounts.generate_key(OWN_ROW, caller=DEVELOPER)
    assert not is_valid(accounts, LEGACY_KEY)
    assert after_deletion


def test_replaced_sign_up_key_does_not_return_when_dynamodb_deletes_expired_keys(accounts, edit, world):
    """Its overlap ends, though the row still holds it; nor does one whose end an earlier version wrote."""
    world.keys.put(StoredKey(hash_of(LEGACY_KEY), DEVELOPER.username, SIGN_UP))
    accounts.generate_key(OWN_ROW, caller=DEVELOPER)
    edit(LEGACY_KEY, DEVELOPER.username, OWN_ROW)
    world.clock.tick(OVERLAP)
    expire(world)

    assert not is_valid(accounts, LEGACY_KEY)


def expire(world):
    """Delete what DynamoDB deletes: keys whose `expires_at` is over. Return the remaining hashes."""
    for item in world.dynamodb.items("key_table"):
        if item.get("expires_at", world.clock.now) < world.clock.now:
            world.remove("key_table", item["key_hash"])
    return {item["key_hash"] for item in world.dynamodb.items("key_table")}


def test_end_of_a_key_never_moves_later(accounts, generate, world):
    """A rotation that has read the keys before a revocation must not undo it."""
    with world.dynamodb.lagging():
        accounts.generate_key(OWN_ROW, caller=DEVELOPER, revoke=True)
        world.put(a_developer())
        generate()

    assert not is_valid(accounts, LEGACY_KEY)


@pytest.mark.parametrize("first", ["a@example.org", "z@example.org"])
def test_second_row_with_the_same_username_locks_nobody_out(accounts, edit, world, first):
    """Usernames are not unique: a user may write any into her own row, and the index may return it first."""
    edit("mallory's", DEVELOPER.username, first)
    edit(None, SCIENTIST.username, f"{first}.")
    before = is_valid(accounts, LEGACY_KEY)
    key = accounts.generate_key(OWN_ROW, caller=DEVELOPER)

    assert before
    assert is_valid(accounts, LEGACY_KEY)
    assert is_valid(accounts, key)
    assert accounts.purchases("ada@example.org", caller=SCIENTIST) == [DATASET]
    assert world.item("user_table", OWN_ROW)["api_key"] == hint_of(key, world.clock())
