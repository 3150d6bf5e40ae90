"""The site's database, for benchmarks: a MariaDB of its own, and as many users as are wanted, one like the other.

User *n* has the Sanctum token *n*, is the only participant of conversation *n* and the author of thread *n*.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import shutil
import subprocess
from importlib.resources import files
from typing import Any, Final

import pymysql

from mechamap_rt.bench.job import BenchError, Site
from mechamap_rt.storage.accounts import USER_TYPE

DATABASE: Final = "site"
ACCOUNT: Final = "mechamap_rt"
PASSWORD: Final = "benchmark"

_LIMIT = 30.0
_MANY = 1000
#: Small, and nothing on disk that is waited for: what is measured is not the disk.
_OPTIONS = (
    "--bind-address=127.0.0.1",
    "--skip-log-bin",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=8M",
    "--performance-schema=OFF",
)
# nothing but marks in VALUES: then PyMySQL sends many rows in one statement
_ROWS: Final = (
    "INSERT INTO users (id, name, username, email) VALUES (%s, %s, %s, %s)",
    (
        "INSERT INTO personal_access_tokens (id, tokenable_type, tokenable_id, name, token, abilities)"
        " VALUES (%s, %s, %s, %s, %s, %s)"
    ),
    "INSERT INTO conversation_participants (conversation_id, user_id) VALUES (%s, %s)",
    "INSERT INTO threads (id, forum_id, user_id) VALUES (%s, %s, %s)",
)


def _program(name: str) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise BenchError(f"{name} is missing; on Debian: apt-get install mariadb-server")
    return path


def socket_of(home: str) -> str:
    """Where root is let in to the server in that directory."""
    return f"{home}/s.sock"


def install(home: str, port: int) -> list[str]:
    """Make the files of a new server in a directory.

    :returns: the command that starts it.
    :raises BenchError: if it is not installed, or does not work.
    """
    mine = ["--no-defaults", f"--datadir={home}/data", f"--user={getpass.getuser()}", "--innodb-log-file-size=8M"]
    making = [_program("mariadb-install-db"), *mine, "--skip-test-db", "--auth-root-authentication-method=normal"]
    done = subprocess.run(making, capture_output=True, text=True, timeout=_LIMIT, check=False)
    if done.returncode:
        raise BenchError(f"mariadb-install-db failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return [_program("mariadbd"), *mine, f"--socket={socket_of(home)}", f"--port={port}", *_OPTIONS]


def _connect(site: Site, database: str | None = DATABASE) -> Any:
    return pymysql.connect(
        unix_socket=site.socket, user="root", database=database, charset="utf8mb4", autocommit=True, read_timeout=_LIMIT
    )


def answers(site: Site) -> bool:
    """Is it ready?"""
    try:
        _connect(site, None).close()
    except pymysql.err.OperationalError:
        return False
    return True


def create(site: Site) -> None:
    """Create the site's tables, a forum, and the account."""
    schema = files("mechamap_rt.storage").joinpath("schema.mysql.sql").read_text("utf-8")
    statements = re.split(r";\s*\n", re.sub(r"^--.*$", "", schema, flags=re.MULTILINE))
    account = f"'{ACCOUNT}'@'127.0.0.1'"
    connection = _connect(site, None)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
        connection.select_db(DATABASE)
        for statement in filter(None, map(str.strip, statements)):
            cursor.execute(statement)
        cursor.execute("INSERT INTO forums (id) VALUES (1)")
        cursor.execute(f"CREATE USER {account} IDENTIFIED BY '{PASSWORD}'")
        cursor.execute(f"GRANT SELECT, UPDATE ON {DATABASE}.* TO {account}")


def settings(site: Site, connections: int) -> dict[str, str]:
    """The settings of a server that asks it."""
    return {
        "DB_HOST": f"127.0.0.1:{site.port}",
        "DB_NAME": DATABASE,
        "DB_USER": ACCOUNT,
        "DB_PASSWORD": PASSWORD,
        "DB_CONNECTION_LIMIT": str(connections),
    }


def _secret(user: int) -> str:
    return hashlib.sha256(b"bench %d" % user).hexdigest()[:48]


def token(user: int) -> str:
    """The Sanctum token of a user."""
    return f"{user}|{_secret(user)}"


def fill(site: Site, users: int) -> None:
    """Write the rows of the users from 1, if they are not there yet."""

    def digest(user: int) -> str:
        return hashlib.sha256(_secret(user).encode()).hexdigest()

    connection = _connect(site)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM users")
        for first in range(cursor.fetchall()[0][0] + 1, users + 1, _MANY):
            several = range(first, min(first + _MANY, users + 1))
            rows: tuple[list[tuple[Any, ...]], ...] = (
                [(n, f"Người dùng {n}", f"user{n}", f"user{n}@example.com") for n in several],
                [(n, USER_TYPE, n, "bench", digest(n), '["*"]') for n in several],
                [(n, n) for n in several],
                [(n, 1, n) for n in several],
            )
            for statement, values in zip(_ROWS, rows, strict=True):
                cursor.executemany(statement, values)
        # otherwise it would be done when a tenth of the rows is new: in the middle of a measurement
        cursor.execute("ANALYZE TABLE users, personal_access_tokens, conversation_participants, threads")


class Counters:
    """What the server was asked since this was made, as it counts itself."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._before = self._read()

    def _read(self) -> dict[str, int]:
        connection = _connect(self._site)
        with connection, connection.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_select', 'Com_commit', 'Com_update')")
            return {name: int(value) for name, value in cursor.fetchall()}

    def since(self) -> dict[str, int]:
        """``Com_select``, ``Com_commit`` and ``Com_update``."""
        return {name: value - self._before[name] for name, value in self._read().items()}
