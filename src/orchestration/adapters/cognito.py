"""Cognito access tokens: what they must look like before their signature is checked, and what they must say.

The rules are those of awslabs/aws-jwt-verify; the signature itself is python-jose's work.
"""

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jose import jwk
from jose.exceptions import JOSEError
from jose.utils import base64url_decode

from orchestration.adapters.jwks import Jwk, KeySet
from orchestration.domain.entities import Caller
from orchestration.domain.errors import Unauthenticated

LEEWAY = 30.0
"""Seconds by which Cognito's clock and ours may differ."""

LONGEST_TOKEN = 8192
"""Characters; Cognito's access tokens have about 1,100, custom scopes and groups included rarely 4,000."""

LATEST_TIME = 1e12
"""Seconds since the epoch: beyond it, a claim is no time, and no number to calculate with either."""

PARTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)", re.ASCII)

Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CognitoTokens:
    """Implements the port `TokenVerifier` for one user pool; `now` returns seconds since the epoch."""

    keys: KeySet
    issuer: str
    client_ids: frozenset[str]
    now: Callable[[], float]

    def verify(self, token: str) -> Caller:
        """Return whose token it is. Raises Unauthenticated; never repeats the token."""
        header, claims = verified(token, self.keys.key)
        if header.get("typ", "JWT") not in ("JWT", "at+jwt"):
            raise Unauthenticated("This is not an access token.")
        self._check(claims)
        return Caller(claims["username"])

    def _check(self, claims: Claims) -> None:
        now = self.now()
        _require(claims.get("iss") == self.issuer, "The token is of another user pool.")
        _require(claims.get("token_use") == "access", "Send the access token, not the ID token.")
        client_id = claims.get("client_id")
        is_ours = isinstance(client_id, str) and client_id in self.client_ids
        _require(is_ours, "The token was issued to another app.")
        _require(_is_time(claims.get("exp")) and _is_time(claims.get("iat")), "The token has no valid times.")
        _require(now < claims["exp"] + LEEWAY, "The token has expired. Log in again.")
        _require(claims["iat"] <= now + LEEWAY, "The token is from the future.")
        not_before = claims.get("nbf", 0)
        _require(_is_time(not_before) and not_before <= now + LEEWAY, "The token is not valid yet.")
        username = claims.get("username")
        _require(isinstance(username, str) and username != "", "The token names nobody.")


def verified(token: str, key: Callable[[str], Jwk]) -> tuple[Claims, Claims]:
    """Return header and claims of a token whose RS256 signature holds. Raises Unauthenticated.

    `key` returns the JWK of a `kid`, or raises. The claims are anybody's who holds such a key: check them.
    """
    parts = PARTS.fullmatch(token) if len(token) <= LONGEST_TOKEN else None
    if parts is None:
        raise Unauthenticated("The token is malformed.")
    header = _object(parts[1])
    kid = header.get("kid")
    _require(header.get("alg") == "RS256", "The token must be signed with RS256.")
    _require("crit" not in header, "The token asks for extensions that this service doesn't know.")
    _require(isinstance(kid, str), "The token doesn't name its key.")
    signed = token[: parts.end(2)].encode()
    _require(_holds(key(str(kid)), signed, _bytes(parts[3])), "The token's signature doesn't hold.")
    return header, _object(parts[2])


def _holds(key: Jwk, signed: bytes, signature: bytes) -> bool:
    try:
        return bool(jwk.construct(dict(key), "RS256").verify(signed, signature))
    except (JOSEError, ValueError):
        return False


def _bytes(part: str) -> bytes:
    """Decode base64url; spare bits must be zero, or one signature would have several spellings."""
    try:
        decoded = base64url_decode(part.encode())
    except ValueError:
        raise Unauthenticated("The token is malformed.") from None
    if len(part) % 4 == 1 or _spelling(decoded) != part:
        raise Unauthenticated("The token is malformed.")
    return decoded


def _spelling(decoded: bytes) -> str:
    return urlsafe_b64encode(decoded).rstrip(b"=").decode()


def _object(part: str) -> Claims:
    try:
        value = json.loads(_bytes(part), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError):
        raise Unauthenticated("The token is malformed.") from None
    if not isinstance(value, dict):
        raise Unauthenticated("The token is malformed.")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate names")
    return value


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LATEST_TIME


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise Unauthenticated(sentence)
