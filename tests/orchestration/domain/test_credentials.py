"""API keys: their format, their hint and their hash."""

import re
import zlib

import pytest

from orchestration.domain.credentials import PREFIX, StoredKey, hash_of, hint_of, is_hint, new_key
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


def test_hint_is_a_sentence():
    """It names the day and the end of the key, and can't be taken for a key."""
    key = new_key()
    hint = hint_of(key, NOON)

    assert hint == f"created 2023-11-14, ends in …{key[-4:]}; generate a new one to see it"
    assert not any(part in hint for part in (PREFIX, key[len(PREFIX) : len(PREFIX) + 4]))
    assert hash_of(hint) != hash_of(key)


@pytest.mark.parametrize("hint", [hint_of("art_abcdefgh", NOON), "art_abcd…efgh", "0123abcd…-key"])
def test_hint_is_recognized(hint):
    """Also one that an earlier version has written."""
    assert is_hint(hint)


@pytest.mark.parametrize("key", [new_key(), LEGACY_KEY, "x"], ids=["new", "of the sign-up", "short"])
def test_key_is_no_hint(key):
    """A key has no ellipsis."""
    assert not is_hint(key)


def test_hash_is_sha256():
    """`hash_of` returns the hex digest of the example in FIPS 180-2."""
    assert hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("expires_at", "is_live"), [(None, True), (NOON + 1, True), (NOON, False), (0.0, False)]
)
def test_key_is_live_until_it_expires(expires_at, is_live):
    """At the time of its expiry a key is no longer valid."""
    assert StoredKey("hash", "devi", NOON - 10, expires_at).is_live(NOON) is is_live
