"""npm's socket.io-client, driven from Python: one Node process (``driver.mjs``), many clients in it."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
LIMIT = 8.0

#: As the site's browser code connects.
SITE_OPTIONS: dict[str, Any] = {
    "transports": ["websocket", "polling"],
    "reconnectionDelay": 100,
    "reconnectionDelayMax": 400,
}

#: The socket.io-clients that package.json names; :data:`NEWEST` is the one browsers get from the server.
VERSIONS = ("2.5", "3.1", "4.0", "4.4", "4.7", "4.8")
NEWEST = VERSIONS[-1]
#: The ways to connect that socket.io-client knows, by what a test calls them.
MODES: dict[str, dict[str, Any]] = {
    "polling": {"transports": ["polling"]},
    "websocket": {"transports": ["websocket"]},
    "default": {"transports": ["polling", "websocket"]},
}

Seen = dict[str, Any]


class NodeClient:
    """One socket.io-client. ``seen`` is all that it reported, in order (see ``driver.mjs``)."""

    def __init__(self, node: Node, name: str) -> None:
        self._node = node
        self.name = name
        self.seen: list[Seen] = []
        self._closed = False

    def emit(self, event: str, *args: Any) -> None:
        """Emit without asking for an acknowledgement."""
        self._node.call("emit", client=self.name, event=event, args=list(args), ack=None)

    def ask(self, event: str, *args: Any) -> Any:
        """Emit and return what was acknowledged."""
        answer = self._node.call("emit", client=self.name, event=event, args=list(args), ack=int(LIMIT * 1000))
        assert len(answer) == 1, f"{event} was acknowledged with {len(answer)} arguments: {answer}"
        return answer[0]

    def chatter(self, count: int, gap: float = 2) -> Callable[[], list[int]]:
        """Emit ``count`` events with acknowledgements, ``gap`` milliseconds apart, without waiting.

        :returns: waits until the last one is acknowledged and gives how often each was.
        """
        return self._node.begin("chatter", client=self.name, count=count, gap=gap)

    def send_raw(self, text: str) -> None:
        """Put text straight into the WebSocket, past socket.io-client's own encoder."""
        self._node.call("raw", client=self.name, text=text)

    def open(self) -> None:
        self._node.call("open", client=self.name)

    def upgrade(self) -> None:
        """Begin the upgrade of a client that connected with ``upgrade=False``."""
        self._node.call("upgrade", client=self.name)

    def join(self, namespace: str, token: str | None) -> NodeClient:
        """A socket in another namespace of the same session."""
        return self._node.join(self, namespace, token)

    def disconnect(self) -> None:
        """Leave the namespace, and the server with the last one."""
        self._node.call("disconnect", client=self.name)

    def close(self) -> None:
        """Leave for good; safe at any time."""
        if not self._closed:
            self._closed = True
            self._node.call("close", client=self.name)

    @property
    def state(self) -> dict[str, Any]:
        """``connected``, ``active`` (will it come back by itself?), ``id``, ``transport``."""
        state: dict[str, Any] = self._node.call("state", client=self.name)
        return state

    def wait(self, event: str, matching: Callable[[Seen], bool] = lambda _: True, *, after: int = 0) -> Seen:
        """Wait for a report: ``connect``, ``connect_error``, ``disconnect``, ``reconnect`` …

        :param matching: and only one of which this holds.
        :param after: skip that many reports; ``mark`` gives the number to skip all that was seen.
        """
        return self._node.wait_for(
            lambda: next((one for one in self.seen[after:] if one["event"] == event and matching(one)), None),
            lambda: f"{self.name} did not see {event!r} within {LIMIT:g} s, but: {self.seen[after:]}",
        )

    def message(self, name: str, matching: Callable[[Any], bool] = lambda _: True, *, after: int = 0) -> dict[str, Any]:
        """Wait for an event of the server by its name and return its only argument."""
        one = self.wait("message", lambda seen: seen["name"] == name and matching(seen["args"][0]), after=after)
        assert len(one["args"]) == 1, one
        argument: dict[str, Any] = one["args"][0]
        return argument

    def wait_any(self, *names: str) -> Seen:
        """Wait for the first of several reports; an event of the server is written ``message:NAME``."""
        return self._node.wait_for(
            lambda: next((one for one in self.seen if _name(one) in names), None),
            lambda: f"{self.name} saw none of {names} within {LIMIT:g} s, but: {self.seen}",
        )

    def messages(self, name: str) -> list[Any]:
        """The arguments of all events of that name that have come so far."""
        return [one["args"][0] for one in list(self.seen) if one["event"] == "message" and one["name"] == name]

    @property
    def mark(self) -> int:
        return len(self.seen)

    def connected(self) -> NodeClient:
        """Wait until the server has greeted; returns the client itself."""
        self.message("connected")
        return self


