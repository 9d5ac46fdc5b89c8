import pytest
import requests
from botocore.exceptions import ClientError
from jose import jwt

from local_platform.logins import make_pool
from local_platform.seeds import Person

pytestmark = pytest.mark.moto

ADA = Person("ada", "Passw0rd-of-ada", "data scientist")
BOB = Person("bob", "Passw0rd-of-bob", "data scientist")


@pytest.fixture(scope="module")
def pool(aws):
    return make_pool(aws, [ADA, BOB])


@pytest.fixture
def cognito(aws):
    return aws.client("cognito-idp")


@pytest.fixture
def begin(cognito, pool):
    """Send the name and A; return the challenge."""

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
    """Go through the whole exchange as a client library does."""

    def go(person, password):
        client = srp_client(pool.pool_id, person.username, password)
        return finish(client.claim(begin(client, person.username)))

    return go


def refusal(call, *arguments):
    with pytest.raises(ClientError) as caught:
        call(*arguments)
    return caught.value.response["Error"]["Code"]


def test_right_password_logs_in(log_in):
    """As on AWS, and with all three tokens."""
    tokens = log_in(ADA, ADA.password)

    assert {"AccessToken", "IdToken", "RefreshToken"} <= tokens.keys()


def test_wrong_password_is_refused(log_in):
    """Stock moto takes any."""
    assert refusal(log_in, ADA, "Passw0rd-of-eve") == "NotAuthorizedException"


def test_claim_is_good_once(pool, srp_client, begin, finish):
    """Who overhears one must not log in with it."""
    client = srp_client(pool.pool_id, "ada", ADA.password)
    claim = client.claim(begin(client, "ada"))
    finish(claim)

    assert refusal(finish, claim) == "NotAuthorizedException"


def test_challenge_is_gone_after_a_wrong_answer(pool, srp_client, begin, finish):
    """Else one challenge could be tried with a list of passwords."""
    client = srp_client(pool.pool_id, "ada", ADA.password)
    claim = client.claim(begin(client, "ada"))
    refusal(finish, claim | {"PASSWORD_CLAIM_SIGNATURE": "AAAA"})

    assert refusal(finish, claim) == "NotAuthorizedException"


def test_nobody_logs_in_under_another_name(pool, srp_client, begin, finish):
    """The name in the claim isn't signed; the one in the challenge counts."""
    client = srp_client(pool.pool_id, "ada", ADA.password)
    tokens = finish(client.claim(begin(client, "ada")) | {"USERNAME": "bob"})

    assert jwt.get_unverified_claims(tokens["AccessToken"])["username"] == "ada"


@pytest.mark.parametrize("public", ["0", "xyz"])
def test_senseless_public_value_is_refused(cognito, pool, public):
    """AWS calls it an invalid parameter."""
    login = {"USERNAME": "ada", "SRP_A": public}
    arguments = {"ClientId": pool.client_id, "AuthFlow": "USER_SRP_AUTH", "AuthParameters": login}

    assert refusal(lambda: cognito.initiate_auth(**arguments)) == "InvalidParameterException"


def test_user_without_a_password_is_refused(cognito, pool, srp_client, begin):
    """There is nothing that they could prove."""
    cognito.admin_create_user(UserPoolId=pool.pool_id, Username="eve")

    assert refusal(begin, srp_client(pool.pool_id, "eve", "None"), "eve") == "NotAuthorizedException"


def test_login_by_the_password_itself_goes_on_as_before(cognito, pool):
    """Only the exchange is replaced."""
    login = {"USERNAME": "ada", "PASSWORD": ADA.password}
    arguments = {"ClientId": pool.client_id, "AuthFlow": "USER_PASSWORD_AUTH", "AuthParameters": login}

    assert "AuthenticationResult" in cognito.initiate_auth(**arguments)


def test_temporary_password_must_be_changed_after_it_was_proved(cognito, pool, srp_client, begin):
    """The other challenges are moto's, and find the session of ours."""
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


def test_access_token_verifies_against_the_pools_keys(aws, pool, log_in):
    """The service checks it so, and reads these claims."""
    token = log_in(ADA, ADA.password)["AccessToken"]
    keys = requests.get(aws.url + pool.key_set_path(), timeout=10).json()
    claims = jwt.decode(token, keys, algorithms=["RS256"])

    assert claims["iss"] == f"https://cognito-idp.us-east-1.amazonaws.com/{pool.pool_id}"
    assert claims["client_id"] == pool.client_id
    assert (claims["token_use"], claims["username"]) == ("access", "ada")
    assert claims["exp"] - claims["iat"] == 3600


def test_refresh_token_brings_a_new_access_token(cognito, pool, log_in):
    """The marketplace stays logged in that way."""
    refresh = {"REFRESH_TOKEN": log_in(ADA, ADA.password)["RefreshToken"]}
    answer = cognito.initiate_auth(
        ClientId=pool.client_id, AuthFlow="REFRESH_TOKEN_AUTH", AuthParameters=refresh
    )

    assert answer["AuthenticationResult"]["AccessToken"]
