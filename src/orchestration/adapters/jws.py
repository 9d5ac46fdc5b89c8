"""JSON Web Signatures (RFC 7515) in compact form, RS256 only: whether a signature holds, whatever it signs.

What the token must look like before a key is looked at is checked here; the signature is python-jose's work.
"""

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any

from jose.backends.base import Key
from jose.exceptions import JOSEError
from jose.utils import base64url_decode

from orchestration.domain.errors import Unauthenticated

ALGORITHM = "RS256"

LONGEST_TOKEN = 8192
"""Characters; Cognito's access tokens have about 1,100, custom scopes and groups included rarely 4,000."""

PARTS = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]+)", re.ASCII)

JsonObject = Mapping[str, Any]


def verified_payload(token: str, key: Callable[[str], Key]) -> tuple[JsonObject, bytes]:
    """Return header and payload of a token whose RS256 signature holds. Raises Unauthenticated.

    `key` returns the key of a `kid`, or raises. What the payload claims is still to be checked.
    """
    parts = PARTS.fullmatch(token) if len(token) <= LONGEST_TOKEN else None
    if parts is None:
        raise malformed()
    header = json_object(_decoded(parts[1]))
    payload, signature = _decoded(parts[2]), _decoded(parts[3])
    kid = header.get("kid")
    if header.get("alg") != ALGORITHM:
        raise Unauthenticated("The token must be signed with RS256.")
    if "crit" in header:
        raise Unauthenticated("The token asks for extensions that this service doesn't know.")
    if not isinstance(kid, str):
        raise Unauthenticated("The token doesn't name its key.")
    if not _holds(key(kid), token[: parts.end(2)].encode(), signature):
        raise Unauthenticated("The token's signature doesn't hold.")
    return header, payload


def json_object(text: bytes) -> JsonObject:
    """Parse a JSON object in which no name stands twice. Raises Unauthenticated."""
    try:
        value = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError):
        raise malformed() from None
    if not isinstance(value, dict):
        raise malformed()
    return value


def malformed() -> Unauthenticated:
    """Return the error for what is no token at all; it never repeats the token."""
    return Unauthenticated("The token is malformed.")


def _holds(key: Key, signed: bytes, signature: bytes) -> bool:
    try:
        return bool(key.verify(signed, signature))
    except (JOSEError, ValueError):
        return False


def _decoded(part: str) -> bytes:
    """Decode base64url; spare bits must be zero, or one signature would have several spellings."""
    try:
        decoded: bytes = base64url_decode(part.encode())
    except ValueError:
        raise malformed() from None
    if urlsafe_b64encode(decoded).rstrip(b"=").decode() != part:
        raise malformed()
    return decoded


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate names")
    return value
