"""Native clients that write down what came and when, and in which read: one raw socket and one thread each."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

from tests.clients.background import Background
from tests.clients.crowd import Member
from tests.server import Server

#: What the server says by itself to whoever comes.
UNASKED = frozenset(("notification.unread_count",))


@dataclass(frozen=True)
class Came:
    """One event.

    :ivar at: seconds of the monotonic clock.
    :ivar read: the number of the read that brought it.
    """

    at: float
    read: int
    event: str
    data: dict[str, Any]


class Watcher(Background):
    """One client, subscribed to some channels.

    :ivar came: the events so far, without :data:`UNASKED`.
    :ivar closed: the close frame's code and reason, when there was one.
    """

    def __init__(self, server: Server, user: int, *channels: str) -> None:
        super().__init__()
        self._member = Member(server.port, server.token(user))
        for channel in channels:
            self._member.subscribe(channel)
        self.came: list[Came] = []
        self.start()

    @property
    def closed(self) -> tuple[int, str] | None:
        return self._member.closed

    def run(self) -> None:
        read = 0
        while not self._over.is_set() and self.closed is None:
            self._member.socket.settimeout(0.1)
            try:
                data = self._member.socket.recv(1_000_000)
            except TimeoutError:
                continue
            except OSError:
                break
            if not data:
                break
            read += 1
            now = time.monotonic()
            self._member.buffer += data
            for text in self._member.messages():
                message = json.loads(text)
                if message["type"] == "event" and message["event"] not in UNASKED:
                    self.came.append(Came(now, read, message["event"], message["data"]))
        with contextlib.suppress(OSError):
            self._member.socket.close()

    def of(self, event: str) -> list[Came]:
        return [one for one in list(self.came) if one.event == event]
