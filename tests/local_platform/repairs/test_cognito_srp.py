import secrets
from base64 import b64encode

import pytest
import requests
from botocore.exceptions import ClientError
from jose import jwt

from local_platform.repairs.cognito_srp import BadPublicValueError, Exchange, Login, N
from local_platform.seeds import User, create_pool

server = pytest.mark.moto

ADA = User("ada", "Passw0rd-of-ada", "data scientist")
BOB = User("bob", "Passw0rd-of-bob", "data scientist")


@pytest.fixture(scope="module")
def pool(aws):
    return create_pool(aws, [ADA, BOB])


@pytest.fixture
def cognito(aws):
    return aws.client("cognito-idp")


@pytest.fixture
def begin(cognito, pool):
    """Send username and A; return the challenge."""

    def send(client, username):
        answer = cognito.initiate_auth(
            ClientId=pool.client_id,
            AuthFlow="USER_SRP_AUTH",
            AuthParameters={"USERNAME": username, "SRP_A": client.public},
        )
        return answer["ChallengeParameters"]

    return send


@pytest.fixture
def finish(cognito, pool):
    """Send the claim; return the tokens."""

    def send(claim):
        answer = cognito.respond_to_auth_challenge(
            ClientId=pool.client_id, ChallengeName="PASSWORD_VERIFIER", ChallengeResponses=claim
        )
        return answer["AuthenticationResult"]

    return send


@pytest.fixture
def log_in(pool, srp_client, begin, finish):
    """Complete the exchange as a client library does."""

    def go(person, password):
        client = srp_client(pool.pool_id, person.username, password)
        return finish(client.claim(begin(client, person.username)))

    return go


def refusal(call, *arguments):
    with pytest.raises(ClientError) as caught:
        call(*arguments)
    return caught.value.response["Error"]["Code"]


@server
def test_right_password_logs_in(log_in):
    """All three tokens are returned."""
    tokens = log_in(ADA, ADA.password)

    assert {"AccessToken", "IdToken", "RefreshToken"} <= tokens.keys()


@server
def test_wrong_password_is_refused(log_in):
    """moto itself accepts any password."""
    assert refusal(log_in, ADA, "Passw0rd-of-eve") == "NotAuthorizedException"


@server
def test_claim_is_accepted_once(pool, srp_client, begin, finish):
    """An eavesdropper must not log in with a claim."""
    client = srp_client(pool.pool_id, "ada", ADA.password)
    claim = client.claim(begin(client, "ada"))
    finish(claim)

    assert refusal(finish, claim) == "NotAuthorizedException"


@server
def test_challenge_ends_with_a_wrong_answer(pool, srp_client, begin, finish):
    """A challenge must not be tried with many passwords."""
    client = srp_client(pool.pool_id, "ada", ADA.password)
    claim = client.claim(begin(client, "ada"))
    refusal(finish, claim | {"PASSWORD_CLAIM_SIGNATURE": "AAAA"})

    assert refusal(finish, claim) == "NotAuthorizedException"


@server
def test_claim_logs_in_the_challenged_user_only(pool, srp_client, begin, finish):
    """The username in the claim isn't signed, so the challenge's username is used."""
    client = srp_client(pool.pool_id, "ada", ADA.password)
    tokens = finish(client.claim(begin(client, "ada")) | {"USERNAME": "bob"})

    assert jwt.get_unverified_claims(tokens["AccessToken"])["username"] == "ada"


@server
@pytest.mark.parametrize("public", ["0", "xyz"])
def test_invalid_public_value_is_refused(cognito, pool, public):
    """AWS answers InvalidParameterException."""
    login = {"USERNAME": "ada", "SRP_A": public}
    arguments = {"ClientId": pool.client_id, "AuthFlow": "USER_SRP_AUTH", "AuthParameters": login}

    assert refusal(lambda: cognito.initiate_auth(**arguments)) == "InvalidParameterException"


@server
def test_user_without_a_password_is_refused(cognito, pool, srp_client, begin):
    """There is no password to prove."""
    cognito.admin_create_user(UserPoolId=pool.pool_id, Username="eve")

    assert refusal(begin, srp_client(pool.pool_id, "eve", "None"), "eve") == "NotAuthorizedException"


@server
def test_password_login_still_works(cognito, pool):
    """Only the SRP exchange is replaced."""
    login = {"USERNAME": "ada", "PASSWORD": ADA.password}
    arguments = {"ClientId": pool.client_id, "AuthFlow": "USER_PASSWORD_AUTH", "AuthParameters": login}

    assert "AuthenticationResult" in cognito.initiate_auth(**arguments)


