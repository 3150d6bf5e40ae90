"""What a worker that lets its clients go does for the clients of others."""

from __future__ import annotations

import http.client
import json
import threading
import time

from tests.clients.native import NativeClient
from tests.conftest import StartServer
from tests.server import Server


def kept_connection(server: Server, not_on: str) -> tuple[http.client.HTTPConnection, str]:
    """An HTTP connection to another worker than ``not_on``, and that worker's name."""
    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("GET", "/api/health")
        worker = json.loads(connection.getresponse().read())["worker"]
        if worker != not_on:
            return connection, worker
        connection.close()
    raise AssertionError("every connection went to the same worker")


def test_a_poll_for_another_workers_session_is_answered_at_once(start_cluster: StartServer) -> None:
    server = start_cluster(2, CLUSTER_DRAIN_TIME="8000")
    opened = server.get("/socket.io/?EIO=4&transport=polling").text
    sid = json.loads(opened[1:])["sid"]
    path = f"/socket.io/?EIO=4&transport=polling&sid={sid}"
    connection, worker = kept_connection(server, sid[:6])
    number = next(each["worker"] for each in server.workers() if each["node"] == worker)
    connection.request("GET", path)
    answers: list[tuple[bytes, str | None]] = []

    def read() -> None:
        response = connection.getresponse()
        answers.append((response.read(), response.getheader("Connection")))

    reading = threading.Thread(target=read)
    reading.start()
    time.sleep(0.5)
    assert not answers
    began = time.monotonic()
    server.control("drain", f"{number}", limit=20)
    assert time.monotonic() - began < 5
    reading.join(5)
    assert answers == [(b"6", "close")]
    # the session lives on, over whatever connection
    assert server.post(path, raw=b'40{"token":"%b"}' % server.token(1).encode(), key=False).text == "ok"
    heard = ""
    while '"connected"' not in heard:
        heard += server.get(path).text


def test_who_is_let_go_types_no_more(start_cluster: StartServer) -> None:
    """Those who stay, with other workers, are told so at once, and not only when they would have found out."""
    server = start_cluster(2, CLUSTER_DRAIN_TIME="1000")
    by_worker: dict[str, NativeClient] = {}
    opened: list[NativeClient] = []
    try:
        while len(by_worker) < 2:
            assert len(opened) < 60, "all on one worker"
            client = NativeClient.open(server.ws_url, header=server.token(len(opened) + 1))
            opened.append(client)
            by_worker.setdefault(client.greeted()["socketId"][:6], client)
        (leaving, typist), (_, watcher) = by_worker.items()
        for client in (typist, watcher):
            assert client.ask(type="subscribe", id=1, channel="public.x")["event"] == "subscribed"
        typist.send(type="event", event="typing_start", data="public.x")
        user = watcher.event("user_typing")["data"]["userId"]
        number = next(each["worker"] for each in server.workers() if each["node"] == leaving)
        server.control("drain", f"{number}", limit=20)
        assert watcher.event("user_stopped_typing")["data"]["userId"] == user
        assert typist.closed()[0] == 1012
    finally:
        for client in opened:
            client.connection.close()
