"""The nodes' databases: one each on a shared PostgreSQL cluster, or files of one machine.

Statements reach the cluster through the RDS Data API: SQL over HTTPS, without access to its network.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from orchestration.adapters import node_databases_sql as sql
from orchestration.adapters.node_databases_sql import DatabaseNames
from orchestration.aws import error_code, error_message, upstream_errors
from orchestration.domain.errors import DatabaseWaking, Upstream
from orchestration.domain.node import Node

if TYPE_CHECKING:
    from mypy_boto3_rds_data import RDSDataServiceClient
    from mypy_boto3_rds_data.type_defs import FieldOutputTypeDef

ADMINISTRATION_DATABASE = "postgres"
"""The database to connect to while creating others. Every cluster has it; advisory locks hold within one."""

_RESUMING_CODES = frozenset({"DatabaseResumingException", "StatementTimeoutException"})
_RESUMING_MESSAGES = ("Communications link failure", "resuming")
"""Messages of the older Data API's `BadRequestException` while a cluster resumes."""

Row = tuple[object, ...]
"""Strings, numbers and None, in the order of the statement's columns."""


class Executor(Protocol):
    """Runs SQL as the cluster's administrator, who is no superuser but may create roles and databases."""

    def run(self, statement: str) -> Sequence[Row]:
        """Execute one statement and return its rows. Raises DatabaseWaking, Upstream."""


@dataclass(frozen=True, slots=True)
class SharedCluster:
    """Implements the port `NodeDatabases` on a cluster; `endpoint` is `host:port`."""

    executor: Executor
    endpoint: str

    def new_url(self, node: Node) -> str:
        """Return the node's URL on the cluster, with a new password; the node appends its database's name."""
        role = DatabaseNames.of(node.node_id).role
        return f"postgresql://{role}:{secrets.token_urlsafe(32)}@{self.endpoint}/"

    def ensure(self, node: Node, database_url: str) -> None:
        """Create role and database, or give the role this generation's password; idempotent.

        The database accepts no connection until only its owner may connect. A drop that was interrupted is
        completed first: PostgreSQL allows nothing else.
        """
        names, url = DatabaseNames.of(node.node_id), urlsplit(database_url)
        if url.username != names.role or url.password is None:
            raise Upstream("The node's secret was made for another kind of database; retire the node once.")
        verifier = sql.scram_verifier(url.password, secrets.token_bytes(16))
        self.executor.run(sql.grant_login(names, verifier, node.generation))
        limits = self.executor.run(sql.select_database(names))
        if limits == [(sql.INVALID,)]:
            self._change(sql.drop_database(names), names, exists=False)
        if limits in ([], [(sql.INVALID,)]):
            self._change(sql.create_database(names), names, exists=True)
        self.executor.run(sql.open_database(names))

    def discard(self, node: Node) -> None:
        """Drop database and role, and end the connections to the database; no error if there are none."""
        names = DatabaseNames.of(node.node_id)
        for _ in range(2):
            self.executor.run(sql.close_database(names))
        if self._exists(names):
            self._change(sql.drop_database(names), names, exists=False)
        self.executor.run(sql.drop_role(names))

    def all(self) -> Sequence[str]:
        """Return the id of every node that has a role or a database; ignores names that are no node's."""
        return [str(node_id) for (node_id,) in self.executor.run(sql.list_nodes())]

    def _change(self, statement: str, names: DatabaseNames, *, exists: bool) -> None:
        """Create or drop the database. An error is ignored if another process has done the same."""
        try:
            self.executor.run(statement)
        except DatabaseWaking:
            raise
        except Upstream:
            if self._exists(names) is not exists:
                raise

    def _exists(self, names: DatabaseNames) -> bool:
        return bool(self.executor.run(sql.select_database(names)))


@dataclass(frozen=True, slots=True)
class OneDirectory:
    """Implements the port `NodeDatabases` on one machine, where nodes need no protection from each other.

    Every node is given the same URL and creates its own file in that directory.
    """

    url: str

    def new_url(self, _node: Node) -> str:
        """Return the URL of the directory."""
        return self.url

    def ensure(self, _node: Node, _database_url: str) -> None:
        """Do nothing: the node creates its file."""

    def discard(self, _node: Node) -> None:
        """Do nothing: the files are deleted with their directory."""

    def all(self) -> Sequence[str]:
        """Return nothing: no file outlives the directory."""
        return ()


@dataclass(frozen=True, slots=True)
class DataApi:
    """Implements `Executor` with the RDS Data API. Both ARNs are outputs of the cluster stack.

    It never waits for a paused database: each call resumes it, and the caller tries again later.
    """

    client: "RDSDataServiceClient"
    cluster_arn: str
    secret_arn: str

    def run(self, statement: str) -> Sequence[Row]:
        """Execute one statement, in a transaction of its own, and return its rows.

        Raises DatabaseWaking, Upstream; also for a result of more than 1 MiB, which the Data API refuses.
        """
        with upstream_errors("The nodes' database"):
            try:
                answer = self.client.execute_statement(
                    resourceArn=self.cluster_arn,
                    secretArn=self.secret_arn,
                    database=ADMINISTRATION_DATABASE,
                    sql=statement,
                )
            except ClientError as error:
                if _is_resuming(error):
                    raise DatabaseWaking("The nodes' database is waking up.") from error
                raise
        return [tuple(map(_value, record)) for record in answer.get("records", ())]


def _value(field: "FieldOutputTypeDef") -> object:
    """Unwrap a column's value: the Data API names it by its type."""
    return None if field.get("isNull") else next(iter(field.values()))


def _is_resuming(error: ClientError) -> bool:
    if error_code(error) == "BadRequestException":
        return any(text in error_message(error) for text in _RESUMING_MESSAGES)
    return error_code(error) in _RESUMING_CODES