def _name(one: Seen) -> str:
    return f"message:{one['name']}" if one["event"] == "message" else str(one["event"])


def _pack(value: bytes) -> dict[str, str]:
    return {"$bytes": base64.b64encode(value).decode()}


def _unpack(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["$bytes"]) if "$bytes" in value else value


class Node:
    """The Node process. A thread reads what it says; callers wait on a condition, never on a clock alone."""

    def __init__(self, command: str) -> None:
        if not (FOLDER / "node_modules" / "socket.io-client").is_dir():
            raise AssertionError("socket.io-client is not installed; run: make test-tools")
        self._process = subprocess.Popen(
            [command, "driver.mjs"],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self.pid = self._process.pid
        self._clients: dict[str, NodeClient] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def connect(self, url: str, token: str | None, *, version: str = NEWEST, **options: Any) -> NodeClient:
        """A new client with the site's options: the token in ``auth`` *and* in the query.

        :param version: one of :data:`VERSIONS`.
        """
        given = {} if token is None else {"auth": {"token": token}, "query": {"token": token}}
        client = self._new()
        self.call("connect", client=client.name, version=version, url=url, options=SITE_OPTIONS | given | options)
        return client

    def join(self, beside: NodeClient, namespace: str, token: str | None) -> NodeClient:
        client = self._new()
        options = {} if token is None else {"auth": {"token": token}, "query": {"token": token}}
        self.call("join", client=client.name, beside=beside.name, namespace=namespace, options=options)
        return client

    def _new(self) -> NodeClient:
        client = NodeClient(self, f"client-{next(self._numbers)}")
        self._clients[client.name] = client
        return client

    def call(self, what: str, **members: Any) -> Any:
        """One request to the driver, and its answer."""
        return self.begin(what, **members)()

    def begin(self, what: str, **members: Any) -> Callable[[], Any]:
        """One request to the driver; the result waits for its answer and gives it."""
        number = next(self._numbers)
        assert self._process.stdin is not None
        with self._changed:
            self._process.stdin.write(json.dumps({"call": number, "do": what, **members}, default=_pack) + "\n")
            self._process.stdin.flush()

        def answer() -> Any:
            said = self.wait_for(
                lambda: self._answers.pop(number, None), lambda: f"Node did not answer {what} within {LIMIT:g} s"
            )
            if "error" in said:
                raise AssertionError(f"{what} {str(members)[:500]}: {said['error']}")
            return said["result"]

        return answer

    def wait_for(self, find: Callable[[], Seen | None], complaint: Callable[[], str]) -> Seen:
        """Wait until ``find`` returns something."""
        deadline = time.monotonic() + LIMIT + 1
        with self._changed:
            while (found := find()) is None:
                left = deadline - time.monotonic()
                if left <= 0 or self._process.poll() is not None:
                    raise AssertionError(complaint())
                self._changed.wait(left)
            return found

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line, object_hook=_unpack)
            with self._changed:
                if "call" in said:
                    self._answers[said["call"]] = said
                else:
                    self._clients[said["client"]].seen.append(said)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
