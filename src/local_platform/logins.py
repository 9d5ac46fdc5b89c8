"""Cognito: the pool, the app client, and who can log in."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local_platform.clients import LocalAws
from local_platform.seeds import Person

FLOWS = ["ALLOW_USER_SRP_AUTH", "ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]
"""SRP for artificienlib and the marketplace; the password itself for what runs here."""


class LoginError(Exception):
    """Cognito refused the name or the password, or gave no answer."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A user pool and the app client to log in with."""

    pool_id: str
    client_id: str

    def key_set_path(self) -> str:
        """Return where its public keys are, below the URL of AWS."""
        return f"/{self.pool_id}/.well-known/jwks.json"


def make_pool(aws: LocalAws, people: Iterable[Person]) -> Pool:
    """Make a pool with an app client and these confirmed users."""
    cognito = aws.client("cognito-idp")
    pool_id = cognito.create_user_pool(PoolName="artificien")["UserPool"]["Id"]
    client = cognito.create_user_pool_client(
        UserPoolId=pool_id, ClientName="artificienlib", ExplicitAuthFlows=FLOWS
    )
    add_people(aws, pool_id, people)
    return Pool(pool_id, client["UserPoolClient"]["ClientId"])


def add_people(aws: LocalAws, pool_id: str, people: Iterable[Person]) -> None:
    """Let these people log in with their passwords, at once."""
    cognito = aws.client("cognito-idp")
    for person in people:
        email = {"Name": "email", "Value": person.email}
        cognito.admin_create_user(UserPoolId=pool_id, Username=person.username, UserAttributes=[email])
        cognito.admin_set_user_password(
            UserPoolId=pool_id, Username=person.username, Password=person.password, Permanent=True
        )


def access_token(aws: LocalAws, client_id: str, username: str, password: str) -> str:
    """Log in and return the access token, good for an hour. Raises LoginError."""
    try:
        answer: dict[str, Any] = aws.client("cognito-idp").initiate_auth(
            ClientId=client_id,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": username, "PASSWORD": password},
        )
    except ClientError as error:
        raise LoginError(f"{username} can't log in: {error.response['Error']['Message']}") from error
    except BotoCoreError as error:
        raise LoginError(f"AWS gives no answer at {aws.url}; is the platform up?") from error
    return str(answer["AuthenticationResult"]["AccessToken"])
