"""The backend's side of a long run: publications at a rate, and other HTTP requests, all of them written down."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.clients.accounts import EVENT
from tests.clients.background import Background

LIMIT = 10.0


@dataclass
class Published:
    """One publication that was accepted. Times are seconds since the epoch."""

    channel: str
    number: int
    began: float
    ended: float
    total: int


class Failures:
    """HTTP requests that got no good answer, and connections that were refused."""

    def __init__(self) -> None:
        self.refused = 0
        self.failed: list[str] = []

    def note(self, what: str, error: Exception | int) -> None:
        if isinstance(error, ConnectionRefusedError):
            self.refused += 1
        else:
            self.failed.append(f"{time.strftime('%X')} {what}: {error!r}")


def post(port: int, key: str, channel: str, number: int) -> Published:
    """Publish over a connection of its own."""
    body = json.dumps({"channels": [channel], "event": EVENT, "data": {"n": number}})
    headers = {"Content-Type": "application/json", "X-WebSocket-API-Key": key}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    began = time.time()
    try:
        connection.request("POST", "/api/laravel-broadcast", body, headers)
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise http.client.HTTPException(f"{response.status} {answer[:200]!r}")
    return Published(channel, number, began, time.time(), json.loads(answer)["totalSubscribers"])


class Publisher(Background):
    """Publishes on some channels in turn, one publication after another, each over a connection of its own."""

    def __init__(self, port: int, key: str, channels: Sequence[str], rate: float, failures: Failures) -> None:
        super().__init__()
        self._port = port
        self._key = key
        self._channels = channels
        self._pause = 1 / rate
        self._failures = failures
        self.published: list[Published] = []
        self.start()

    def run(self) -> None:
        turn, due = 0, time.monotonic()
        while not self._over.wait(max(due - time.monotonic(), 0)):
            number, place = divmod(turn, len(self._channels))
            try:
                self.published.append(post(self._port, self._key, self._channels[place], number))
            except (OSError, http.client.HTTPException) as error:
                self._failures.note("POST", error)
            turn += 1
            due = max(due + self._pause, time.monotonic() - 1)


class Prober(Background):
    """Asks for ``/api/health`` all the time.

    :param kept: over one connection, for as long as the server keeps it; else over a new one each time.
    :ivar workers: who has answered.
    """

    def __init__(self, port: int, kept: bool, failures: Failures, pause: float = 0.02) -> None:
        super().__init__()
        self._port = port
        self._kept = kept
        self._failures = failures
        self._pause = pause
        self.asked = 0
        self.workers: set[str] = set()
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=LIMIT)
        while not self._over.wait(self._pause):
            self.asked += 1
            try:
                connection.request("GET", "/api/health")
                response = connection.getresponse()
                answer = response.read()
                if response.status == 200:
                    self.workers.add(json.loads(answer)["worker"])
                else:
                    self._failures.note("GET", response.status)
            except (OSError, http.client.HTTPException) as error:
                self._failures.note(f"GET over a {'kept' if self._kept else 'fresh'} connection", error)
                connection.close()
            if not self._kept:
                connection.close()
        connection.close()
