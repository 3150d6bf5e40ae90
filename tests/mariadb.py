"""Real MariaDB servers for the tests: each in its own process and folder, on a free port of 127.0.0.1.

The site's tables are in the database ``site``. The account that servers get has exactly the rights that
``docs/operating.rst`` names: its GRANT statements are run from there.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pymysql
import pytest

from mechamap_rt.storage.sqlite import script
from tests.leaks import remember
from tests.redis_server import free_port

START_LIMIT = 20.0
DATABASE: Final = "site"
ACCOUNT: Final = "mechamap_rt"
PASSWORD: Final = "p'a\"ss\\wörd"

OPERATING: Final = Path(__file__).parent.parent / "docs" / "operating.rst"


def command(name: str, package: str = "mariadb-server") -> str:
    """The path of a program; its absence is a failure, never a skip."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.fail(f"{name} is missing; on Debian: apt-get install {package}", pytrace=False)
    return path


def grants() -> list[str]:
    """The statements of ``docs/operating.rst``, for the database and the password of the tests."""
    text = OPERATING.read_text("utf-8")
    block = text.split(":name: grants\n", 1)[1]
    lines = []
    for line in block.splitlines():
        if line and not line.startswith("   "):
            break
        lines.append(line.strip())
    quoted = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
    sql = " ".join(lines).replace("SITE.", f"{DATABASE}.").replace("'PASSWORD'", f"'{quoted}'")
    return [one.strip() for one in sql.split(";") if one.strip()]


class MariaDB:
    """One ``mariadbd`` with the site's tables.

    :param demo: with the rows of the demo site; otherwise the tables are empty.
    :param options: more of its command line: ``--max-connections=5``.
    """

    def __init__(self, *options: str, demo: bool = True) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="mariadb-"))
        self._data = self.folder / "data"
        self.socket = str(self.folder / "s.sock")
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        install = [command("mariadb-install-db"), "--no-defaults", f"--datadir={self._data}", "--skip-test-db"]
        install += [f"--user={getpass.getuser()}", "--auth-root-authentication-method=normal"]
        subprocess.run(install, check=True, capture_output=True, timeout=START_LIMIT)
        self.start()
        self.sql(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4", database=None)
        self.script(script("schema.mysql.sql") + (script("demo.sql") if demo else ""))
        for statement in grants():
            self.sql(statement)

    # life

    def start(self) -> None:
        """Start it at the same port with the same data; returns when it answers."""
        line = [command("mariadbd"), "--no-defaults", f"--datadir={self._data}", f"--socket={self.socket}"]
        line += [f"--user={getpass.getuser()}", f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-log-bin"]
        line += ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=24M", "--performance-schema=OFF"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*line, *self._options], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            try:
                self.connect(database=None).close()
                return
            except pymysql.err.OperationalError:
                time.sleep(0.02)
        raise AssertionError(f"mariadbd does not answer:\n{(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        """As an operator stops it: connections are closed, the port refuses."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(START_LIMIT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """``kill -9``."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """``SIGSTOP``: it accepts and answers nothing, and no connection breaks."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._stopped = True

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._stopped = False

    def end(self) -> None:
        """Make sure that it is gone, with its folder; safe at any time."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # asking, as root

    def connect(self, database: str | None = DATABASE) -> Any:
        return pymysql.connect(
            unix_socket=self.socket, user="root", database=database, charset="utf8mb4", autocommit=True, read_timeout=30
        )

    def sql(self, statement: str, *arguments: Any, database: str | None = DATABASE) -> list[tuple[Any, ...]]:
        """Run one statement as root; its rows."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, arguments or None)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def script(self, text: str) -> None:
        plain = re.sub(r"^--.*$", "", text, flags=re.MULTILINE)
        for statement in re.split(r";\s*\n", plain):
            if statement.strip():
                self.sql(statement)

    def count(self, what: str) -> int:
        """A counter of the server since its start: ``Com_select``, ``Connections``, …"""
        return int(self.sql("SHOW GLOBAL STATUS LIKE %s", what)[0][1])

    def connections(self) -> list[int]:
        """The ids of the connections of the servers' account."""
        rows = self.sql("SELECT id FROM information_schema.processlist WHERE user = %s", ACCOUNT)
        return [int(row[0]) for row in rows]

    # rows

    def user(self, user_id: int, role: str = "member", **columns: Any) -> int:
        """A user."""
        row = {"id": user_id, "name": f"Người dùng {user_id}", "username": f"user{user_id}"}
        row |= {"email": f"user{user_id}@example.com", "role": role} | columns
        names = ", ".join(row)
        self.sql(f"INSERT INTO users ({names}) VALUES ({', '.join(['%s'] * len(row))})", *row.values())
        return user_id

    def token(
        self, user_id: int, abilities: str | None = '["*"]', expires_at: datetime | None = None, secret: str = ""
    ) -> str:
        """A Sanctum token of a user, as the site hands it out."""
        secret = secret or secrets.token_hex(24)
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO personal_access_tokens"
                    " (tokenable_type, tokenable_id, name, token, abilities, expires_at)"
                    " VALUES (%s, %s, 'test', %s, %s, %s)",
                    (
                        "App\\Models\\User",
                        user_id,
                        hashlib.sha256(secret.encode()).hexdigest(),
                        abilities,
                        None if expires_at is None else expires_at.strftime("%Y-%m-%d %H:%M:%S"),
                    ),
                )
                return remember(f"{cursor.lastrowid}|{secret}")
        finally:
            connection.close()

    def settings(self, **more: str) -> dict[str, str]:
        """The settings of a server that uses it."""
        return {
            "DB_HOST": f"127.0.0.1:{self.port}",
            "DB_NAME": DATABASE,
            "DB_USER": ACCOUNT,
            "DB_PASSWORD": PASSWORD,
        } | more
