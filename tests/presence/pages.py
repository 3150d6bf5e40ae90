"""Pages that are open somewhere: one connection each, by any client, all with the same few methods."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import socketio
from websockets.exceptions import ConnectionClosed

from tests.clients.native import NativeClient
from tests.clients.node import MODES, Node, NodeClient
from tests.clients.waiting import until
from tests.server import Server

LIMIT = 8.0
#: Seconds of grace where it is shorter than usual, and the setting: not every test need wait for twelve.
GRACE = 6.0
SOONER = {"PRESENCE_GRACE": "6000"}
#: Connections that are tried until one comes to a certain worker.
ATTEMPTS = 80
#: What tells of others who come and go.
COMING_AND_GOING = ("member_joined", "member_left", "user_online", "user_offline", "user.status")

#: An event of the server: its name and its data.
Event = tuple[str, Any]


class Client(Protocol):
    """A connection by one implementation.

    :ivar ident: the id that the server gave it; it begins with the name of the worker.
    """

    ident: str

    @property
    def ended(self) -> bool:
        """Has it been cut off, or sent away?"""

    def events(self) -> list[Event]:
        """All that have come so far, in order."""

    def ask(self, event: str, data: Any) -> Any:
        """Send an event and return its answer."""

    def close(self) -> None:
        """Leave, as who closes the page; safe at any time."""


class ByNode:
    """npm's socket.io-client."""

    def __init__(self, node: Node, server: Server, token: str, mode: str) -> None:
        options = MODES[mode] | {"reconnection": False}
        self._client: NodeClient = node.connect(server.url, token, **options)
        self.ident: str = self._client.message("connected")["socketId"]

    @property
    def ended(self) -> bool:
        return any(one["event"] == "disconnect" for one in list(self._client.seen))

    def events(self) -> list[Event]:
        return [(one["name"], one["args"][0]) for one in list(self._client.seen) if one["event"] == "message"]

    def ask(self, event: str, data: Any) -> Any:
        return self._client.ask(event, data)

    def close(self) -> None:
        self._client.close()


class ByPython:
    """python-socketio's client."""

    def __init__(self, server: Server, token: str) -> None:
        self._events: list[Event] = []
        self._io = socketio.Client(reconnection=False)
        self._io.on("*", lambda name, *arguments: self._events.append((name, arguments[0] if arguments else None)))
        self._io.connect(server.url, auth={"token": token}, transports=["websocket"], wait_timeout=LIMIT)
        self.ident = str(self._io.get_sid())

    @property
    def ended(self) -> bool:
        return not self._io.connected

    def events(self) -> list[Event]:
        return list(self._events)

    def ask(self, event: str, data: Any) -> Any:
        return self._io.call(event, data, timeout=LIMIT)

    def close(self) -> None:
        self._io.disconnect()


class Native:
    """The native protocol; a thread reads."""

    def __init__(self, server: Server, token: str) -> None:
        self._client = NativeClient.open(server.ws_url, header=token)
        self.ident: str = self._client.greeted()["socketId"]
        self._events: list[Event] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._numbers = itertools.count(1)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        return not self._reader.is_alive()

    def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            for text in self._client.connection:
                message = json.loads(text)
                if message["type"] == "event":
                    self._events.append((message["event"], message["data"]))
                elif "id" in message:
                    self._answers[message["id"]] = message

    def events(self) -> list[Event]:
        return list(self._events)

    def ask(self, event: str, data: Any) -> Any:
        number = next(self._numbers)
        self._client.send(type="event", id=number, event=event, data=data)
        until(lambda: number in self._answers, lambda: f"{event} is not answered: {self._events}", LIMIT)
        answer = self._answers.pop(number)
        return {**answer.get("data", {}), **{name: answer[name] for name in ("error", "code") if name in answer}}

    def close(self) -> None:
        self._client.connection.close()
        self._reader.join(LIMIT)


#: The implementations, by what a test calls them.
KINDS = ("websocket", "polling", "python", "native")


