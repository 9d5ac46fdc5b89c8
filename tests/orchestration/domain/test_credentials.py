"""API keys: their format, their hint and their hash."""

import re
import zlib

import pytest

from orchestration.domain.credentials import ELLIPSIS, StoredKey, hash_of, hint_of, is_hint, new_key
from tests.builders import LEGACY_KEY, NOON


def test_key_is_32_random_bytes_with_a_prefix_and_a_checksum():
    """Prefix and checksum let a secret scanner recognize a key."""
    key = new_key()
    body, checksum = key[len("art_") : -8], key[-8:]

    assert re.fullmatch(r"art_[A-Za-z0-9_-]{43}[0-9a-f]{8}", key)
    assert checksum == f"{zlib.crc32(body.encode()):08x}"


def test_keys_are_unique():
    """Each key is made from the system's random bytes."""
    assert len({new_key() for _ in range(200)}) == 200


@pytest.mark.parametrize("key", ["art_abcdefgh", LEGACY_KEY, "x"])
def test_hint_shows_the_start_and_the_end_of_a_key(key):
    """A hint shows at most 12 characters of a key, and can be told apart from a key."""
    hint = hint_of(key)

    assert is_hint(hint)
    assert not is_hint(key)
    assert len(hint.replace(ELLIPSIS, "")) <= 12
    assert hint.startswith(key[:8])
    assert hint.endswith(key[-4:])


def test_hint_hides_most_of_a_key():
    """A hint contains too little of the key to derive its hash."""
    key = new_key()

    assert len(hint_of(key)) == 13
    assert hash_of(hint_of(key)) != hash_of(key)


def test_hash_is_sha256():
    """`hash_of` returns the hex digest of the example in FIPS 180-2."""
    assert hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("expires_at", "is_live"), [(None, True), (NOON + 1, True), (NOON, False), (0.0, False)]
)
def test_key_is_live_until_it_expires(expires_at, is_live):
    """At the time of its expiry a key is no longer valid."""
    assert StoredKey("hash", "devi", NOON - 10, expires_at).is_live(NOON) is is_live
