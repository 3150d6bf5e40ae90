"""The demo site in a MySQL or MariaDB of one's own: its tables, a few rows, and a token for each user."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import pymysql

from mechamap_rt.cli.failure import Failure
from mechamap_rt.storage.accounts import USER_TYPE
from mechamap_rt.storage.sqlite import script, statements

_TIMEOUT: Final = 10


@dataclass(frozen=True, slots=True)
class Target:
    """Where to: what ``mysql://user:password@host:port/database`` says."""

    host: str
    port: int
    user: str
    password: str
    database: str

    @classmethod
    def parse(cls, url: str) -> Target:
        """:raises Failure: it is no such address."""
        try:
            parts = urlsplit(url)
            port = parts.port or 3306
        except ValueError:
            parts, port = urlsplit(""), 0
        database = parts.path.strip("/")
        if parts.scheme != "mysql" or not parts.hostname or not parts.username or not database or "/" in database:
            message = "must be mysql://user:password@host:port/database"
            raise Failure("INVALID", message, field="mysql")
        password = os.environ.get("DB_PASSWORD", "") if parts.password is None else unquote(parts.password)
        return cls(parts.hostname, port, unquote(parts.username), password, unquote(database))


def load(url: str) -> dict[str, Any]:
    """Fill an empty database.

    :returns: ``settings`` for a server that shall use it, and ``users`` with their tokens.
    :raises Failure: it is not empty, or cannot be reached.
    """
    target = Target.parse(url)
    try:
        with closing(_connect(target)) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW TABLES")
            tables = [str(row[0]) for row in cursor.fetchall()]
            if tables:
                message = f"The database {target.database} is not empty: it has {', '.join(tables[:5])}"
                raise Failure("NOT_EMPTY", message, field="mysql")
            for statement in statements(script("schema.mysql.sql") + script("demo.sql")):
                cursor.execute(statement)
            users = _hand_out(cursor)
    except pymysql.err.MySQLError as error:
        raise Failure("DATABASE", f"The database says: {error.args[-1]}") from None
    settings = {"DB_HOST": target.host, "DB_PORT": str(target.port), "DB_NAME": target.database, "DB_USER": target.user}
    return {"settings": settings, "users": users}


def _connect(target: Target) -> Any:
    return pymysql.connect(
        host=target.host,
        port=target.port,
        user=target.user,
        password=target.password.encode(),
        database=target.database,
        charset="utf8mb4",
        autocommit=True,
        connect_timeout=_TIMEOUT,
        read_timeout=_TIMEOUT,
    )


def _hand_out(cursor: Any) -> list[dict[str, Any]]:
    """A Sanctum token for each user, as the site would make it."""
    cursor.execute("SELECT id, name, role FROM users ORDER BY id")
    users = []
    for ident, name, role in cursor.fetchall():
        secret = secrets.token_hex(24)
        cursor.execute(
            "INSERT INTO personal_access_tokens (tokenable_type, tokenable_id, name, token, abilities)"
            " VALUES (%s, %s, 'demo', %s, '[\"*\"]')",
            (USER_TYPE, ident, hashlib.sha256(secret.encode()).hexdigest()),
        )
        users.append({"id": ident, "name": name, "role": role, "token": f"{cursor.lastrowid}|{secret}"})
    return users
