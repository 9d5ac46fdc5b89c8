"""Workers' tokens, where an upload asks for them."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwt

from pygrid_node.errors import AuthenticationFailed
from pygrid_node.tokens import check_token


@pytest.fixture(scope="module")
def pair():
    """A private key and its public one, as PEM."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return (
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )


def test_a_token_signed_with_the_private_key_lets_in(pair):
    """The upload holds the public one; beside a secret, either will do."""
    private, public = pair
    by_key = jwt.encode({"sub": "phone-1", "aud": "any"}, private, algorithm="RS256")
    by_secret = jwt.encode({}, "s3cret", algorithm="HS256")

    check_token({"pub_key": public}, by_key)
    for token in (by_key, by_secret):
        check_token({"secret": "s3cret", "pub_key": public}, token)


@pytest.mark.parametrize("algorithm", ["RS512", "HS256"])
def test_a_public_key_verifies_what_it_is_meant_for_only(pair, algorithm):
    """With another algorithm, what is public could pass for a secret."""
    private, public = pair
    token = jwt.encode({}, private if algorithm == "RS512" else "s3cret", algorithm=algorithm)
    with pytest.raises(AuthenticationFailed, match="The 'auth_token' you sent is invalid"):
        check_token({"pub_key": public}, token)


@pytest.mark.parametrize("key", ["no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_a_key_that_is_none_lets_nobody_in(pair, key):
    """With the words for a wrong token; it is no fault of the node."""
    token = jwt.encode({}, pair[0], algorithm="RS256")
    with pytest.raises(AuthenticationFailed, match="invalid"):
        check_token({"pub_key": key}, token)
