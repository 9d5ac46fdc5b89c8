"""A user pool of the tests: really signed Cognito tokens, and forged ones."""

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
    """One RSA key a name; making one takes a while."""
    return rsa.generate_private_key(65537, 1024 if name == "short" else 2048)


def jwk_of(name: str = KID, **changes: Any) -> dict[str, Any]:
    """The public half, as a pool publishes it."""
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
    """What a verifier that mixes up algorithms takes for an HMAC secret."""
    public = private_key().public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(**changes: Any) -> dict[str, Any]:
    """What Cognito says of a data scientist who has just logged in; None leaves a claim out."""
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
    """What a token says of its signature; None leaves a field out."""
    return {
        name: value for name, value in ({"alg": "RS256", "kid": KID} | changes).items() if value is not None
    }


def signed(payload: Any = None, head: Any = None, key: str = KID) -> str:
    """A token whose RS256 signature by `key` is right, whatever it says; text goes in as it is."""
    parts = [encoded(_json(head if head is not None else header())), encoded(_json(payload or claims()))]
    body = ".".join(parts)
    signature = private_key(key).sign(body.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{body}.{encoded(signature)}"


def encoded(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _json(value: Any) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value)).encode()
