"""What is known of the server under test, and the words in which a case fails."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.conformance import rawhttp

#: Seconds after which what was sent has surely reached the server, where there is nothing to see of it.
ARRIVAL = 0.1


class Violation(AssertionError):
    """The server does not keep to the protocol; ``str()`` says where."""


class Skip(Exception):
    """The server does not offer what a case needs."""


def check(condition: object, message: str) -> None:
    """:raises Violation: the condition does not hold."""
    if not condition:
        raise Violation(message)


@dataclass(frozen=True)
class Target:
    """One server, and the event of its own that the cases use.

    It must answer the event ``event`` with an argument ``{"timestamp": NUMBER, …}`` by the event ``answer`` and, where
    asked for, by an acknowledgement; both with an object that has the same ``timestamp``. Times are seconds.

    :ivar token: what ``{"token": …}`` of a Socket.IO connect must be; ``None`` where everybody may connect.
    :ivar namespaces: two that it offers (cases that need the second are skipped without).
    :ivar revisions: the values of ``EIO`` that it serves.
    :ivar limit: how long a case waits for what should come at once.
    """

    url: str
    token: str | None = None
    path: str = "/socket.io/"
    namespaces: tuple[str, ...] = ("/",)
    event: str = "ping"
    answer: str = "pong"
    ping_interval: float = 25.0
    ping_timeout: float = 20.0
    connect_timeout: float = 45.0
    upgrade_timeout: float = 10.0
    max_payload: int = 1_000_000
    revisions: frozenset[str] = frozenset("4")
    limit: float = 4.0

    def query(self, **parameters: str | None) -> str:
        """Path and query; ``EIO=4`` and ``transport=polling`` unless told otherwise, ``None`` leaves one out."""
        merged = {"EIO": "4", "transport": "polling"} | parameters
        return f"{self.path}?{urlencode({name: value for name, value in merged.items() if value is not None})}"

    def ws_url(self, **parameters: str | None) -> str:
        parts = urlsplit(self.url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        return f"{scheme}://{parts.netloc}{self.query(**{'transport': 'websocket'} | parameters)}"

    def auth(self, token: str | None = None) -> str:
        """The JSON payload of a connect packet, or nothing."""
        token = token or self.token
        return "" if token is None else json.dumps({"token": token}, separators=(",", ":"))

    @property
    def second(self) -> str:
        """A namespace other than ``/``."""
        for namespace in self.namespaces:
            if namespace != "/":
                return namespace
        raise Skip("no second namespace is known")

    @property
    def longest(self) -> float:
        """Seconds that the slowest case may take."""
        timers = 3 * (self.ping_interval + self.ping_timeout) + self.connect_timeout + self.upgrade_timeout
        return timers + 4 * self.limit

    def discovered(self, hello: dict[str, Any]) -> Target:
        """With the numbers of a handshake."""
        return replace(
            self,
            ping_interval=hello["pingInterval"] / 1000,
            ping_timeout=hello["pingTimeout"] / 1000,
            max_payload=hello["maxPayload"],
        )


async def request(
    target: Target, method: str, body: bytes | None = None, **parameters: str | None
) -> rawhttp.Answer | None:
    """One request on a connection of its own; ``None`` when the server cut it."""
    async with rawhttp.Connection(target.url, target.limit) as connection:
        return await connection.request(method, target.query(**parameters), body)


#: https://socket.io/docs/v4/troubleshooting-connection-issues
MESSAGES = {
    0: "Transport unknown",
    1: "Session ID unknown",
    2: "Bad handshake method",
    3: "Bad request",
    4: "Forbidden",
    5: "Unsupported protocol version",
}


def refused(answer: rawhttp.Answer | None, code: int | None = None) -> None:
    """A request must have been refused with 400 and, where ``code`` is given, its documented JSON."""
    check(answer is not None, "the connection was cut instead of answered with 400")
    assert answer is not None
    check(answer.status == 400, f"HTTP 400 was expected: {answer}")
    if code is None:
        return
    try:
        told = json.loads(answer.body)
    except ValueError:
        raise Violation(f"a JSON body was expected: {answer}") from None
    expected = {"code": code, "message": MESSAGES[code]}
    check(isinstance(told, dict) and expected.items() <= told.items(), f"{expected} was expected: {told}")
    kind = answer.headers.get("content-type", "")
    check(kind.startswith("application/json"), f"Content-Type application/json was expected: {kind!r}")
