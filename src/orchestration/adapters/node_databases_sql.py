"""The SQL that gives each node a database and a login of its own, as pure functions from names to text.

Written for an administrator that is no superuser but may create roles and databases, as Aurora's is. No colon
may stand in a statement: the Data API may take one, in a literal too, for the beginning of a parameter.
"""

import hashlib
import hmac
import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Self

CONNECTIONS = 40
"""Most connections of one node: a runaway must leave room for the others."""

_IDENTIFIER = re.compile(r"[a-z][a-z0-9]{0,40}")
_NODE_ID = "n[0-9a-f]{20}"
"""How `domain.node.node_id_of` names nodes. Whatever else is on the cluster is none of ours."""
_LOCK = 4_714_160_023_716_141
"""Advisory lock of whoever changes roles or databases: PostgreSQL fails where two change one row."""
_ITERATIONS = 4096  # PostgreSQL's default; what is hashed is random already


@dataclass(frozen=True, slots=True)
class DatabaseNames:
    """The names of one node on the shared cluster."""

    role: str
    database: str

    @classmethod
    def of(cls, node_id: str) -> Self:
        """Derive the names as the original node does. Raises ValueError where SQL would need quotes."""
        role = node_id.lower().replace("-", "")
        if not _IDENTIFIER.fullmatch(role):
            raise ValueError("A node's id must begin with a letter, and hold letters and digits only.")
        return cls(role, f"{role}db")


def scram_verifier(password: str, salt: bytes) -> str:
    """Return what PostgreSQL keeps of a password (RFC 5803), so that the password itself stays out of SQL.

    `salt` is 16 random bytes. SQL texts come by logs and audit trails that aren't ours to keep clean.
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${_ITERATIONS}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"


def admit(names: DatabaseNames, verifier: str, generation: int) -> str:
    """Make the login, or give it this generation's password; a later generation's stays.

    The administrator becomes a member of the role, without which it could neither make nor drop a database
    that is the role's. SUPERUSER, REPLICATION and BYPASSRLS, which only a superuser gives, it must not name.
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
    'ALTER ROLE %I LOGIN NOCREATEDB NOCREATEROLE CONNECTION LIMIT {CONNECTIONS} PASSWORD %L',
    '{role}', {_literal(verifier)}
  );
  COMMENT ON ROLE "{role}" IS 'generation {generation:d}';""")  # noqa: S608 - checked names


def database_exists(names: DatabaseNames) -> str:
    """Find one row if the database is there."""
    return f"SELECT 1 FROM pg_database WHERE datname = '{names.database}'"  # noqa: S608 - checked names


def every_node() -> str:
    """Find the id of every node that has a login or a database: one column of text, sorted bytewise."""
    return f"""
SELECT CAST(rolname AS text) COLLATE "C" FROM pg_roles WHERE rolname ~ '^{_NODE_ID}$'
UNION
SELECT left(datname, -2) COLLATE "C" FROM pg_database WHERE datname ~ '^{_NODE_ID}db$'
ORDER BY 1"""  # noqa: S608 - our own pattern


def create_database(names: DatabaseNames) -> str:
    """Make the database, closed for everybody until `open_database`; fails if it is there.

    From template0, which nobody can have changed or be connected to.
    """
    return (
        f'CREATE DATABASE "{names.database}" OWNER "{names.role}" TEMPLATE template0'
        " ENCODING 'UTF8' ALLOW_CONNECTIONS false"
    )


def open_database(names: DatabaseNames) -> str:
    """Take from PUBLIC every database that we can, `postgres` and `template1` too; then let the owner in."""
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


def shut_out(names: DatabaseNames) -> str:
    """Let nobody in any more; nothing if there is no such login or database."""
    return _locked(f"""
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{names.role}') THEN
    ALTER ROLE "{names.role}" NOLOGIN;
  END IF;
  IF EXISTS (SELECT FROM pg_database WHERE datname = '{names.database}') THEN
    ALTER DATABASE "{names.database}" ALLOW_CONNECTIONS false;
  END IF;""")  # noqa: S608 - checked names


def drop_database(names: DatabaseNames) -> str:
    """Drop the database, ending the connections to it."""
    return f'DROP DATABASE IF EXISTS "{names.database}" WITH (FORCE)'


def drop_role(names: DatabaseNames) -> str:
    """Drop the login, once its database is gone."""
    return _locked(f"""
  DROP ROLE IF EXISTS "{names.role}";""")


def _locked(body: str) -> str:
    """One transaction, and one at a time. CREATE and DROP DATABASE can't be part of it."""
    return f"""DO $tenant$
DECLARE
  found record;
BEGIN
  PERFORM pg_advisory_xact_lock({_LOCK});{body}
END
$tenant$"""


def _literal(text: str) -> str:
    """Write a text without quotes in it as a literal, its colons as what they are in ASCII."""
    return "'" + text.replace(":", "' || chr(58) || '") + "'"


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
