"""Where a server and its native clients play the scenarios of the AsyncAPI document, and all they say is checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mechamap_rt.errors import Disconnect
from tests.clients.crowd import Member
from tests.clients.native import Message, NativeClient
from tests.docs.asyncapi import (
    DOCUMENT,
    REALTIME,
    RECEIVED,
    SENT,
    fitting,
    named,
    the_one,
)
from tests.server import Server

# -- does the server say it? -----------------------------------------------------------------------

#: Settings under which every limit is soon reached.
STRICT = {
    "CORS_ORIGIN": "https://site.example.com",
    "MAX_CONNECTIONS": "3",
    "MAX_CONNECTIONS_PER_USER": "1",
    "CONNECTION_ATTEMPTS_PER_MINUTE": "2",
    "CONNECTION_TIMEOUT": "200",
    "CLIENT_EVENTS_PER_MINUTE": "4",
    "CHANNEL_PUBLICATIONS_PER_MINUTE": "1",
    "WS_PING_INTERVAL": "200",
    "WS_PING_TIMEOUT": "800",
}
#: Closings that no client can provoke here: by a fault of the server, an administrator or the site's database, and one
#: that is never sent.
UNPROVOKED = {
    one.code for one in (Disconnect.SERVER_ERROR, Disconnect.FORCED, Disconnect.INACTIVE, Disconnect.GOING_AWAY)
}
#: The message of a channel with more members than a scenario has: tests/presence holds it to the document.
UNHEARD = {"membersChanged"}


class Heard:
    """What the scenarios have made the server hear and say."""

    def __init__(self) -> None:
        self.requests: set[str] = set()
        self.messages: set[str] = set()
        self.codes: set[str] = set()
        self.closings: set[int] = set()

    def note(self, message: Message) -> str:
        name = the_one(message, SENT)
        self.messages.add(name)
        if name == "error":
            self.codes.add(message["code"])
        return name

    def note_closing(self, code: int | None, reason: str | None) -> int:
        documented = {row["code"]: row["reason"] for row in REALTIME["x-close-codes"]}
        by_websocket = {row["code"] for row in REALTIME["x-websocket-close-codes"]}
        assert code in documented or code in by_websocket
        assert reason == documented[code] if code in documented and code != 1009 else reason
        self.closings.add(code)
        return code


class Client(NativeClient):
    """A client that holds whatever is said to the document."""

    heard: Heard

    def next(self) -> Message:
        message = super().next()
        self.heard.note(message)
        return message

    def told(self, name: str) -> Message:
        """Read one message, which is the one that the document calls ``name``."""
        message = self.next()
        assert the_one(message, SENT) == name
        return message

    def send(self, **request: Any) -> None:
        self.heard.requests.add(the_one(request, RECEIVED))
        super().send(**request)

    def send_wrong(self, request: dict[str, Any]) -> Message:
        """Send what the document does not allow, and read the answer."""
        assert fitting(request, RECEIVED) == []
        self.connection.send(json.dumps(request))
        return self.next()

    def answers(self, **request: Any) -> str:
        """Ask, and name the message that is the answer; it must be one that the document announces."""
        name = the_one(self.ask(**request), SENT)
        asked = the_one(request, RECEIVED)
        operations = [one for one in DOCUMENT["operations"].values() if asked in named(one["messages"])]
        assert any(name in named(operation["reply"]["messages"]) for operation in operations)
        return name

    def refused(self, **request: Any) -> str:
        """Ask for what is refused, and give the code of the error."""
        assert self.answers(**request) == "error"
        code: str = self.seen[-1]["code"]
        return code

    def ends(self) -> int:
        """Read until the server closes; an error before it gives the same reason."""
        code, reason = self.closed()
        given = self.seen[-1].get("details", {}).get("reason") if self.seen else None
        assert given in (None, reason)
        return self.heard.note_closing(code, reason)


class Stage:
    """The servers that the scenarios play on, and what was heard."""

    def __init__(self, server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.server = server
        self.heard = Heard()
        self.played: set[Scenario] = set()
        self._paths = tmp_path_factory
        self._started: list[Server] = []
        self._strict: Server | None = None

    @property
    def strict(self) -> Server:
        if self._strict is None:
            self._strict = self.start(**STRICT)
        return self._strict

    def start(self, **settings: str) -> Server:
        server = Server.start(self._paths.mktemp("server"), settings)
        self._started.append(server)
        return server

    def open(self, server: Server | None = None, **options: Any) -> Client:
        client = Client.open((server or self.server).ws_url, **options)
        assert isinstance(client, Client)
        client.heard = self.heard
        return client

    def user(self, user_id: int = 1, server: Server | None = None, **claims: Any) -> Client:
        """A client that has been greeted."""
        client = self.open(server, header=(server or self.server).token(user_id, **claims))
        client.greeted()
        return client

    def ends_raw(self, data: bytes) -> int:
        """The close code that bytes behind a handshake are worth."""
        member = Member(self.server.port, self.server.token(1))
        try:
            member.socket.sendall(data)
            assert member.drain_to_close() is not None
            assert member.closed is not None
            return self.heard.note_closing(*member.closed)
        finally:
            member.socket.close()

    def play(self, scenario: Scenario) -> None:
        self.played.add(scenario)
        scenario(self)

    def end(self) -> None:
        for server in self._started:
            server.end()


Scenario = Callable[[Stage], None]
SCENARIOS: list[Scenario] = []


def scenario(play: Scenario) -> Scenario:
    SCENARIOS.append(play)
    return play
