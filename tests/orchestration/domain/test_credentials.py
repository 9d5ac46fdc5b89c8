"""API keys: what they look like, what is kept of them."""

import re
import zlib

import pytest

from orchestration.domain.credentials import ELLIPSIS, StoredKey, hash_of, hint_of, is_hint, new_key
from tests.builders import LEGACY_KEY, NOON


def test_a_key_is_32_random_bytes_with_a_prefix_and_a_checksum():
    """A secret scanner can tell it from noise."""
    key = new_key()
    body, checksum = key[len("art_") : -8], key[-8:]

    assert re.fullmatch(r"art_[A-Za-z0-9_-]{43}[0-9a-f]{8}", key)
    assert checksum == f"{zlib.crc32(body.encode()):08x}"


def test_no_key_is_made_twice():
    """They come from the system's randomness."""
    assert len({new_key() for _ in range(200)}) == 200


@pytest.mark.parametrize("key", ["art_abcdefgh", LEGACY_KEY, "x"])
def test_a_hint_shows_eight_letters_and_is_known_as_one(key):
    """Enough to recognise a key by, too little to use."""
    hint = hint_of(key)

    assert is_hint(hint)
    assert not is_hint(key)
    assert len(hint.replace(ELLIPSIS, "")) <= 12
    assert hint.startswith(key[:8])
    assert hint.endswith(key[-4:])


def test_a_hint_of_a_new_key_hides_most_of_it():
    """40 of its 43 letters of randomness can't be read from a profile page, nor can the hash be made."""
    key = new_key()

    assert len(hint_of(key)) == 13
    assert hash_of(hint_of(key)) != hash_of(key)


def test_a_secret_is_kept_as_its_sha256():
    """FIPS 180-2's own example."""
    assert hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("expires_at", "is_live"), [(None, True), (NOON + 1, True), (NOON, False), (0.0, False)]
)
def test_a_key_is_live_until_it_expires(expires_at, is_live):
    """At its last second it is over."""
    assert StoredKey("hash", "devi", NOON - 10, expires_at).is_live(NOON) is is_live
