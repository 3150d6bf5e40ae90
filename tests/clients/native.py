"""A client of the native protocol, on the ``websockets`` package."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

SUBPROTOCOL = "mechamap.v1.json"
LIMIT = 8.0
#: The event, without a channel, that comes when it is known.
COUNT = "notification.unread_count"

Message = dict[str, Any]


class NativeClient:
    """One connection. What was read is kept in ``seen``; waiting reads until what is waited for came.

    :ivar counts: may :meth:`next` be the count of unread notifications that every new connection gets at some time?
    """

    counts = False

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.seen: list[Message] = []

    @classmethod
    def open(
        cls,
        url: str,
        *,
        header: str | None = None,
        query: str | None = None,
        subprotocols: Sequence[str] | None = (SUBPROTOCOL,),
        reads_ahead: int | None = None,
        context: ssl.SSLContext | None = None,
    ) -> NativeClient:
        """Connect.

        :param header: a token for ``Authorization: Bearer``.
        :param query: a token for the query.
        :param context: whom to believe, of a server with TLS.
        :param reads_ahead: stop reading from the socket when that many messages wait to be asked for.
        """
        opening = connect(
            url if query is None else f"{url}?token={query}",
            subprotocols=subprotocols,  # type: ignore[arg-type]
            additional_headers=None if header is None else {"Authorization": f"Bearer {header}"},
            proxy=None,
            ssl=context,
            open_timeout=LIMIT,
            close_timeout=1,
            ping_interval=None,
            max_size=None,
            max_queue=reads_ahead,
        )
        # a context manager in every version of the package; __exit__ below is its other half
        return cls(opening.__enter__())

    def send(self, **request: Any) -> None:
        self.connection.send(json.dumps(request))

    def next(self) -> Message:
        """The next message of the server."""
        while True:
            text = self.connection.recv(LIMIT)
            assert isinstance(text, str), "the server sends text messages only"
            message: Message = json.loads(text)
            if self.counts or message.get("event") != COUNT or "channel" in message:
                self.seen.append(message)
                return message

    def until(self, matching: Callable[[Message], bool]) -> Message:
        """Read until a message fits."""
        while True:
            message = self.next()
            if matching(message):
                return message

    def ask(self, **request: Any) -> Message:
        """Send a request with an ``id`` and read until its answer."""
        self.send(**request)
        return self.until(lambda message: message.get("id") == request["id"] and message["type"] != "event")

    def event(self, name: str) -> Message:
        """Read until an event of that name."""
        return self.until(lambda message: message["type"] == "event" and message["event"] == name)

    def greeted(self) -> Message:
        """Read the ``connected`` of the server."""
        message = self.next()
        assert message["type"] == "connected", message
        return message

    def closed(self) -> tuple[int | None, str | None]:
        """Read until the server closes; the close code and reason."""
        try:
            while True:
                self.next()
        except ConnectionClosed:
            return self.connection.close_code, self.connection.close_reason

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
