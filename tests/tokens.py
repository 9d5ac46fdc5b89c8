"""A user pool for tests: signed access tokens like Cognito's, and forged ones."""

import base64
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.builders import NOON

ISSUER = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Pool"
CLIENT = "app-client"
KID = "the pool's key"


@cache
def private_key(name: str = KID) -> rsa.RSAPrivateKey:
    """Return the RSA key of a name; generating one is slow."""
    return rsa.generate_private_key(65537, 1024 if name == "short" else 2048)


def jwk_of(name: str = KID, **changes: Any) -> dict[str, Any]:
    """Return the public key as a user pool publishes it."""
    numbers = private_key(name).public_key().public_numbers()
    return {
        "kty": "RSA",
        "kid": name,
        "use": "sig",
        "alg": "RS256",
        "n": encoded(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
        "e": encoded(numbers.e.to_bytes(3, "big")),
    } | changes


def public_pem() -> bytes:
    """Return the public key in PEM, which an HS256 attack uses as the secret."""
    public = private_key().public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(**changes: Any) -> dict[str, Any]:
    """Return Cognito's claims of a data scientist who has just logged in; None omits a claim."""
    usual = {
        "sub": "0c5a8f0e",
        "iss": ISSUER,
        "client_id": CLIENT,
        "token_use": "access",
        "scope": "aws.cognito.signin.user.admin",
        "auth_time": int(NOON),
        "iat": int(NOON),
        "exp": int(NOON) + 3600,
        "username": "ada",
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def header(**changes: Any) -> dict[str, Any]:
    """Return the header of a token; None omits a field."""
    return {
        name: value for name, value in ({"alg": "RS256", "kid": KID} | changes).items() if value is not None
    }


def signed(payload: Any = None, head: Any = None, key: str = KID) -> str:
    """Return a token with a valid RS256 signature by `key`; strings are used unchanged."""
    parts = [encoded(_json(head if head is not None else header())), encoded(_json(payload or claims()))]
    body = ".".join(parts)
    signature = private_key(key).sign(body.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{body}.{encoded(signature)}"


def encoded(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _json(value: Any) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value)).encode()
