"""Secrets Manager: one secret for each generation of a node, with its credential and its database's URL."""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from botocore.exceptions import ClientError

from orchestration.aws import error_code, upstream_errors
from orchestration.domain.credentials import hash_of
from orchestration.domain.node import Node
from orchestration.domain.ports import NodeCredential, NodeSecret

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

NAME_PREFIX = "artificien/node/"
"""The nodes' execution role may read the secrets whose names start with this (`ecs_cluster_stack.py`)."""

# No leading zeros: `discard` rebuilds the name from what is parsed here, so the two must be equal.
_NAME = re.compile(re.escape(NAME_PREFIX) + r"([a-z][a-z0-9]*)/(0|[1-9][0-9]*)")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SecretsManagerNodeSecrets:
    """Implements the port `NodeSecrets`. A secret has the keys `MASTER_NODE_URL` and `DATABASE_URL`."""

    client: "SecretsManagerClient"
    callback_address: str
    new_database_url: Callable[[Node], str]
    """Returns a URL for the node's own database, with a new password."""

    def ensure(self, node: Node) -> NodeSecret:
        """Create the secret; if another process has created it, return that one."""
        password = secrets.token_urlsafe(32)
        content = {
            "MASTER_NODE_URL": f"{node.node_id}:{password}@{self.callback_address}",
            "DATABASE_URL": self.new_database_url(node),
        }
        with upstream_errors("Secrets Manager"):
            reference = self._create(node, content)
            return _secret(reference, content) if reference else self._existing(node)

    def _create(self, node: Node, content: dict[str, str]) -> str | None:
        try:
            answer = self.client.create_secret(
                Name=_name(node),
                SecretString=json.dumps(content),
                Description="Credential and database of a PyGrid node",
                Tags=[{"Key": "artificien:node-id", "Value": node.node_id}],
            )
        except ClientError as error:
            if error_code(error) == "ResourceExistsException":
                return None
            raise
        return answer["ARN"]

    def _existing(self, node: Node) -> NodeSecret:
        answer = self.client.get_secret_value(SecretId=_name(node))
        return _secret(answer["ARN"], json.loads(answer["SecretString"]))

    def credential(self, node: Node) -> NodeCredential:
        """Read the credential from the secret; the node's record contains only its hash."""
        with upstream_errors("Secrets Manager"):
            answer = self.client.get_secret_value(SecretId=_name(node))
        return _credential(json.loads(answer["SecretString"]))

    def discard(self, node: Node) -> None:
        """Delete the secret without a recovery window, during which its name could not be used again."""
        with upstream_errors("Secrets Manager"):
            try:
                self.client.delete_secret(SecretId=_name(node), ForceDeleteWithoutRecovery=True)
            except ClientError as error:
                if error_code(error) != "ResourceNotFoundException":
                    raise

    def all(self) -> Iterator[tuple[str, int]]:
        """Return node id and generation of every secret of a node, page by page.

        Secrets with another form of name are logged and left out.
        """
        for name in self._names():
            if parsed := _NAME.fullmatch(name):
                yield parsed[1], int(parsed[2])
            else:
                log.warning("secret.skipped", name=name)

    def _names(self) -> Iterator[str]:
        pages = self.client.get_paginator("list_secrets").paginate(
            Filters=[{"Key": "name", "Values": [NAME_PREFIX]}]
        )
        with upstream_errors("Secrets Manager"):
            for page in pages:
                yield from (secret["Name"] for secret in page["SecretList"])


def _name(node: Node) -> str:
    return f"{NAME_PREFIX}{node.node_id}/{node.generation}"


def _secret(reference: str, content: dict[str, str]) -> NodeSecret:
    return NodeSecret(reference, hash_of(_credential(content).password), content["DATABASE_URL"])


def _credential(content: dict[str, str]) -> NodeCredential:
    """Parse the part before the address; `ensure` writes no characters that need percent-encoding."""
    user, _, password = content["MASTER_NODE_URL"].rpartition("@")[0].partition(":")
    return NodeCredential(user, password)
