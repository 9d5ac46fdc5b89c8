"""The nodes' databases: one each on a shared PostgreSQL cluster, or, on one machine, wherever a URL says."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from orchestration.adapters import node_databases_sql as sql
from orchestration.adapters.node_databases_sql import DatabaseNames
from orchestration.domain.errors import DatabaseWaking, Upstream
from orchestration.domain.node import Node

Row = tuple[object, ...]
"""Of texts, numbers and None, in the order of the statement's columns."""


class Executor(Protocol):
    """Runs SQL as the cluster's administrator: no superuser, but one that may create roles and databases."""

    def run(self, statement: str) -> Sequence[Row]:
        """Execute a statement by itself; return the rows it found. Raises DatabaseWaking, Upstream."""


@dataclass(frozen=True, slots=True)
class SharedCluster:
    """Implements the port `NodeDatabases`; `endpoint` is `host:port`."""

    executor: Executor
    endpoint: str

    def new_url(self, node: Node) -> str:
        """Return the node's address on the cluster, with a new password; the node appends its database."""
        return (
            f"postgresql://{DatabaseNames.of(node.node_id).role}:{secrets.token_urlsafe(32)}@{self.endpoint}/"
        )

    def ensure(self, node: Node, database_url: str) -> None:
        """Make login and database, or give the login this generation's password. Again is the same.

        The database is closed from its making until nobody but its owner may connect to it.
        """
        names, given = DatabaseNames.of(node.node_id), urlsplit(database_url)
        if given.username != names.role or given.password is None:
            raise Upstream("The node's secret was made for another kind of database; retire the node once.")
        verifier = sql.scram_verifier(given.password, secrets.token_bytes(16))
        self.executor.run(sql.admit(names, verifier, node.generation))
        if not self._has(names):
            self._attempt(sql.create_database(names), names, there=True)
        self.executor.run(sql.open_database(names))

    def discard(self, node: Node) -> None:
        """Drop database and login, whoever is connected; no error if there are none."""
        names = DatabaseNames.of(node.node_id)
        self.executor.run(sql.shut_out(names))
        if self._has(names):
            self._attempt(sql.drop_database(names), names, there=False)
        self.executor.run(sql.drop_role(names))

    def all(self) -> Sequence[str]:
        """Find each database and login that is named like a node's; what else is there stays unseen."""
        return [str(node_id) for (node_id,) in self.executor.run(sql.every_node())]

    def _attempt(self, statement: str, names: DatabaseNames, *, there: bool) -> None:
        """Make or drop the database; no matter what goes wrong if somebody else has done it meanwhile."""
        try:
            self.executor.run(statement)
        except DatabaseWaking:
            raise
        except Upstream:
            if self._has(names) is not there:
                raise

    def _has(self, names: DatabaseNames) -> bool:
        return bool(self.executor.run(sql.database_exists(names)))


@dataclass(frozen=True, slots=True)
class OneDirectory:
    """Implements the port `NodeDatabases` where no node is to be kept from another: files of one machine.

    Every node is given the same URL and makes its own database in there.
    """

    url: str

    def new_url(self, _node: Node) -> str:
        """Return the URL."""
        return self.url

    def ensure(self, _node: Node, _database_url: str) -> None:
        """Nothing to do: the node makes its file."""

    def discard(self, _node: Node) -> None:
        """Nothing to do: the files go with their directory."""

    def all(self) -> Sequence[str]:
        """Nothing that would outlive the directory."""
        return ()
