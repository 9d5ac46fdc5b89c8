"""The key set of a Cognito user pool: cached, fetched by one thread at a time, kept while Cognito is away."""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests
import structlog
from jose import jwk
from jose.backends.base import Key
from jose.exceptions import JOSEError
from jose.utils import base64url_decode

from orchestration.adapters.jws import ALGORITHM
from orchestration.domain.errors import Unauthenticated, Upstream

log = structlog.get_logger(__name__)

Jwk = Mapping[str, Any]

REFETCH_AFTER = 10.0
"""Seconds: an unknown `kid` may be a new key of the pool, or a stranger who makes us ask Cognito for ever."""

RETRY_AFTER = 1.0
"""Seconds, while there is no key at all."""

TIMEOUT = (2.0, 5.0)
"""Seconds to connect, seconds to read."""

SMALLEST_MODULUS = 2048

PUBLIC_PRIVATE_KEYS = frozenset({"1d98b1af39750ec21b64d10f6067096d"})
"""Fingerprints of moduli whose private half anybody can read; trusted in local mode only."""


class KeySet:
    """Keys of one pool by their `kid`. `fetch` returns the JSON of the key set or raises Upstream."""

    def __init__(
        self, fetch: Callable[[], Jwk], *, local_mode: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._local_mode = local_mode
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, Key] = {}
        self._asked_at = -REFETCH_AFTER

    def key(self, kid: str) -> Key:
        """Return the key. Raises Unauthenticated if the pool has no such key, Upstream if we can't know."""
        if kid not in self._keys:
            self._refresh(kid)
        if not self._keys:
            raise Upstream("The user pool's key set can't be fetched.")
        if kid not in self._keys:
            raise Unauthenticated("The token is signed with a key that the user pool doesn't have.")
        return self._keys[kid]

    def _refresh(self, kid: str) -> None:
        with self._lock:
            if kid in self._keys or self._clock() - self._asked_at < REFETCH_AFTER:
                return
            self._asked_at = self._clock()
            try:
                self._keys = usable_keys(self._fetch(), local_mode=self._local_mode)
            except Upstream:
                if not self._keys:  # nobody gets in: try again sooner, but not every waiting thread in turn
                    self._asked_at += RETRY_AFTER - REFETCH_AFTER
                log.warning("jwks.unreachable", kept=len(self._keys))


def usable_keys(key_set: Jwk, *, local_mode: bool) -> dict[str, Key]:
    """Return the keys of a key set that may verify a token, by their `kid`. Raises Upstream if it is none."""
    keys = key_set.get("keys")
    if not isinstance(keys, list):
        raise Upstream("The user pool's key set is not a key set.")
    wanted = [
        key for key in keys if is_verification_key(key) and (local_mode or not has_public_private_half(key))
    ]
    built = ((key["kid"], _built(key)) for key in wanted)
    return {kid: key for kid, key in built if key is not None}


def _built(key: Jwk) -> Key | None:
    try:
        return jwk.construct(dict(key), ALGORITHM)
    except (JOSEError, ValueError, TypeError):  # a modulus or an exponent that is none
        log.warning("jwks.unusable_key", kid=key["kid"])
        return None


def fetcher(url: str) -> Callable[[], Jwk]:
    """Return a function that fetches the key set at `url`, with time-outs; it raises Upstream."""

    def fetch() -> Jwk:
        try:
            answer = requests.get(url, timeout=TIMEOUT, allow_redirects=False)
            answer.raise_for_status()
            key_set = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise Upstream("The user pool's key set can't be fetched.") from error
        return key_set if isinstance(key_set, dict) else {}

    return fetch


def is_verification_key(key: object) -> bool:
    """Whether this JWK is an RSA key of 2048 bits or more that may verify RS256 (RFC 7517, section 4)."""
    return (
        isinstance(key, dict)
        and key.get("kty") == "RSA"
        and isinstance(key.get("kid"), str)
        and isinstance(key.get("e"), str)
        and key.get("use", "sig") == "sig"
        and key.get("alg", ALGORITHM) == ALGORITHM
        and _may_verify(key.get("key_ops", ["verify"]))
        and _modulus(key).bit_length() >= SMALLEST_MODULUS
    )


def _may_verify(operations: object) -> bool:
    return isinstance(operations, list) and "verify" in operations


def has_public_private_half(key: Jwk) -> bool:
    """Whether this is the key an embedded AWS signs with: all its pools share it, and it is published."""
    return fingerprint(key) in PUBLIC_PRIVATE_KEYS


def fingerprint(key: Jwk) -> str:
    """Return 32 hex digits that name a key's modulus."""
    return hashlib.sha256(str(_modulus(key)).encode()).hexdigest()[:32]


def _modulus(key: Jwk) -> int:
    modulus = key.get("n")
    if not isinstance(modulus, str):
        return 0
    try:
        return int.from_bytes(base64url_decode(modulus.encode()), "big")
    except ValueError:
        return 0
