"""The SQL that gives each node its own database and role, as pure functions from names to text.

It is written for an administrator who is no superuser but may create roles and databases, as on Aurora. No
statement contains a colon: the Data API may parse one, even within a literal, as the start of a parameter.
"""

import hashlib
import hmac
import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Self

CONNECTION_LIMIT = 40
"""Maximum number of connections of one node, so that one node can't use up the cluster's."""

_IDENTIFIER = re.compile(r"[a-z][a-z0-9]{0,40}")
_NODE_ID = "n[0-9a-f]{20}"
"""The form of `domain.node.node_id_of`. Other roles and databases on the cluster are never touched."""
_LOCK = 4_714_160_023_716_141
"""Advisory lock around changes to roles or databases: two concurrent changes of one row would fail."""
_ITERATIONS = 4096  # PostgreSQL's default; more is no use, since the password is random


@dataclass(frozen=True, slots=True)
class DatabaseNames:
    """The names of a node's role and database on the shared cluster."""

    role: str
    database: str

    @classmethod
    def of(cls, node_id: str) -> Self:
        """Derive the names as the original node does. Raises ValueError for an id that SQL would quote."""
        role = node_id.lower().replace("-", "")
        if not _IDENTIFIER.fullmatch(role):
            raise ValueError("A node's id must begin with a letter, and hold letters and digits only.")
        return cls(role, f"{role}db")


def scram_verifier(password: str, salt: bytes) -> str:
    """Return what PostgreSQL stores of a password (RFC 5803), so that SQL contains no password.

    `salt` is 16 random bytes. AWS logs and audits SQL statements in places that this service doesn't control.
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${_ITERATIONS}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"


def grant_login(names: DatabaseNames, verifier: str, generation: int) -> str:
    """Create the role, or set this generation's password; the password of a later generation is kept.

    The administrator becomes a member of the role: otherwise it could neither create nor drop a database that
    the role owns. Only a superuser may name SUPERUSER, REPLICATION and BYPASSRLS, so the statement doesn't.
    """
    role = names.role
    return _locked(f"""
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
    CREATE ROLE "{role}" NOLOGIN;
    GRANT "{role}" TO CURRENT_USER;
  END IF;
  IF EXISTS (
    SELECT FROM pg_roles WHERE rolname = '{role}'
    AND CAST(substring(shobj_description(oid, 'pg_authid') FROM '[0-9]+') AS integer) > {generation:d}
  ) THEN
    RETURN;
  END IF;
  EXECUTE format(
    'ALTER ROLE %I LOGIN NOCREATEDB NOCREATEROLE CONNECTION LIMIT {CONNECTION_LIMIT} PASSWORD %L',
    '{role}', {_literal(verifier)}
  );
  COMMENT ON ROLE "{role}" IS 'generation {generation:d}';""")  # noqa: S608 - checked names


def select_database(names: DatabaseNames) -> str:
    """Select one row if the database exists, else none."""
    return f"SELECT 1 FROM pg_database WHERE datname = '{names.database}'"  # noqa: S608 - checked names


def list_nodes() -> str:
    """Select the id of every node that has a role or a database: one column of text, sorted bytewise."""
    return f"""
SELECT CAST(rolname AS text) COLLATE "C" FROM pg_roles WHERE rolname ~ '^{_NODE_ID}$'
UNION
SELECT left(datname, -2) COLLATE "C" FROM pg_database WHERE datname ~ '^{_NODE_ID}db$'
ORDER BY 1"""  # noqa: S608 - our own pattern


def create_database(names: DatabaseNames) -> str:
    """Create the database, without connections until `open_database`; fails if it exists.

    Its template is template0, which no role can change or connect to.
    """
    return (
        f'CREATE DATABASE "{names.database}" OWNER "{names.role}" TEMPLATE template0'
        " ENCODING 'UTF8' ALLOW_CONNECTIONS false"
    )


def open_database(names: DatabaseNames) -> str:
    """Revoke all databases from PUBLIC, `postgres` and `template1` too; then allow connections to this."""
    return _locked(f"""
  FOR found IN
    SELECT datname FROM pg_database WHERE pg_has_role(datdba, 'USAGE') AND EXISTS (
      SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0
    )
  LOOP
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', found.datname);
  END LOOP;
  IF EXISTS (SELECT FROM pg_database WHERE datname = '{names.database}' AND NOT datallowconn) THEN
    ALTER DATABASE "{names.database}" ALLOW_CONNECTIONS true;
  END IF;""")  # noqa: S608 - checked names


def close_database(names: DatabaseNames) -> str:
    """Refuse logins of the role and connections to the database; does nothing if they don't exist.

    PostgreSQL marks a database with the connection limit -2 while it is dropped, and after a drop that was
    interrupted. It then accepts no connections, and an attempt to alter it is a fatal error.
    """
    return _locked(f"""
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{names.role}') THEN
    ALTER ROLE "{names.role}" NOLOGIN;
  END IF;
  IF EXISTS (SELECT FROM pg_database WHERE datname = '{names.database}' AND datconnlimit <> -2) THEN
    ALTER DATABASE "{names.database}" ALLOW_CONNECTIONS false;
  END IF;""")  # noqa: S608 - checked names


def drop_database(names: DatabaseNames) -> str:
    """Drop the database and end the connections to it."""
    return f'DROP DATABASE IF EXISTS "{names.database}" WITH (FORCE)'


def drop_role(names: DatabaseNames) -> str:
    """Drop the role; its database must be gone."""
    return _locked(f"""
  DROP ROLE IF EXISTS "{names.role}";""")


def _locked(body: str) -> str:
    """Run statements in one transaction, one at a time. It can't contain CREATE or DROP DATABASE."""
    return f"""DO $node$
DECLARE
  found record;
BEGIN
  PERFORM pg_advisory_xact_lock({_LOCK});{body}
END
$node$"""


def _literal(text: str) -> str:
    """Write a text that contains no quotes as a literal, with `chr(58)` for each colon."""
    return "'" + text.replace(":", "' || chr(58) || '") + "'"


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
