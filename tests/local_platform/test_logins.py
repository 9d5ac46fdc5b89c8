import pytest

from local_platform.clients import LocalAws
from local_platform.logins import LoginError, access_token, make_pool
from local_platform.network import claim_port
from local_platform.seeds import Person

ADA = Person("ada", "Passw0rd-of-ada", "data scientist")


@pytest.fixture(scope="module")
def pool(aws):
    return make_pool(aws, [ADA])


@pytest.mark.moto
def test_password_brings_a_token(aws, pool):
    """Three parts, as a JWT has."""
    assert access_token(aws, pool.client_id, "ada", ADA.password).count(".") == 2


@pytest.mark.moto
@pytest.mark.parametrize(("name", "password"), [("ada", "wrong"), ("eve", ADA.password)])
def test_wrong_login_is_refused(aws, pool, name, password):
    """In one line, for the command line."""
    with pytest.raises(LoginError, match=f"{name} can't log in"):
        access_token(aws, pool.client_id, name, password)


def test_silent_aws_is_named():
    """The platform may have been killed, and its exports left behind."""
    nowhere = LocalAws(f"http://127.0.0.1:{claim_port(0, '--aws-port')}", "us-east-1")

    with pytest.raises(LoginError, match="is the platform up"):
        access_token(nowhere, "client", "ada", "s3cret")
