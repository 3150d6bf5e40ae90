"""Coded errors, and the reasons for which a connection ends.

Both are data: what a client is told is decided here and nowhere else. The close codes follow the ranges
that ``docs/protocols.rst`` names (4000-4099 stay away, 4100-4199 come back later, 4200-4299 come back at once).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import Any, Final

#: Why a token is refused whose time is over.
EXPIRED: Final = "Token expired"


class Code(StrEnum):
    """The error codes a client may see."""

    AUTH_FAILED = "AUTH_FAILED"
    INVALID_TOKEN = "INVALID_TOKEN"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RATE_LIMITED = "RATE_LIMITED"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    SERVER_ERROR = "SERVER_ERROR"


class ClientFault(Exception):
    """A client asked for something it cannot have; the connection lives on.

    :param code: the coded reason.
    :param message: one sentence for a person.
    :param field: the member of the request that is wrong, where one is.
    :param details: what else the client can use, JSON-encodable.
    """

    def __init__(
        self, code: Code, message: str, *, field: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.details = dict(details or {})


class AuthRefused(Exception):
    """A token was refused; ``str()`` is the whole message a client sees.

    :param reason: what follows ``Authentication failed: ``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"Authentication failed: {reason}")
        self.reason = reason


class OperationFault(Exception):
    """What an operator asks for cannot be done.

    :param code: for programs; ``str()`` is the sentence for people.
    :param field: the argument that is wrong, where one is.
    """

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.field = field

    def members(self) -> dict[str, str]:
        found = {"code": self.code, "message": str(self)}
        return found if self.field is None else found | {"field": self.field}


class Unavailable(Exception):
    """What stands behind the server does not answer now; the same again, later, may succeed.

    ``str()`` is for operators; it has no values and no secrets.
    """


class RowRefused(Unavailable):
    """The database is there, and does not take what a statement would write; the same again will fail again."""


class Disconnect(Enum):
    """Why the server ends a connection: WebSocket close code, reason for programs, sentence for people."""

    NORMAL = (1000, "normal", "The client left")
    GOING_AWAY = (1001, "going_away", "The client vanished")
    UNSUPPORTED_DATA = (1003, "unsupported_data", "Only text messages are understood here")
    TOO_BIG = (1009, "message_too_big", "The message is larger than this server accepts")
    SERVER_ERROR = (1011, "server_error", "An unexpected fault of the server")
    RESTART = (1012, "service_restart", "The server is restarting")
    BAD_MESSAGE = (4000, "bad_message", "The message is not understood")
    AUTH_FAILED = (4001, "authentication_failed", "The token was refused")
    AUTH_TIMEOUT = (4002, "authentication_timeout", "No authentication in time")
    TOKEN_EXPIRED = (4003, "token_expired", "The token has expired")
    FORCED = (4004, "disconnected", "An administrator ended the connection")
    REVOKED = (4005, "token_revoked", "The token has been revoked")
    INACTIVE = (4006, "account_inactive", "The user's account is not active")
    THROTTLED = (4100, "connection_throttled", "Too many connections, or attempts to connect")
    USER_LIMIT = (4101, "user_limit_reached", "Too many connections of this user")
    GLOBAL_LIMIT = (4102, "global_limit_reached", "The server is full")
    HEARTBEAT = (4103, "heartbeat_timeout", "No sign of life in time")
    SLOW_CONSUMER = (4200, "slow_consumer", "The client reads more slowly than it is sent to")

    def __init__(self, code: int, reason: str, message: str) -> None:
        self.code = code
        self.reason = reason
        self.message = message

    @property
    def reconnect(self) -> bool:
        """May the client come back with the same request?"""
        return self.code >= 4100 or self.code in (1001, 1011, 1012)
