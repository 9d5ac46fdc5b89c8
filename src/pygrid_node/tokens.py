"""Tokens of workers, where an upload asks for them."""

from collections.abc import Mapping
from typing import Any

from jose import JOSEError, jwt

from pygrid_node.errors import AuthenticationFailed

# What verifies with which entry of `authentication`; never both, lest a public key serve as a secret.
_ALGORITHMS = {"secret": "HS256", "pub_key": "RS256"}


def check_token(authentication: Mapping[str, str] | None, token: Any) -> None:
    """Let a worker pass; raises `AuthenticationFailed` if the process wants a token and this is none."""
    if authentication is None:
        return
    if not token:
        raise AuthenticationFailed("Authentication is required, please pass an 'auth_token'.")
    if not any(_verifies(str(token), key, _ALGORITHMS[kind]) for kind, key in authentication.items()):
        raise AuthenticationFailed("The 'auth_token' you sent is invalid.")


def _verifies(token: str, key: str, algorithm: str) -> bool:
    try:
        jwt.decode(token, key, algorithms=[algorithm], options={"verify_aud": False})
    except JOSEError:  # a token that is none, or a key that is none
        return False
    return True
