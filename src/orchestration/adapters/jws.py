"""JSON Web Signatures (RFC 7515), compact form, RS256 only, and the user pool's keys that verify them.

This module checks a token's form before it looks up a key; python-jose checks the signature.
"""

import hashlib
import json
import re
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping
from typing import Any

import requests
import structlog
from jose import jwk
from jose.backends.base import Key
from jose.exceptions import JOSEError
from jose.utils import base64url_decode

from orchestration.domain.errors import Unauthenticated, Unavailable, Upstream

log = structlog.get_logger(__name__)

JsonObject = Mapping[str, Any]
Jwk = Mapping[str, Any]

PUBLISHED_KEYS = frozenset({"1d98b1af39750ec21b64d10f6067096d"})
"""Fingerprints of keys whose private half is public: an embedded AWS signs with it for all its pools."""

_ALGORITHM = "RS256"
_LONGEST_TOKEN = 8192  # characters; Cognito's access tokens have about 1,100, with custom scopes rarely 4,000
_PARTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]+)", re.ASCII)

_REFETCH_AFTER = 10.0
"""Seconds. An unknown `kid` may be a new key of the pool, or made up to cause requests to Cognito."""
_RETRY_AFTER = 1.0  # seconds, while no key is known
_TIMEOUT = (2.0, 5.0)  # seconds to connect, seconds to read
_SMALLEST_MODULUS = 2048  # bits


def verified_payload(token: str, key: Callable[[str], Key]) -> tuple[JsonObject, bytes]:
    """Return header and payload of a token with a valid RS256 signature. Raises Unauthenticated.

    `key` returns the key of a `kid`, or raises. The caller checks the payload's claims.
    """
    parts = _PARTS.fullmatch(token) if len(token) <= _LONGEST_TOKEN else None
    if parts is None:
        raise _malformed()
    header = json_object(_decoded(parts[1]))
    payload, signature = _decoded(parts[2]), _decoded(parts[3])
    kid = header.get("kid")
    if header.get("alg") != _ALGORITHM:
        raise Unauthenticated("The token must be signed with RS256.")
    if "crit" in header:
        raise Unauthenticated("The token asks for extensions that this service doesn't know.")
    if not isinstance(kid, str):
        raise Unauthenticated("The token doesn't name its key.")
    if not _is_valid(key(kid), token[: parts.end(2)].encode(), signature):
        raise Unauthenticated("The token's signature doesn't hold.")
    return header, payload


def json_object(text: bytes) -> JsonObject:
    """Parse a JSON object; a name must not occur twice. Raises Unauthenticated."""
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(value, dict):
        raise _malformed()
    return value


def _malformed() -> Unauthenticated:
    return Unauthenticated("The token is malformed.")


def _is_valid(key: Key, signed: bytes, signature: bytes) -> bool:
    try:
        return bool(key.verify(signed, signature))
    except (JOSEError, ValueError):
        return False


def _decoded(part: str) -> bytes:
    """Decode base64url. Unused bits must be zero, so that each signature has exactly one encoding."""
    try:
        decoded: bytes = base64url_decode(part.encode())
    except ValueError:
        raise _malformed() from None
    if urlsafe_b64encode(decoded).rstrip(b"=").decode() != part:
        raise _malformed()
    return decoded


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate names")
    return value


class KeySet:
    """The keys of one user pool by their `kid`: cached, fetched by one thread at a time.

    While Cognito can't be reached, the keys fetched last remain valid.
    """

    def __init__(
        self,
        fetch: Callable[[], Jwk],
        *,
        untrusted: Collection[str] = PUBLISHED_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use the keys of the key set that `fetch` returns, except those with the fingerprints `untrusted`.

        `fetch` raises Unavailable if Cognito can't be reached.
        """
        self._fetch = fetch
        self.untrusted = untrusted
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, Key] = {}
        self._fetched_at = -_REFETCH_AFTER

    def key(self, kid: str) -> Key:
        """Return the key. Raises Unauthenticated for an unknown `kid`, Unavailable while no key is known."""
        if kid not in self._keys:
            self._refresh(kid)
        if not self._keys:
            raise Unavailable("The user pool's key set can't be fetched.")
        if kid not in self._keys:
            raise Unauthenticated("The token is signed with a key that the user pool doesn't have.")
        return self._keys[kid]

    def _refresh(self, kid: str) -> None:
        with self._lock:
            if kid in self._keys or self._clock() - self._fetched_at < _REFETCH_AFTER:
                return
            self._fetched_at = self._clock()
            try:
                self._keys = usable_keys(self._fetch(), self.untrusted)
            except Upstream:
                if not self._keys:  # no login works: try again soon, but not once per waiting thread
                    self._fetched_at += _RETRY_AFTER - _REFETCH_AFTER
                log.warning("jwks.fetch_failed", kept=len(self._keys))


def usable_keys(key_set: Jwk, untrusted: Collection[str] = PUBLISHED_KEYS) -> dict[str, Key]:
    """Return the keys of a key set that may verify a token, by `kid`. Raises Upstream for anything else.

    Keys with the fingerprints `untrusted` are left out.
    """
    keys = key_set.get("keys")
    if not isinstance(keys, list):
        raise Upstream("The user pool's key set is not a key set.")
    wanted = [key for key in keys if is_verification_key(key) and fingerprint(key) not in untrusted]
    built = ((key["kid"], _built(key)) for key in wanted)
    return {kid: key for kid, key in built if key is not None}


def _built(key: Jwk) -> Key | None:
    try:
        return jwk.construct(dict(key), _ALGORITHM)
    except (JOSEError, ValueError, TypeError):  # an invalid modulus or exponent
        log.warning("jwks.key_skipped", kid=key["kid"])
        return None


def fetcher(url: str, timeout: tuple[float, float] = _TIMEOUT) -> Callable[[], Jwk]:
    """Return a function that fetches the key set at `url`, or raises Unavailable.

    `timeout` is the seconds to connect and the seconds between two reads.
    """

    def fetch() -> Jwk:
        try:
            answer = requests.get(url, timeout=timeout, allow_redirects=False)
            answer.raise_for_status()
            key_set = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise Unavailable("The user pool's key set can't be fetched.") from error
        return key_set if isinstance(key_set, dict) else {}

    return fetch


def is_verification_key(key: object) -> bool:
    """Return whether a JWK is an RSA key of at least 2048 bits that may verify RS256 (RFC 7517)."""
    return (
        isinstance(key, dict)
        and key.get("kty") == "RSA"
        and isinstance(key.get("kid"), str)
        and isinstance(key.get("e"), str)
        and key.get("use", "sig") == "sig"
        and key.get("alg", _ALGORITHM) == _ALGORITHM
        and _may_verify(key.get("key_ops", ["verify"]))
        and _modulus(key).bit_length() >= _SMALLEST_MODULUS
    )


def _may_verify(operations: object) -> bool:
    return isinstance(operations, list) and "verify" in operations


def fingerprint(key: Jwk) -> str:
    """Return 32 hex digits that identify a key's modulus."""
    return hashlib.sha256(str(_modulus(key)).encode()).hexdigest()[:32]


def _modulus(key: Jwk) -> int:
    modulus = key.get("n")
    if not isinstance(modulus, str):
        return 0
    try:
        return int.from_bytes(base64url_decode(modulus.encode()), "big")
    except ValueError:
        return 0
