"""Use cases of accounts: API keys of app developers, purchases of data scientists."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestration.domain.credentials import SIGN_UP, StoredKey, hash_of, hint_of, new_key, sign_up_hash_of
from orchestration.domain.entities import Caller, User
from orchestration.domain.errors import AccessDenied, Unauthenticated
from orchestration.domain.ports import ApiKeys, Clock, Users

USED_INTERVAL = 3600.0
"""Seconds between two writes of a key's last use: every device's request uses a key."""


@dataclass(frozen=True, slots=True)
class AccountService:
    """Use cases of accounts; `overlap` is how long a replaced key remains valid, in seconds."""

    users: Users
    keys: ApiKeys
    clock: Clock
    overlap: float

    def generate_key(self, user_id: str, *, caller: Caller, revoke: bool = False) -> str:
        """Return a new key for the caller, which is not stored. Raises AccessDenied.

        The previous key and the sign-up key remain valid for the overlap, because shipped apps contain them;
        older keys end now. With `revoke`, for a key that has leaked, all other keys end now.
        """
        rows = self._own_rows(user_id, caller)
        now = self.clock()
        live = self._live(caller.username, rows, now)
        if revoke:
            self._end(live, now)
        else:
            self._hand_over(live, now)
        key = new_key()
        self.keys.put(StoredKey(hash_of(key), caller.username, created_at=now))
        for row in rows:
            self.users.mask_legacy_key(row, hint_of(key, now))
        return key

    def purchases(self, user_id: str, *, caller: Caller) -> Sequence[str]:
        """Return the ids of the datasets that the caller has bought, sorted. Raises AccessDenied."""
        return sorted(frozenset().union(*(row.purchased for row in self._own_rows(user_id, caller))))

    def check_key(self, key: str, *, owner: str) -> None:
        """Check that a key is valid for a dataset of `owner`. Raises Unauthenticated.

        A sign-up key is valid while a row of the owner holds it, until the key table says when it ends.
        """
        stored, now = self._stored(key, owner), self.clock()
        if stored is None:
            if self._is_legacy(key, owner):
                return
        elif stored.is_live(now):
            if now - stored.last_used_at > USED_INTERVAL:
                self.keys.used(stored, now)
            return
        raise Unauthenticated("This API key does not open this dataset.")

    def _own_rows(self, user_id: str, caller: Caller) -> Sequence[User]:
        rows = self.users.named(caller.username)
        if not rows:
            raise AccessDenied("There is no account for this login on the marketplace.")
        if user_id not in {caller.username, *(row.user_id for row in rows)}:
            raise AccessDenied("This account belongs to another user.")
        return rows

    def _stored(self, key: str, owner: str) -> StoredKey | None:
        for key_hash in _hashes_of(key, owner):
            stored = self.keys.find(key_hash)
            if stored is not None and stored.owner == owner:
                return stored
        return None

    def _is_legacy(self, key: str, owner: str) -> bool:
        held = [row.legacy_api_key for row in self.users.named(owner) if row.legacy_api_key is not None]
        return any(hmac.compare_digest(legacy.encode(), key.encode()) for legacy in held)

    def _live(self, owner: str, rows: Sequence[User], now: float) -> list[StoredKey]:
        """Return the keys that are valid, oldest first, with the sign-up keys that only rows hold."""
        stored = {key.key_hash: key for key in self.keys.of(owner)}
        for legacy in {row.legacy_api_key for row in rows if row.legacy_api_key is not None}:
            if stored.keys().isdisjoint(_hashes_of(legacy, owner)):
                key_hash = sign_up_hash_of(legacy, owner)
                stored[key_hash] = StoredKey(key_hash, owner, created_at=SIGN_UP)
        return sorted((key for key in stored.values() if key.is_live(now)), key=lambda key: key.created_at)

    def _hand_over(self, live: list[StoredKey], now: float) -> None:
        """End the newest key after the overlap, and older ones now.

        The sign-up key keeps its overlap, so that generating a key twice does not cut off shipped apps.
        """
        for key in live:
            if key is not live[-1] and not key.is_of_sign_up:
                self._end([key], now)
            elif key.expires_at is None:
                self.keys.put(replace(key, expires_at=now + self.overlap))

    def _end(self, keys: list[StoredKey], now: float) -> None:
        for key in keys:
            self.keys.put(replace(key, expires_at=now))


def _hashes_of(key: str, owner: str) -> tuple[str, str]:
    """Return the hashes of a key. Earlier versions stored sign-up keys by their SHA-256, too."""
    return hash_of(key), sign_up_hash_of(key, owner)