@server
def test_temporary_password_must_be_changed_after_login(cognito, pool, srp_client, begin):
    """moto's own challenges find the session of the repaired one."""
    temporary = "Passw0rd-for-now"
    cognito.admin_create_user(UserPoolId=pool.pool_id, Username="new", TemporaryPassword=temporary)
    client = srp_client(pool.pool_id, "new", temporary)
    answer = cognito.respond_to_auth_challenge(
        ClientId=pool.client_id,
        ChallengeName="PASSWORD_VERIFIER",
        ChallengeResponses=client.claim(begin(client, "new")),
    )
    changed = cognito.respond_to_auth_challenge(
        ClientId=pool.client_id,
        ChallengeName=answer["ChallengeName"],
        Session=answer["Session"],
        ChallengeResponses={"USERNAME": "new", "NEW_PASSWORD": "Passw0rd-of-new"},
    )

    assert answer["ChallengeName"] == "NEW_PASSWORD_REQUIRED"
    assert changed["AuthenticationResult"]["AccessToken"]


@server
def test_access_token_verifies_against_the_pools_keys(aws, pool, log_in):
    """The service verifies the signature and reads these claims."""
    token = log_in(ADA, ADA.password)["AccessToken"]
    keys = requests.get(aws.url + pool.key_set_path(), timeout=10).json()
    claims = jwt.decode(token, keys, algorithms=["RS256"])

    assert claims["iss"] == f"https://cognito-idp.us-east-1.amazonaws.com/{pool.pool_id}"
    assert claims["client_id"] == pool.client_id
    assert (claims["token_use"], claims["username"]) == ("access", "ada")
    assert claims["exp"] - claims["iat"] == 3600


@server
def test_refresh_token_returns_a_new_access_token(cognito, pool, log_in):
    """The marketplace uses it to stay logged in."""
    refresh = {"REFRESH_TOKEN": log_in(ADA, ADA.password)["RefreshToken"]}
    answer = cognito.initiate_auth(
        ClientId=pool.client_id, AuthFlow="REFRESH_TOKEN_AUTH", AuthParameters=refresh
    )

    assert answer["AuthenticationResult"]["AccessToken"]


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
    """Clients contain the 3072-bit prime; here it is computed from pi, as the RFC defines it."""
    assert prime == N


def test_right_password_is_accepted_with_any_random_numbers(srp_client):
    """A number whose first bit is set is hashed with a leading zero byte."""
    assert all(is_accepted(srp_client, "Tr0ub4dor&3", "Tr0ub4dor&3") for _ in range(8))


@pytest.mark.parametrize("salt", [1, 0x7F, 0x80, 0xFFF, 2**127, 2**127 - 1], ids=hex)
def test_any_salt_is_hashed_as_clients_do(srp_client, salt):
    """A salt is hashed as signed big-endian bytes."""
    assert is_accepted(srp_client, "s3cret", "s3cret", salt)


@pytest.mark.parametrize("typed", ["", "tr0ub4dor&3", "Tr0ub4dor&3 ", "Träumerei"])
def test_exchange_refuses_a_wrong_password(srp_client, typed):
    """Both sides derive the same key only from the same password."""
    assert not is_accepted(srp_client, "Tr0ub4dor&3", typed)


def test_password_beyond_ascii_is_accepted(srp_client):
    """Passwords are hashed as UTF-8."""
    assert is_accepted(srp_client, "Grüße-7", "Grüße-7")


@pytest.mark.parametrize("public", [0, N, 2 * N, -1], ids=["0", "N", "2N", "-1"])
def test_public_value_that_fixes_the_key_is_refused(public):
    """With A = 0 modulo N the key doesn't depend on the password (RFC 5054, section 2.5.4)."""
    with pytest.raises(BadPublicValueError):
        Exchange.begin(Login("abc", "ada", "s3cret"), f"{public:x}", 1, 1)


def test_public_value_that_is_not_a_number_is_refused():
    """The client sends it."""
    with pytest.raises(BadPublicValueError, match="hexadecimal"):
        Exchange.begin(Login("abc", "ada", "s3cret"), "xyz", 1, 1)


def test_claim_for_another_time_is_refused(srp_client):
    """The signature covers the time stamp."""
    client = srp_client(POOL, "ada", "s3cret")
    exchange = Exchange.begin(Login("abc", "ada", "s3cret"), client.public, 1, secrets.randbits(256))
    claim = client.claim(challenge_of(exchange))

    assert not exchange.accepts(BLOCK, "Tue Nov 24 4:05:06 UTC 2026", claim["PASSWORD_CLAIM_SIGNATURE"])


@pytest.mark.parametrize(("block", "signature"), [("no base64!", "x"), (BLOCK, ""), (BLOCK, "ä")])
def test_malformed_claim_is_refused(block, signature):
    """The client sends it."""
    exchange = Exchange.begin(Login("abc", "ada", "s3cret"), "2", 1, 1)

    assert not exchange.accepts(block, "now", signature)
