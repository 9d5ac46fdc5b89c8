"""Use cases of accounts: API keys of app developers, purchases of data scientists."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestration.domain.credentials import SIGN_UP, StoredKey, hash_of, hint_of, new_key
from orchestration.domain.entities import Caller, User
from orchestration.domain.errors import AccessDenied, NotFound, Unauthenticated
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
        user = self._own_row(user_id, caller)
        now = self.clock()
        live = self._with_legacy(user, now)
        if revoke:
            self._end(live, now)
        else:
            self._hand_over(live, now)
        key = new_key()
        self.keys.put(StoredKey(hash_of(key), user.username, created_at=now))
        self.users.mask_legacy_key(user, hint_of(key))
        return key

    def purchases(self, user_id: str, *, caller: Caller) -> Sequence[str]:
        """Return the ids of the datasets that the caller has bought, sorted. Raises AccessDenied."""
        return sorted(self._own_row(user_id, caller).purchased)

    def check_key(self, key: str, *, owner: str) -> None:
        """Check that a key is valid for a dataset of `owner`. Raises Unauthenticated."""
        stored, now = self.keys.find(hash_of(key)), self.clock()
        if stored is not None and stored.owner == owner and stored.is_live(now):
            if now - stored.last_used_at > USED_INTERVAL:
                self.keys.used(stored, now)
            return
        if stored is None and self._is_legacy(key, owner):
            return
        raise Unauthenticated("This API key does not open this dataset.")

    def _own_row(self, user_id: str, caller: Caller) -> User:
        try:
            user = self.users.named(caller.username)
        except NotFound:
            raise AccessDenied("There is no account for this login on the marketplace.") from None
        if user_id not in (user.user_id, user.username):
            raise AccessDenied("This account belongs to another user.")
        return user

    def _is_legacy(self, key: str, owner: str) -> bool:
        try:
            legacy = self.users.named(owner).legacy_api_key
        except NotFound:
            return False
        return legacy is not None and hmac.compare_digest(legacy.encode(), key.encode())

    def _with_legacy(self, user: User, now: float) -> list[StoredKey]:
        stored = list(self.keys.of(user.username))
        if user.legacy_api_key is not None:
            legacy = StoredKey(hash_of(user.legacy_api_key), user.username, created_at=SIGN_UP)
            if legacy.key_hash not in {key.key_hash for key in stored}:
                stored.append(legacy)
        return sorted((key for key in stored if key.is_live(now)), key=lambda key: key.created_at)

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