class Page:
    """One page of a user."""

    def __init__(self, server: Server, user: int, client: Client) -> None:
        self.server = server
        self.user = user
        self.client = client

    @property
    def worker(self) -> str:
        """The name of the process that has it."""
        return self.client.ident[:6]

    def enter(self, channel: str) -> dict[str, Any]:
        """Subscribe; the answer, which must be a good one."""
        answer: dict[str, Any] = self.client.ask("subscribe", {"channel": channel})
        assert answer.get("status") == "success", answer
        return answer

    def quit(self, channel: str) -> None:
        self.client.ask("unsubscribe", {"channel": channel})

    def ask(self, event: str, data: Any) -> Any:
        return self.client.ask(event, data)

    def data(self, *names: str) -> list[Any]:
        """The data of the events of those names that have come so far."""
        return [data for name, data in self.client.events() if name in names]

    def users(self, name: str) -> list[int]:
        """The users whom events of that name were about."""
        return [data["user"]["id"] if "user" in data else data["user_id"] for data in self.data(name)]

    def told(self, user: int) -> list[str]:
        """What the page was told of a user, without the data."""
        return [
            name
            for name, data in self.client.events()
            if name in COMING_AND_GOING and user in (data.get("user_id"), data.get("user", {}).get("id"))
        ]

    def wait(self, name: str, user: int, count: int = 1, limit: float = LIMIT) -> Any:
        """Wait until so many events of that name have told of ``user``; the data of the last."""
        until(
            lambda: self.users(name).count(user) >= count,
            lambda: f"user {self.user} was not told {count} x {name} of {user}: {self.client.events()}",
            limit,
        )
        return [data for data in self.data(name) if user in (data.get("user_id"), data.get("user", {}).get("id"))][-1]

    def close(self) -> None:
        self.client.close()


class Pages:
    """Opens pages, and closes what is left open."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._open: list[Page] = []

    def open(self, server: Server, user: int, *channels: str, kind: str = "websocket", **claims: Any) -> Page:
        """A page of ``user`` that has entered ``channels``.

        :param kind: one of :data:`KINDS`.
        :param claims: further ones for the token.
        """
        return self.with_token(server, user, _token(server, user, **claims), *channels, kind=kind)

    def with_token(self, server: Server, user: int, token: str, *channels: str, kind: str = "websocket") -> Page:
        page = Page(server, user, self._connect(server, token, kind))
        self._open.append(page)
        for channel in channels:
            page.enter(channel)
        return page

    def _connect(self, server: Server, token: str, kind: str) -> Client:
        if kind == "native":
            return Native(server, token)
        if kind == "python":
            return ByPython(server, token)
        return ByNode(self._node, server, token, kind)

    def everywhere(self, server: Server, user: int, *channels: str, kind: str = "native") -> list[Page]:
        """A page of ``user`` on every worker."""
        return [self.on(server, user, each["node"], *channels, kind=kind) for each in server.workers()]

    def on(self, server: Server, user: int, worker: str, *channels: str, kind: str = "native") -> Page:
        """A page of ``user`` on that worker. Those that come to others hide, so that they leave nothing behind."""
        for _ in range(ATTEMPTS):
            page = self.open(server, user, kind=kind, invisible=True)
            if page.worker == worker:
                page.ask("authenticate", {"token": _token(server, user)})
                for channel in channels:
                    page.enter(channel)
                return page
            page.close()
        raise AssertionError(f"none of {ATTEMPTS} connections came to {worker}")

    def close(self) -> None:
        for page in self._open:
            with contextlib.suppress(OSError):
                page.close()


def _token(server: Server, user: int, **claims: Any) -> str:
    return server.token(user, name=name_of(user), avatar=avatar_of(user), **claims)


def name_of(user: int) -> str:
    return f"Thành viên {user}"


def avatar_of(user: int) -> str:
    return f"/avatars/{user}.png"


def card(user: int) -> dict[str, Any]:
    """A member as others see them."""
    return {"id": user, "name": name_of(user), "avatar": avatar_of(user)}


def online(server: Server, *users: int) -> list[int]:
    """Who of them is online, as the backend is told."""
    answer = server.post("/api/presence/online", {"user_ids": list(users)})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert (found["success"], found["count"]) == (True, len(found["online"]))
    ids: list[int] = found["online"]
    return ids


def always(holds: Callable[[], bool], complaint: Callable[[], str], seconds: float) -> None:
    """See to it that something holds for as long as that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert holds(), complaint()
        time.sleep(0.05)


_users = itertools.count(500_000, 10)


def newcomers() -> Iterator[int]:
    """Users who are in no other test."""
    return itertools.count(next(_users))
