"""API keys and node secrets: made from random bytes, shown once, kept as a hash."""

import hmac
import secrets
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

PREFIX = "art_"
ELLIPSIS = "…"

SIGN_UP = 0.0
"""Creation time of a key made at sign-up: earlier than any generated key."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key as it is stored: a hash, never the key. Times are seconds since the epoch."""

    key_hash: str
    owner: str
    created_at: float
    expires_at: float | None = None
    last_used_at: float = 0.0
    """When the key was last used, to the hour; 0 for never."""

    @property
    def is_of_sign_up(self) -> bool:
        """Whether the key was made at sign-up."""
        return self.created_at == SIGN_UP

    def is_live(self, now: float) -> bool:
        """Whether the key has not expired."""
        return self.expires_at is None or now < self.expires_at


def new_key() -> str:
    """Return `art_`, 32 random bytes and a checksum, all in URL-safe letters.

    The checksum lets a secret scanner recognize a key without calling the service.
    """
    body = secrets.token_urlsafe(32)
    return f"{PREFIX}{body}{_checksum(body)}"


def is_generated(key: str) -> bool:
    """Whether a key has the form of `new_key`; a key made at sign-up has not."""
    return key.startswith(PREFIX) and key[-8:] == _checksum(key[len(PREFIX) : -8])


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def hint_of(key: str, created_at: float) -> str:
    """Return a sentence about a key for the profile page, which shows it in place of the key.

    `created_at` is in seconds since the epoch.
    """
    day = datetime.fromtimestamp(created_at, UTC).date().isoformat()
    return f"created {day}, ends in {ELLIPSIS}{key[-4:]}; generate a new one to see it"


def is_hint(value: str) -> bool:
    """Whether a value is a hint rather than a key; earlier versions have written `art_1a2b…3c4d`."""
    return ELLIPSIS in value


def hash_of(secret: str) -> str:
    """Return the SHA-256 (hex) of a secret. It needs no salt, since the secret is 32 random bytes."""
    return sha256(secret.encode()).hexdigest()


def sign_up_hash_of(key: str, owner: str) -> str:
    """Return the hash (hex) under which a sign-up key of an owner is stored.

    Anybody may write any key into her own user row, so the same key may be that of several owners.
    """
    return hmac.new(key.encode(), owner.encode(), sha256).hexdigest()


def new_download_key() -> str:
    """Return 128 random bits in URL-safe letters, which the signature of a download link covers."""
    return secrets.token_urlsafe(16)
