"""Secrets Manager: what a node must know and nobody else. One secret a generation; it goes with its node."""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from botocore.exceptions import ClientError

from orchestration.aws import upstream_errors
from orchestration.domain.credentials import hash_of
from orchestration.domain.node import Node
from orchestration.domain.ports import NodeCredential, NodeSecret

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

NAME_PREFIX = "artificien/node/"
"""The nodes' execution role may read what begins with this; see `ecs_cluster_stack.py`."""

# A generation without leading zeros: what is parsed must be what `_name` writes, or `discard` would miss it.
_NAME = re.compile(re.escape(NAME_PREFIX) + r"([a-z][a-z0-9]*)/(0|[1-9][0-9]*)")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SecretsManagerNodeSecrets:
    """Implements the port `NodeSecrets`. Keys of a secret: `MASTER_NODE_URL` and `DATABASE_URL`."""

    client: "SecretsManagerClient"
    callback_address: str
    new_database_url: Callable[[Node], str]
    """Makes up the URL of a node's own database, with a new password."""

    def ensure(self, node: Node) -> NodeSecret:
        """Make the secret; where another process has, its secret is the one that counts."""
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
            if error.response["Error"]["Code"] == "ResourceExistsException":
                return None
            raise
        return answer["ARN"]

    def _existing(self, node: Node) -> NodeSecret:
        answer = self.client.get_secret_value(SecretId=_name(node))
        return _secret(answer["ARN"], json.loads(answer["SecretString"]))

    def credential(self, node: Node) -> NodeCredential:
        """Read it where the node has it from: the record holds but a hash of it."""
        with upstream_errors("Secrets Manager"):
            answer = self.client.get_secret_value(SecretId=_name(node))
        return _credential(json.loads(answer["SecretString"]))

    def discard(self, node: Node) -> None:
        """Delete it at once: a name that waits to be forgotten could not be made again."""
        with upstream_errors("Secrets Manager"):
            try:
                self.client.delete_secret(SecretId=_name(node), ForceDeleteWithoutRecovery=True)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ResourceNotFoundException":
                    raise

    def all(self) -> Iterator[tuple[str, int]]:
        """Go through all secrets of nodes, page by page; one that isn't named like ours is left alone."""
        for name in self._names():
            if parsed := _NAME.fullmatch(name):
                yield parsed[1], int(parsed[2])
            else:
                log.warning("secret is not named like a node's", name=name)

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
    """What stands before the address; `ensure` makes it of letters that need no percent-encoding."""
    user, _, password = content["MASTER_NODE_URL"].rpartition("@")[0].partition(":")
    return NodeCredential(user, password)
