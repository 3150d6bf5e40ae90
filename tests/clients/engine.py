"""Raw Engine.IO 4, packet by packet: what no library does by itself, such as an upgrade that fails half-way."""

from __future__ import annotations

import json
import threading
from types import TracebackType
from typing import Any, Self

import requests
from websockets.sync.client import ClientConnection, connect

from tests.server import Server

LIMIT = 8.0


class RawSession:
    """A session of one user that began by polling and is connected to ``/``."""

    def __init__(self, server: Server, user: int) -> None:
        self._http = requests.Session()
        self._http.trust_env = False
        self._server = server
        self.seen: list[str] = []
        answer = self.request("GET")
        assert answer.status_code == 200, answer.text
        self.opening = json.loads(answer.text[1:])
        self.sid: str = self.opening["sid"]
        self.post("40" + json.dumps({"token": server.token(user)}))
        while not self.events("connected"):
            self.poll()

    def request(self, method: str, body: str | None = None, **query: str) -> requests.Response:
        """One request of polling; of the session, as soon as there is one."""
        query = {"EIO": "4", "transport": "polling", **query}
        if hasattr(self, "sid"):
            query.setdefault("sid", self.sid)
        data = None if body is None else body.encode()
        url = f"{self._server.url}/socket.io/"
        return self._http.request(method, url, params=query, data=data, timeout=LIMIT)

    def post(self, *packets: str) -> None:
        answer = self.request("POST", "\x1e".join(packets))
        assert (answer.status_code, answer.text) == (200, "ok")

    def poll(self) -> list[str]:
        """One GET; it waits until there is something. Pings are answered."""
        answer = self.request("GET")
        assert answer.status_code == 200, answer.text
        packets = answer.content.decode().split("\x1e")
        self.seen += packets
        if "2" in packets:
            self.post("3")
        return packets

    def polling(self) -> Waiting:
        """A GET that waits in the background."""
        return Waiting(self)

    def websocket(self) -> ClientConnection:
        """A WebSocket that may take over."""
        url = f"ws://127.0.0.1:{self._server.port}/socket.io/?EIO=4&transport=websocket&sid={self.sid}"
        return connect(url, open_timeout=LIMIT, proxy=None)

    def emit(self, event: str, data: Any, ack: int) -> None:
        self.post(event_packet(event, data, ack))

    def poll_for_ack(self, ack: int) -> dict[str, Any]:
        """Poll until the acknowledgement with that number has come; it must come once."""
        prefix = f"43{ack}["
        while not any(packet.startswith(prefix) for packet in self.seen):
            self.poll()
        (packet,) = (packet for packet in self.seen if packet.startswith(prefix))
        answer: dict[str, Any] = json.loads(packet[len(prefix) - 1 :])[0]
        return answer

    def events(self, name: str) -> list[Any]:
        """The data of all events of that name that have come by polling."""
        return events(self.seen, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()


class Waiting:
    """One GET in a thread of its own."""

    def __init__(self, session: RawSession) -> None:
        self._packets: list[str] | None = None
        self._session = session
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._packets = self._session.poll()

    def answer(self) -> list[str]:
        self._thread.join(LIMIT)
        assert self._packets is not None, "the GET was not answered"
        return self._packets


def event_packet(event: str, data: Any, ack: int) -> str:
    return f"42{ack}{json.dumps([event, data])}"


def events(packets: list[str], name: str) -> list[Any]:
    """The data of all events of that name in ``packets``."""
    found = [json.loads(packet[2:]) for packet in packets if packet.startswith("42[")]
    return [data for event, data in found if event == name]
