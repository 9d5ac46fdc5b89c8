import secrets
from base64 import b64encode

import pytest

from local_platform.repairs.srp import BadPublicValueError, Exchange, Login, N

POOL = "us-east-1_abc"
BLOCK = b64encode(b"any bytes at all").decode()


def challenge_of(exchange):
    return {
        "SALT": f"{exchange.salt:x}",
        "SRP_B": f"{exchange.public:x}",
        "USER_ID_FOR_SRP": exchange.login.username,
        "SECRET_BLOCK": BLOCK,
    }


def is_accepted(srp_client, known, typed, salt=None):
    client = srp_client(POOL, "ada", typed)
    salt = secrets.randbits(128) if salt is None else salt
    exchange = Exchange.begin(Login("abc", "ada", known), client.public, salt, secrets.randbits(256))
    claim = client.claim(challenge_of(exchange))
    return exchange.accepts(BLOCK, claim["TIMESTAMP"], claim["PASSWORD_CLAIM_SIGNATURE"])


def test_group_is_that_of_rfc_3526(prime):
    """Clients have the 3072-bit prime built in; it is computed here from pi, as the RFC defines it."""
    assert prime == N


def test_right_password_is_accepted_every_time(srp_client):
    """Numbers are drawn anew each time; those with a set first bit are hashed with a pad."""
    assert all(is_accepted(srp_client, "Tr0ub4dor&3", "Tr0ub4dor&3") for _ in range(8))


@pytest.mark.parametrize("salt", [1, 0x7F, 0x80, 0xFFF, 2**127, 2**127 - 1], ids=hex)
def test_salt_of_any_shape_is_hashed_as_clients_do(srp_client, salt):
    """A number is hashed as signed big-endian bytes."""
    assert is_accepted(srp_client, "s3cret", "s3cret", salt)


@pytest.mark.parametrize("typed", ["", "tr0ub4dor&3", "Tr0ub4dor&3 ", "Träumerei"])
def test_wrong_password_is_refused(srp_client, typed):
    """Both sides arrive at one key only if they hash the same password."""
    assert not is_accepted(srp_client, "Tr0ub4dor&3", typed)


def test_password_outside_ascii_is_accepted(srp_client):
    """Text is hashed as UTF-8."""
    assert is_accepted(srp_client, "Grüße-7", "Grüße-7")


@pytest.mark.parametrize("public", [0, N, 2 * N, -1], ids=["0", "N", "2N", "-1"])
def test_public_value_that_fixes_the_key_is_refused(public):
    """With A = 0 modulo N the key is the same whatever the password (RFC 5054, section 2.5.4)."""
    with pytest.raises(BadPublicValueError):
        Exchange.begin(Login("abc", "ada", "s3cret"), f"{public:x}", 1, 1)


def test_public_value_that_is_no_number_is_refused():
    """It comes from outside."""
    with pytest.raises(BadPublicValueError, match="hexadecimal"):
        Exchange.begin(Login("abc", "ada", "s3cret"), "xyz", 1, 1)


def test_claim_for_another_time_is_refused(srp_client):
    """The signature covers the time stamp."""
    client = srp_client(POOL, "ada", "s3cret")
    exchange = Exchange.begin(Login("abc", "ada", "s3cret"), client.public, 1, secrets.randbits(256))
    claim = client.claim(challenge_of(exchange))

    assert not exchange.accepts(BLOCK, "Tue Nov 24 4:05:06 UTC 2026", claim["PASSWORD_CLAIM_SIGNATURE"])


@pytest.mark.parametrize(("block", "signature"), [("no base64!", "x"), (BLOCK, ""), (BLOCK, "ä")])
def test_claim_that_makes_no_sense_is_refused(block, signature):
    """It comes from outside, too."""
    exchange = Exchange.begin(Login("abc", "ada", "s3cret"), "2", 1, 1)

    assert not exchange.accepts(block, "now", signature)
