"""The time to verify an access token with a cached key, compared with the library's decoding alone.

    python bench/token_verification.py

Both have the key and alternate in one run, so that a change of the machine's speed affects both. The result
is the ratio of the medians.
"""

import statistics
import time
from collections.abc import Callable

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwk, jwt

from orchestration.adapters.cognito import CognitoTokens
from orchestration.adapters.jws import KeySet

ROUNDS, CALLS = 60, 50
ISSUER = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_bench"


def main() -> None:
    """Print microseconds per token, and the ratio."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = jwk.construct(pem, "RS256").public_key().to_dict() | {"kid": "bench", "use": "sig"}
    token = jwt.encode(claims(time.time()), pem, algorithm="RS256", headers={"kid": "bench"})
    tokens = CognitoTokens(KeySet(lambda: {"keys": [public]}), ISSUER, frozenset({"client"}), time.time)
    key, options = jwk.construct(public, "RS256"), {"verify_aud": False}

    ours, bare = [], []
    for _ in range(ROUNDS):
        ours.append(timed(lambda: tokens.verify(token)))
        bare.append(timed(lambda: jwt.decode(token, key, algorithms=["RS256"], options=options)))

    us, them = statistics.median(ours), statistics.median(bare)
    print(f"all our checks       {us:8.1f} us a token")
    print(f"jose's decode alone  {them:8.1f} us a token")
    print(f"ratio                {us / them:8.2f}")


def claims(now: float) -> dict[str, object]:
    """Return the claims of Cognito's access tokens."""
    return {
        "sub": "0f5c9e0e-7c5a-4c11-9a5e-2c3c8f3b9f10",
        "iss": ISSUER,
        "client_id": "client",
        "origin_jti": "8d3b7b0e-4e1f-4a0a-9d0b-1d9a4f7f2b11",
        "event_id": "f3d0c9c5-9e0a-4d5b-9d6a-3b1a1b2c3d4e",
        "token_use": "access",
        "scope": "aws.cognito.signin.user.admin",
        "auth_time": int(now),
        "exp": int(now) + 3600,
        "iat": int(now),
        "jti": "7b1d5f7e-2f0e-4f0b-8d8e-0d6c1a2b3c4d",
        "username": "ada",
    }


def timed(call: Callable[[], object]) -> float:
    """Return the mean microseconds of a call."""
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - started) / CALLS * 1e6


if __name__ == "__main__":
    main()
