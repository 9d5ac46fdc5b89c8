"""boto3 clients of the AWS on this machine, which never see the operator's own profile or credentials."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import boto3
import botocore.session
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Mapping

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
"""Anything will do."""
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "COVERAGE_PROCESS_CONFIG")
"""What children see of the operator's environment: no AWS profile, no proxy, no setting of a service."""

_QUICK = Config(proxies={}, connect_timeout=5, read_timeout=60, retries={"total_max_attempts": 2})


@dataclass(frozen=True, slots=True)
class LocalAws:
    """Where the AWS on this machine is."""

    url: str
    region: str

    def session(self) -> boto3.Session:
        """Return a session that reads neither the environment nor files."""
        nothing = (None, None, None, None)
        unread = {"profile": nothing, "config_file": (None, None, os.devnull, None)}
        unread["credentials_file"] = (None, None, os.devnull, None)
        return boto3.Session(
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=self.region,
            botocore_session=botocore.session.Session(session_vars=unread),
        )

    def client(self, service: str) -> Any:
        """Return a client, for one thread."""
        return cast(Any, self.session()).client(service, endpoint_url=self.url, config=_QUICK)

    def resource(self, service: str) -> Any:
        """Return boto3's higher interface, for one thread."""
        return cast(Any, self.session()).resource(service, endpoint_url=self.url, config=_QUICK)

    def environment(self) -> dict[str, str]:
        """Return what makes a child's AWS clients come here, and only here."""
        return CREDENTIALS | {
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def kept(environment: "Mapping[str, str]") -> dict[str, str]:
    """Return the part of the operator's environment that children may see."""
    return {name: environment[name] for name in KEPT if name in environment} | {"PYTHONUNBUFFERED": "1"}
