"""API keys and node secrets: made from random bytes, shown once, kept as a hash."""

import secrets
import zlib
from dataclasses import dataclass
from hashlib import sha256

PREFIX = "art_"
ELLIPSIS = "…"

SIGN_UP = 0.0
"""When a key is said to be made that came with the account: before any of ours."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key as it is kept: its SHA-256, never itself. Times are seconds since the epoch."""

    key_hash: str
    owner: str
    created_at: float
    expires_at: float | None = None
    last_used_at: float = 0.0
    """To the hour; 0 for never."""

    @property
    def is_of_sign_up(self) -> bool:
        """Whether it was the plaintext key of the user's row."""
        return self.created_at == SIGN_UP

    def is_live(self, now: float) -> bool:
        """Whether it still opens anything."""
        return self.expires_at is None or now < self.expires_at


def new_key() -> str:
    """Return `art_`, 32 random bytes and a checksum, all in URL-safe letters.

    The checksum lets a secret scanner tell a key from noise without asking us.
    """
    body = secrets.token_urlsafe(32)
    return f"{PREFIX}{body}{zlib.crc32(body.encode()):08x}"


def hint_of(key: str) -> str:
    """Return what a profile page may show of a key: enough to recognise it, too little to use it."""
    return f"{key[: len(PREFIX) + 4]}{ELLIPSIS}{key[-4:]}"


def is_hint(value: str) -> bool:
    """Whether this is a hint and no key: it opens nothing."""
    return ELLIPSIS in value


def hash_of(secret: str) -> str:
    """Return the SHA-256 (hex) of a secret. Plain, since 32 random bytes can't be guessed from it."""
    return sha256(secret.encode()).hexdigest()


def new_download_key() -> str:
    """Return 128 random bits in URL-safe letters, which a download link's signature is bound to."""
    return secrets.token_urlsafe(16)
