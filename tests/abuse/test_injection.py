"""What clients send comes back in answers: never as a header, a second answer, or another frame."""

from __future__ import annotations

import json

import pytest

from tests.abuse.attack import handshake
from tests.abuse.raw import Answered, exchange
from tests.clients.crowd import Member
from tests.conftest import StartServer
from tests.server import Server

POLL = "/socket.io/?EIO=4&transport=polling"
#: Ends a line for one reader or another.
BREAKS = (b"\r\n", b"\n", b"\r", b"\0", b"\x0b", b"\x0c", b"\x1c", b"\x85", b"\xc2\x85", b"\xe2\x80\xa8")
INJECTED = b"X-Injected: yes"


def asked(server: Server, target: str, *lines: bytes) -> Answered:
    head = [b"GET " + target.encode() + b" HTTP/1.1", b"Host: 127.0.0.1", b"Connection: close", *lines]
    return exchange(server.port, b"\r\n".join(head) + b"\r\n\r\n")


def clean(answered: Answered) -> None:
    assert len(answered.statuses) == 1, answered
    for head in answered.heads:
        lines = head.split(b"\r\n")
        assert not any(line.lower().startswith(b"x-injected") for line in lines), head
        # nor for readers that take other things for line ends
        for line in head.decode("latin-1").splitlines():
            assert not line.lower().startswith("x-injected"), head
        assert not any(character < 32 for line in lines for character in line), head


@pytest.mark.parametrize("header", [b"Origin", b"X-Request-ID", b"Access-Control-Request-Headers", b"If-None-Match"])
@pytest.mark.parametrize("end", BREAKS)
def test_headers_that_are_reflected(server: Server, header: bytes, end: bytes) -> None:
    value = header + b": https://a.example" + end + INJECTED
    for target in (POLL, "/live", "/api/status", "/console/index.html"):
        clean_or_sent = asked(server, target, value)
        if end == b"\r\n":
            # that is a header of the request, and nothing more
            assert b"X-Injected" not in b"".join(clean_or_sent.heads)
        clean(clean_or_sent)


def test_an_origin_in_any_letters_comes_back_as_it_was(start_server: StartServer) -> None:
    """International names are sent as ASCII; whoever sends something else gets it back byte for byte, or nothing."""
    server = start_server(CORS_CREDENTIALS="true")
    for origin in ("https://cơ-khí.example", "https://\xe9.example", "https://例え.example", "null", "a" * 3000):
        for encoding in ("utf-8", "latin-1"):
            sent = origin.encode(encoding, "replace")
            answered = asked(server, POLL, b"Origin: " + sent)
            clean(answered)
            assert answered.statuses in ([200], [403])
            if b"Access-Control-Allow-Origin: " in answered.heads[0]:
                assert b"\r\nAccess-Control-Allow-Origin: " + sent + b"\r\n" in answered.heads[0] + b"\r\n"
    assert "Traceback" not in server.output()
    server.stop()


@pytest.mark.parametrize("ident", [b"a b", b"a" * 129, "ơ".encode(), b'a"b', b"<script>", b"a\tb", b"", b"a;b"])
def test_a_requests_id_that_is_none_is_replaced(server: Server, ident: bytes) -> None:
    head = asked(server, "/live", b"X-Request-ID: " + ident).heads[0]
    assert ident == b"" or ident not in head
    assert asked(server, "/live", b"X-Request-ID: mine-1").heads[0].count(b"\r\nX-Request-ID: mine-1") == 1


@pytest.mark.parametrize(
    "text", ["%0d%0aX-Injected:%20yes", "%0aX-Injected:%20yes", "%E5%98%8A%E5%98%8DX-Injected:yes"]
)
def test_paths_and_queries(server: Server, text: str) -> None:
    for target in (
        f"/{text}",
        f"/api/channels/{text}",
        f"/ws?token={text}",
        f"{POLL}&sid={text}",
        f"/socket.io/?EIO={text}&transport=polling",
        f"/console/{text}",
    ):
        clean(asked(server, target))
        clean(
            exchange(server.port, handshake(target, "Connection: close"))
            if "/ws" not in target
            else asked(server, target)
        )
    assert "Traceback" not in server.output()


def test_event_and_channel_names(server: Server) -> None:
    """An event's name is text inside JSON, whatever is in it; a channel's has few characters."""
    odd = ["a\r\nX-Injected: yes", "a\0b", "a\x1e4bad", "a\u2028b", "\u202egnp", '"],["x', "</script>", "a" * 255]
    member = Member(server.port, server.token(71))
    try:
        for name in odd:
            answer = server.post("/api/broadcast", {"channel": "private-user.71", "event": name, "data": {"n": name}})
            assert answer.status_code == 200
            message = json.loads(member.wait_for(b'"type":"event"'))
            while message["event"].startswith("notification"):
                message = json.loads(member.wait_for(b'"type":"event"'))
            assert (message["event"], message["data"]["n"]) == (name, name)
            bad = server.post("/api/broadcast", {"channel": name[:100], "event": "e", "data": {}})
            assert bad.status_code == (200 if name == "a" * 255 else 400)
            member.send(type="subscribe", id=1, channel=name)
            assert json.loads(member.wait_for(b'"type":"error"'))["code"] in ("VALIDATION_ERROR", "PERMISSION_DENIED")
    finally:
        member.socket.close()
    assert "Traceback" not in server.output()


def test_a_packet_cannot_be_smuggled_into_a_polling_payload(server: Server) -> None:
    """Packets are separated by a byte that JSON escapes."""
    opened = json.loads(server.get(POLL).text[1:])
    path = f"{POLL}&sid={opened['sid']}"
    server.post(path, raw=b"40" + json.dumps({"token": server.token(72)}).encode(), key=False)
    server.get(path)
    server.publish("private-user.72", "e\x1e41", {"x": "\x1e1\x1e41"})
    text = ""
    while "e\\u001e41" not in text:
        text = server.get(path).text
    assert [packet[:2] for packet in text.split("\x1e") if "001e" in packet] == ["42"]
