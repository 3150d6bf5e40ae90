"""npm's socket.io-client, driven from Python: one Node process (``driver.mjs``), many clients in it."""

from __future__ import annotations

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

    def send_raw(self, text: str) -> None:
        """Put text straight into the WebSocket, past socket.io-client's own encoder."""
        self._node.call("raw", client=self.name, text=text)

    def open(self) -> None:
        self._node.call("open", client=self.name)

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
        self._clients: dict[str, NodeClient] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def connect(self, url: str, token: str | None, **options: Any) -> NodeClient:
        """A new client with the site's options: the token in ``auth`` *and* in the query."""
        given = {} if token is None else {"auth": {"token": token}, "query": {"token": token}}
        client = NodeClient(self, f"client-{next(self._numbers)}")
        self._clients[client.name] = client
        self.call("connect", client=client.name, url=url, options=SITE_OPTIONS | given | options)
        return client

    def call(self, what: str, **members: Any) -> Any:
        """One request to the driver, and its answer."""
        number = next(self._numbers)
        assert self._process.stdin is not None
        with self._changed:
            self._process.stdin.write(json.dumps({"call": number, "do": what, **members}) + "\n")
            self._process.stdin.flush()
        answer = self.wait_for(
            lambda: self._answers.pop(number, None), lambda: f"Node did not answer {what} within {LIMIT:g} s"
        )
        if "error" in answer:
            raise AssertionError(f"{what} {members}: {answer['error']}")
        return answer["result"]

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
            said = json.loads(line)
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
