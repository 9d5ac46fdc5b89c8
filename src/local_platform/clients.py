"""boto3 clients of the AWS on this machine. They never use the operator's own profile or credentials."""

import os
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader, create_loader

from local_platform import LocalPlatformError

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
"""moto accepts any credentials."""

_CONFIG = Config(proxies={}, connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 2})


@dataclass(frozen=True, slots=True)
class LocalAws:
    """URL and region of the AWS on this machine."""

    url: str
    region: str

    def session(self) -> boto3.Session:
        """Return a session that reads neither the environment nor the operator's configuration files."""
        ignored = (None, None, None, None)
        variables = {"profile": ignored, "config_file": (None, None, os.devnull, None)}
        variables["credentials_file"] = (None, None, os.devnull, None)
        session = botocore.session.Session(session_vars=variables)
        session.register_component("data_loader", _loader())
        return boto3.Session(
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=self.region,
            botocore_session=session,
        )

    def client(self, service: str) -> Any:
        """Return a boto3 client."""
        return cast(Any, self.session()).client(service, endpoint_url=self.url, config=_CONFIG)

    def resource(self, service: str) -> Any:
        """Return a boto3 resource. It isn't thread-safe."""
        return cast(Any, self.session()).resource(service, endpoint_url=self.url, config=_CONFIG)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that direct the AWS clients of a child process to this AWS."""
        return CREDENTIALS | {
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@cache
def _loader() -> Loader:
    """Return one loader for all sessions, because it keeps the parsed descriptions of AWS's services."""
    return create_loader()


def access_token(aws: LocalAws, client_id: str, username: str, password: str) -> str:
    """Log in to Cognito and return the access token, valid for an hour. Raises LocalPlatformError."""
    try:
        answer: dict[str, Any] = aws.client("cognito-idp").initiate_auth(
            ClientId=client_id,
            AuthFlow="USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": username, "PASSWORD": password},
        )
    except ClientError as error:
        message = f"{username} can't log in: {error.response['Error']['Message']}"
        raise LocalPlatformError(message) from error
    except BotoCoreError as error:
        raise LocalPlatformError(f"AWS doesn't answer at {aws.url}. Is the platform running?") from error
    return str(answer["AuthenticationResult"]["AccessToken"])
