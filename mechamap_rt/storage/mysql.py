"""MySQL and MariaDB, by PyMySQL."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CLIENT, CR

from mechamap_rt.storage.driver import Fate
from mechamap_rt.system.names import Host

#: Seconds for a connection to be established, its host's address found included; a server that needs more is away.
CONNECT_TIMEOUT: Final = 1.4
#: Seconds that a statement waits for a row that another connection has locked: it has been told to nobody yet, and is
#: tried again, while others have the connection in between.
LOCK_WAIT: Final = 1

#: Seconds that an answer may take on its way: the server ends a statement itself, and only then nobody answers.
GRACE: Final = 0.3

#: The connection is gone: server gone, lost, killed, shut down, closed for its idleness.
_LOST: Final = frozenset(
    (0, 1053, 1077, 1078, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 2014, 2055, 4031)
)
#: Nobody gets in: cannot connect, too many connections, host blocked, access denied, no such database.
_CLOSED: Final = frozenset(
    (1040, 1042, 1043, 1044, 1045, 1049, 1129, 1130, 1203, 1226, 1698, 2002, 2003, 2005, 2026, 3118)
)
#: The same again may succeed: a deadlock, a transaction that was rolled back.
_AGAIN: Final = frozenset((1213, 1020))
#: The statement took too long: the limits of MariaDB, of MySQL, and of a lock.
_SLOW: Final = frozenset((1969, 3024, 1205, 1317))


@dataclass(frozen=True, slots=True)
class Account:
    """How to log in.

    :ivar timeout: seconds for an answer, at the client and at the server.
    :ivar tls: verifies the server; ``None`` speaks plain text.
    """

    user: str
    password: str
    database: str
    timeout: float
    tls: ssl.SSLContext | None = None


class MySQL:
    """One server.

    :param host: its name, or the path of its unix socket.
    """

    module: Final = "pymysql"

    def __init__(self, host: str, port: int, account: Account) -> None:
        self.name = host if host.startswith("/") else f"{host}:{port}"
        self._account = account
        self._host = None if host.startswith("/") else Host(host, port)
        self._place: dict[str, Any] = {"unix_socket": host} if host.startswith("/") else {"host": host, "port": port}
        # connections that are being made, in threads
        self._opening: set[socket.socket] = set()
        self._halted = False

    @property
    def private(self) -> bool:
        return False

    @property
    def distant(self) -> bool:
        return True

    def connect(self) -> Connection[Any]:
        account = self._account
        connection = pymysql.connect(
            **self._place,
            defer_connect=True,
            user=account.user,
            # as bytes: PyMySQL would take a text for Latin-1, other clients send UTF-8
            password=account.password.encode(),
            database=account.database,
            charset="utf8mb4",
            # with this no COMMIT is needed, and none is sent: every statement stands alone
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT,
            # who accepts and then says nothing is away too; nobody can cut a connection that is not there yet
            read_timeout=min(CONNECT_TIMEOUT, account.timeout),
            write_timeout=account.timeout,
            ssl=account.tls,
            # otherwise PyMySQL tries TLS, unverified, and reads all authorities of the system for each connection
            ssl_disabled=account.tls is None,
            local_infile=False,
            # an UPDATE answers how many rows there are, not how many it made different
            client_flag=CLIENT.FOUND_ROWS,
        )
        if self._host is None:
            connection.connect()
        else:
            sock = self._dial(self._host)
            try:
                connection.connect(sock)
            finally:
                self._opening.discard(sock)
        mariadb = "mariadb" in str(connection.get_server_info()).lower()
        limit = "max_statement_time" if mariadb else "max_execution_time"
        value = account.timeout if mariadb else round(account.timeout * 1000)
        with connection.cursor() as cursor:
            cursor.execute(f"SET SESSION {limit} = {value}, innodb_lock_wait_timeout = {LOCK_WAIT}")
        # takes effect with the next packet
        connection._read_timeout = account.timeout + GRACE  # type: ignore[attr-defined]
        return connection

    def _dial(self, host: Host) -> socket.socket:
        """A socket that is connected to ``host``: PyMySQL itself would wait for a name server without end."""
        until = time.monotonic() + CONNECT_TIMEOUT
        try:
            places = host.addresses(CONNECT_TIMEOUT)
        except OSError as error:
            raise pymysql.err.OperationalError(CR.CR_UNKNOWN_HOST, str(error)) from error
        failure: OSError = TimeoutError("timed out")
        for place in places:
            try:
                sock = socket.create_connection(place, max(until - time.monotonic(), 0.05))
            except OSError as error:
                failure = error
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._opening.add(sock)
            if self._halted:
                _break(sock)
            return sock
        raise pymysql.err.OperationalError(CR.CR_CONN_HOST_ERROR, str(failure)) from failure

    def halt(self) -> None:
        self._halted = True
        if self._host is not None:
            self._host.close()
        for sock in tuple(self._opening):
            _break(sock)

    def query(self, connection: Any, statement: str, arguments: Sequence[Any]) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement, tuple(arguments))
            return list(cursor.fetchall())

    def execute(self, connection: Any, statement: str, arguments: Sequence[Any]) -> int:
        with connection.cursor() as cursor:
            return int(cursor.execute(statement, tuple(arguments)))

    def close(self, connection: Any) -> None:
        # without a word: the server may not answer any more
        connection._force_close()

    def cut(self, connection: Any) -> None:
        sock = connection._sock
        if sock is not None:
            _break(sock)

    def fate(self, error: Exception) -> Fate:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else None
        if isinstance(error, OSError | EOFError):
            return Fate(True, not isinstance(error, TimeoutError), False, type(error).__name__)
        cause = getattr(error, "original_exception", None)
        if isinstance(cause, ssl.SSLError):
            return Fate(True, False, True, f"TLS failed: {getattr(cause, 'verify_message', '') or cause.reason}")
        if code in _CLOSED:
            return Fate(True, False, True, f"{_WORDS.get(code, 'cannot connect')} ({code})")
        if code in _SLOW:
            return Fate(False, False, False, f"took too long ({code})")
        if code in _AGAIN:
            return Fate(False, True, False, f"conflict ({code})")
        if code in _LOST or isinstance(error, pymysql.err.InterfaceError):
            timed_out = "timed out" in str(error)
            reason = "no answer in time" if timed_out else f"connection lost ({code})"
            return Fate(True, not timed_out, False, reason)
        # what is missing or not allowed is named by its message, which has no values in it
        named = str(error.args[1]) if code in _NAMED else type(error).__name__
        row = code in _ROW or isinstance(error, pymysql.err.DataError | pymysql.err.IntegrityError)
        return Fate(code is None, False, False, f"{named} ({code})", row)


def _break(sock: socket.socket) -> None:
    """Have whoever reads from it find the end."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


#: Something is not there, or not granted: a table, a column, a right.
_NAMED: Final = frozenset((1054, 1142, 1143, 1146, 1227, 1370))

#: A value that a row may not have, where the driver has no class of its own for it: a wrong one, one that a trigger
#: (``SIGNAL``) or a ``CHECK`` refuses.
_ROW: Final = frozenset((1292, 1366, 1644, 3819, 4025))

_WORDS: Final = {
    1040: "too many connections",
    1044: "access denied",
    1045: "access denied",
    1049: "no such database",
    1129: "host is blocked",
    1130: "host is not allowed",
    1203: "too many connections",
    1226: "too many connections",
    1698: "access denied",
    2005: "its name cannot be resolved",
    2026: "TLS failed",
    3118: "account is locked",
}
