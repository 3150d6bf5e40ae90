"""SIGTERM: what was accepted is delivered, clients learn that they may come back, and it is quick."""

from __future__ import annotations

import contextlib
import socket
import time

import socketio

from tests.clients.native import NativeClient
from tests.conftest import ConnectNode, StartServer
from tests.server import STOP_LIMIT


def test_clients_may_come_back(start_server: StartServer, connect_node: ConnectNode) -> None:
    server = start_server()
    browser = connect_node(server.url, server.token(1)).connected()
    python = socketio.Client(reconnection=False)
    reasons: list[str] = []
    python.on("disconnect", reasons.append)
    python.connect(server.url, transports=["websocket"], auth={"token": server.token(2)})
    with (
        NativeClient.open(server.ws_url, header=server.token(3)) as native,
        NativeClient.open(server.ws_url) as waiting,
    ):
        native.greeted()
        assert server.stop() < STOP_LIMIT
        assert native.closed()[0] == 1012
        assert waiting.closed()[0] in (1001, 1012), "also one that had not yet said who it is"

    gone = browser.wait("disconnect")
    assert gone["reason"] in ("transport close", "transport error"), "after a DISCONNECT packet it would stay away"
    assert gone["active"] is True
    python.wait()
    assert reasons
    assert set(reasons) <= {"transport close", "transport error"}


def test_what_was_accepted_is_delivered(start_server: StartServer, connect_node: ConnectNode) -> None:
    server = start_server()
    browser = connect_node(server.url, server.token(1)).connected()
    with NativeClient.open(server.ws_url, header=server.token(1)) as native:
        native.greeted()
        for number in range(20):
            server.publish("private-user.1", "notification", {"number": number, "padding": "x" * 20_000})
        server.stop()
        native.closed()
        assert [message["data"]["number"] for message in native.seen if message["type"] == "event"] == [*range(20)]
    browser.wait("disconnect")
    assert [data["number"] for data in browser.messages("notification")] == [*range(20)]


def test_nobody_can_hold_it_up(start_server: StartServer) -> None:
    """Half a request, an idle connection and a client that stopped reading do not delay the stop."""
    server = start_server()
    server.get("/health")  # its keep-alive connection stays open
    with (
        socket.create_connection(("127.0.0.1", server.port)) as silent,
        socket.create_connection(("127.0.0.1", server.port)) as halfway,
        NativeClient.open(server.ws_url, header=server.token(1), reads_ahead=1) as stalled,
    ):
        stalled.greeted()
        halfway.sendall(b"POST /api/broadcast HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        for number in range(60):
            server.publish("private-user.1", "notification", {"number": number, "padding": "x" * 100_000})
        assert server.stop() < STOP_LIMIT
        with contextlib.suppress(ConnectionResetError):
            silent.settimeout(1)
            assert silent.recv(1) == b""


def test_the_port_is_free_at_once(start_server: StartServer) -> None:
    first = start_server()
    first.get("/health")
    first.stop()
    asked = time.monotonic()
    second = start_server(PORT=str(first.port))
    assert second.port == first.port
    assert second.get("/health").status_code == 200
    assert time.monotonic() - asked < 10
