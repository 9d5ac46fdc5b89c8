"""The SQL that gives each node its own database and role, as pure functions from names to text.

It is written for an administrator who is no superuser but may create roles and databases, as on Aurora. No
statement contains a colon: the Data API may parse one, even within a literal, as the start of a parameter.

A node that was taken over may change settings and privileges of its database, and settings and password of
its role. It may lock both in an open transaction, and grant privileges to roles of other nodes. So a new
generation starts with the defaults, sessions of past generations are ended, and no statement waits long for a
lock, or changes what belongs to another node. No statement runs in a node's database, where its owner could
set a trap.
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
INVALID = -2
"""PostgreSQL's connection limit of a database while it is dropped, and after a drop that was interrupted."""

_LOCK_TIMEOUT = "3s"
_ENDING = 5000
"""Milliseconds to wait for the end of a session."""
_DISCARDED = "discarded"
"""Comment on a role that can't be dropped, since a database of another node depends on it."""
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

    Sessions of past generations are ended. The administrator becomes a member of the role: otherwise it could
    neither create nor drop a database that the role owns. Only a superuser may name SUPERUSER, REPLICATION
    and BYPASSRLS, so the statement doesn't.
    """
    role = names.role
    return _locked(f"""
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
    CREATE ROLE "{role}" NOLOGIN;
    GRANT "{role}" TO CURRENT_USER;
  END IF;
  SELECT CAST(substring(shobj_description(oid, 'pg_authid') FROM '[0-9]+') AS integer) AS generation
  INTO found FROM pg_roles WHERE rolname = '{role}';
  IF found.generation > {generation:d} THEN
    RETURN;
  ELSIF found.generation < {generation:d} THEN{_end_sessions(names)}
  END IF;
  ALTER ROLE "{role}" RESET ALL;
  EXECUTE format(
    'ALTER ROLE %I LOGIN NOCREATEDB NOCREATEROLE CONNECTION LIMIT {CONNECTION_LIMIT} PASSWORD %L',
    '{role}', {_literal(verifier)}
  );
  COMMENT ON ROLE "{role}" IS 'generation {generation:d}';""")  # noqa: S608 - checked names


def select_database(names: DatabaseNames) -> str:
    """Select the database's connection limit, which may be `INVALID`; no row if there is no database."""
    return f"SELECT datconnlimit FROM pg_database WHERE datname = '{names.database}'"  # noqa: S608 - checked


def list_nodes() -> str:
    """Select the id of every node that has a role or a database: one column of text, sorted bytewise.

    A role that is discarded but can't be dropped does not count.
    """
    return f"""
SELECT CAST(rolname AS text) COLLATE "C" FROM pg_roles
WHERE rolname ~ '^{_NODE_ID}$' AND shobj_description(oid, 'pg_authid') IS DISTINCT FROM '{_DISCARDED}'
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
    """Give the database its privileges and settings, and allow connections; its owner may have changed them.

    Nobody but the owner keeps a privilege on it, nor PUBLIC on `postgres`, `template1` and others that are no
    node's.
    """
    role, database = names.role, names.database
    return _locked(f"""
  FOR found IN
    SELECT DISTINCT datname, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END AS grantee
    FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
    WHERE pg_has_role(datdba, 'USAGE') AND CASE datname
      WHEN '{database}' THEN grantee <> datdba
      ELSE grantee = 0 AND datname !~ '^{_NODE_ID}db$'
    END
  LOOP
    EXECUTE format(
      CASE found.grantee WHEN 'PUBLIC' THEN 'REVOKE ALL ON DATABASE %I FROM PUBLIC CASCADE'
      ELSE 'REVOKE ALL ON DATABASE %I FROM %I CASCADE' END, found.datname, found.grantee
    );
  END LOOP;
  GRANT ALL ON DATABASE "{database}" TO "{role}";
  ALTER DATABASE "{database}" RESET ALL;
  ALTER ROLE "{role}" IN DATABASE "{database}" RESET ALL;
  ALTER DATABASE "{database}" ALLOW_CONNECTIONS true IS_TEMPLATE false CONNECTION LIMIT -1;""")  # noqa: S608


def close_database(names: DatabaseNames) -> str:
    """End the sessions of the role and in the database, and refuse new ones; nothing if they don't exist.

    A session that begins while the statement runs may undo its changes, so it must run twice. A database that
    is `INVALID` accepts no connections, and an attempt to alter it is a fatal error.
    """
    return _locked(f"""{_end_sessions(names)}
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{names.role}') THEN
    ALTER ROLE "{names.role}" NOLOGIN;
  END IF;
  IF EXISTS (SELECT FROM pg_database WHERE datname = '{names.database}' AND datconnlimit <> {INVALID}) THEN
    ALTER DATABASE "{names.database}" ALLOW_CONNECTIONS false IS_TEMPLATE false;
  END IF;""")  # noqa: S608 - checked names


def drop_database(names: DatabaseNames) -> str:
    """Drop the database and end the connections to it."""
    return f'DROP DATABASE IF EXISTS "{names.database}" WITH (FORCE)'


def drop_role(names: DatabaseNames) -> str:
    """Drop the role; its database must be gone.

    Another node may have granted it privileges in its own database. Then the role stays, without a login.
    """
    role = names.role
    return _locked(f"""
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
    BEGIN
      DROP OWNED BY "{role}";
      DROP ROLE "{role}";
    EXCEPTION WHEN dependent_objects_still_exist OR lock_not_available THEN
      ALTER ROLE "{role}" NOLOGIN PASSWORD NULL;
      COMMENT ON ROLE "{role}" IS '{_DISCARDED}';
    END;
  END IF;""")


def _end_sessions(names: DatabaseNames) -> str:
    """End the sessions of the role, in the database, and of nodes that lock one of both."""
    return f"""
  PERFORM pg_terminate_backend(pid, {_ENDING}) FROM pg_stat_activity
  WHERE usename <> CURRENT_USER AND pg_has_role(usesysid, 'USAGE') AND (
    usename = '{names.role}' OR datname = '{names.database}' OR pid IN (
      SELECT locks.pid FROM pg_locks AS locks
      LEFT JOIN pg_database AS d ON classid = CAST('pg_database' AS regclass) AND objid = d.oid
      LEFT JOIN pg_roles AS r ON classid = CAST('pg_authid' AS regclass) AND objid = r.oid
      WHERE locktype = 'object' AND (d.datname = '{names.database}' OR r.rolname = '{names.role}')
    )
  );"""  # noqa: S608 - checked names


def _locked(body: str) -> str:
    """Run statements in one transaction, one at a time. It can't contain CREATE or DROP DATABASE."""
    return f"""DO $node$
DECLARE
  found record;
BEGIN
  PERFORM pg_advisory_xact_lock({_LOCK});
  PERFORM set_config('lock_timeout', '{_LOCK_TIMEOUT}', true);{body}
END
$node$"""


def _literal(text: str) -> str:
    """Write a text that contains no quotes as a literal, with `chr(58)` for each colon."""
    return "'" + text.replace(":", "' || chr(58) || '") + "'"


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
