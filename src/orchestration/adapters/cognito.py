"""Verifies Cognito access tokens, by the rules of awslabs/aws-jwt-verify."""

from collections.abc import Callable
from dataclasses import dataclass

from orchestration.adapters.jws import JsonObject, KeySet, json_object, verified_payload
from orchestration.domain.entities import Caller
from orchestration.domain.errors import Unauthenticated

_LEEWAY = 30.0  # seconds by which Cognito's clock and ours may differ
_LATEST_TIME = 1e12  # seconds since the epoch; a larger claim is no time, and may overflow a float


@dataclass(frozen=True, slots=True)
class CognitoTokens:
    """Implements the port `TokenVerifier` for one user pool; `now` returns seconds since the epoch."""

    keys: KeySet
    issuer: str
    client_ids: frozenset[str]
    now: Callable[[], float]

    def verify(self, token: str) -> Caller:
        """Return the token's caller. Raises Unauthenticated; no message repeats the token."""
        header, payload = verified_payload(token, self.keys.key)
        if header.get("typ", "JWT") not in ("JWT", "at+jwt"):
            raise Unauthenticated("This is not an access token.")
        claims = json_object(payload)
        self._check(claims)
        return Caller(claims["username"])

    def _check(self, claims: JsonObject) -> None:
        now = self.now()
        _require(claims.get("iss") == self.issuer, "The token is of another user pool.")
        _require(claims.get("token_use") == "access", "Send the access token, not the ID token.")
        client_id = claims.get("client_id")
        is_ours = isinstance(client_id, str) and client_id in self.client_ids
        _require(is_ours, "The token was issued to another app.")
        _require(_is_time(claims.get("exp")) and _is_time(claims.get("iat")), "The token has no valid times.")
        _require(now < claims["exp"] + _LEEWAY, "The token has expired. Log in again.")
        _require(claims["iat"] <= now + _LEEWAY, "The token is from the future.")
        not_before = claims.get("nbf", 0)
        _require(_is_time(not_before) and not_before <= now + _LEEWAY, "The token is not valid yet.")
        username = claims.get("username")
        _require(isinstance(username, str) and username != "", "The token has no username.")


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LATEST_TIME


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise Unauthenticated(sentence)
