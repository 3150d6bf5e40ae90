"""TLS on the server's own port, asked by OpenSSL itself and by real clients."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from tests.certificates import Authority, Installed, rsa_key
from tests.clients.crowd import Member
from tests.clients.native import NativeClient
from tests.clients.waiting import until, wait_for_subscribers
from tests.conftest import ConnectNode, StartServer, required
from tests.server import MAX_BODY, Server

LIMIT = 10.0
CHANNEL = "public.tls"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    """A single process whose key is one of RSA, with which ciphers without forward secrecy would be possible."""
    installed = Installed(tmp_path_factory.mktemp("tls"), *authority.sign(key=rsa_key()))
    server = Server.start(tmp_path_factory.mktemp("server"), installed.settings)
    server.trust(authority.path)
    try:
        yield server
        server.stop()
        assert "Traceback" not in server.output()
    finally:
        server.end()


def descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def shake(server: Server, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """A connection whose handshake is done; an alert of the server is an error."""
    plain = socket.create_connection(("127.0.0.1", server.port), LIMIT)
    try:
        secured = context.wrap_socket(plain, server_hostname="localhost", session=session)
    except Exception:
        plain.close()
        raise
    return secured


def context_for(authority: Authority, ciphers: str = "", latest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.pem)
    if latest is not None:
        context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, latest
    if ciphers:
        context.set_ciphers(ciphers)
    return context


# -- what is negotiated ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(secure: Server, authority: Authority, version: ssl.TLSVersion) -> None:
    context = context_for(authority)
    context.minimum_version = context.maximum_version = version
    with shake(secure, context) as connection:
        assert connection.version() == version.name.replace("_", ".")
        assert connection.compression() is None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(secure: Server, authority: Authority, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        shake(secure, context_for(authority, "ALL:@SECLEVEL=0", version))


WEAK = (
    "AES128-GCM-SHA256",
    "AES256-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA384",
    "DHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-CAMELLIA128-SHA256",
)


@pytest.mark.parametrize("cipher", WEAK)
def test_weak_ciphers_are_refused(secure: Server, authority: Authority, cipher: str) -> None:
    """CBC, RSA's key exchange, which has no forward secrecy, and Diffie-Hellman without curves."""
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        shake(secure, context_for(authority, f"{cipher}:@SECLEVEL=0", ssl.TLSVersion.TLSv1_2))


def test_rc4_is_not_known(secure: Server) -> None:
    """Python's OpenSSL cannot even ask for it: a ClientHello that has nothing else, byte for byte."""
    suites = b"\x00\x05\x00\x04\xc0\x11\xc0\x07"
    extensions = b"\x00\x0a\x00\x04\x00\x02\x00\x17" + b"\x00\x0d\x00\x04\x00\x02\x04\x01"
    body = b"\x03\x03" + bytes(32) + b"\x00" + len(suites).to_bytes(2, "big") + suites + b"\x01\x00"
    body += len(extensions).to_bytes(2, "big") + extensions
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    with socket.create_connection(("127.0.0.1", secure.port), LIMIT) as client:
        client.sendall(b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello)
        answer = client.recv(100)
        assert (answer[0], answer[-1]) == (21, 40), "an alert: handshake_failure"
        assert client.recv(100) == b""


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"])
def test_ciphers_with_forward_secrecy(secure: Server, authority: Authority, cipher: str) -> None:
    with shake(secure, context_for(authority, f"ECDHE-RSA-{cipher}", ssl.TLSVersion.TLSv1_2)) as connection:
        assert connection.cipher() is not None
        assert connection.cipher()[0] == f"ECDHE-RSA-{cipher}"  # type: ignore[index]


def test_the_server_chooses(secure: Server, authority: Authority) -> None:
    ciphers = "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"
    with shake(secure, context_for(authority, ciphers, ssl.TLSVersion.TLSv1_2)) as connection:
        assert connection.cipher()[0] == "ECDHE-RSA-AES128-GCM-SHA256"  # type: ignore[index]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_resumed(secure: Server, authority: Authority, version: ssl.TLSVersion) -> None:
    context = context_for(authority)
    context.minimum_version = context.maximum_version = version
    with shake(secure, context) as first:
        first.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first.recv(4096).startswith(b"HTTP/1.1 200 ")
        session = first.session
    with shake(secure, context, session) as second:
        assert second.session_reused is False


def test_alpn(secure: Server, authority: Authority) -> None:
    for offered, chosen in ((["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), ([], None)):
        context = context_for(authority)
        context.set_alpn_protocols(offered)
        with shake(secure, context) as connection:
            assert connection.selected_alpn_protocol() == chosen
    context = context_for(authority)
    context.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        shake(secure, context)


def test_openssl_itself(secure: Server, authority: Authority) -> None:
    """The chain is sent, and nobody renegotiates."""
    command = [required("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{secure.port}", "-tls1_2"]
    command += ["-CAfile", str(authority.path), "-verify_hostname", "localhost", "-verify_return_error", "-showcerts"]
    done = subprocess.run(command, input=b"R\n", capture_output=True, timeout=LIMIT)
    said = (done.stdout + done.stderr).decode()
    assert "Verify return code: 0 (ok)" in said
    assert said.count("-----BEGIN CERTIFICATE-----") == 2
    assert "Compression: NONE" in said
    assert re.search("no renegotiation|alert", said.partition("RENEGOTIATING")[2]), said


# -- what is spoken inside -------------------------------------------------------------------------


def test_http(secure: Server) -> None:
    assert secure.url.startswith("https://")
    assert secure.get("/api/status").json()["features"]["tls"] is True
    text = "x" * (MAX_BODY // 2)
    assert secure.publish("public.nobody", "large", {"text": text}).json()["success"] is True
    page = secure.get("/socket.io/socket.io.js")
    assert page.status_code in (200, 404)
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(secure.url, timeout=LIMIT)


def test_a_body_that_is_too_long_is_refused_in_words(secure: Server, authority: Authority) -> None:
    """The answer is read although the rest of the body is still being sent."""
    with shake(secure, context_for(authority)) as client:
        client.sendall(
            b"POST /api/broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 50000000\r\n\r\n"
        )
        sent, answer = 0, b""
        with contextlib.suppress(OSError):
            while sent < 50_000_000 and not answer:
                client.sendall(b" " * 65536)
                sent += 65536
                client.settimeout(0.01)
                with contextlib.suppress(TimeoutError, ssl.SSLWantReadError):
                    answer = client.recv(65536)
                client.settimeout(LIMIT)
        assert answer.startswith(b"HTTP/1.1 413 "), answer
        assert client.recv(100) == b"", "close_notify, and no torn connection"


@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
def test_socketio(secure: Server, authority: Authority, connect_node: ConnectNode, transports: list[str]) -> None:
    client = connect_node(secure.url, secure.token(1), transports=transports, ca=authority.pem).connected()
    assert client.ask("subscribe", {"channel": CHANNEL})["status"] == "success"
    for number in range(20):
        secure.publish(CHANNEL, "news", {"number": number, "text": "ư" * 5000})
    client.message("news", lambda data: data["number"] == 19)
    assert [data["number"] for data in client.messages("news")] == [*range(20)]
    if transports[-1] == "websocket":
        until(lambda: client.state["transport"] == "websocket", lambda: f"{client.state}")


def test_native(secure: Server, authority: Authority) -> None:
    with NativeClient.open(secure.ws_url, header=secure.token(2), context=authority.context) as client:
        client.greeted()
        assert client.ask(type="subscribe", id=1, channel=CHANNEL)["type"] == "reply"
        secure.publish(CHANNEL, "news", {"text": "ơ" * 100_000})
        assert client.event("news")["data"]["text"] == "ơ" * 100_000


def test_who_reads_slowly_misses_nothing(start_server: StartServer, authority: Authority, tmp_path: Path) -> None:
    """Far more waits than the kernel takes: what is left is written when it is read, in order."""
    installed = Installed(tmp_path / "tls", *authority.sign())
    server = start_server(OUTBOX_SOFT_LIMIT="30m", OUTBOX_HARD_LIMIT="32m", **installed.settings)
    server.trust(authority.path)
    with NativeClient.open(server.ws_url, header=server.token(3), context=authority.context, reads_ahead=1) as client:
        client.greeted()
        client.ask(type="subscribe", id=1, channel=CHANNEL)
        for number in range(120):
            server.publish(CHANNEL, "news", {"number": number, "text": "x" * (100_000 if number % 2 else 100)})
            server.publish(CHANNEL, "news", {"number": number, "text": "y" * 70_000})
        numbers = [client.event("news")["data"]["number"] for _ in range(240)]
        assert numbers == [number // 2 for number in range(240)]
        assert client.ask(type="unsubscribe", id=2, channel=CHANNEL)["type"] == "reply"
    server.stop()


def test_who_does_not_read_is_told_why(secure: Server, authority: Authority) -> None:
    stalled = Member(secure.port, secure.token(4), authority.context)
    stalled.subscribe("public.big")
    for number in range(120):
        secure.publish("public.big", "flood", {"number": number, "text": "x" * 100_000})
    wait_for_subscribers(secure, "public.big", 0)
    assert stalled.drain_to_close() == (4200, "slow_consumer")
    stalled.socket.close()


# -- who speaks something else, or nothing ---------------------------------------------------------


def test_plain_http_ends_cleanly(secure: Server) -> None:
    with socket.create_connection(("127.0.0.1", secure.port), LIMIT) as client:
        client.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while data := client.recv(4096):
            answer += data
        assert b"HTTP" not in answer
    assert "Traceback" not in secure.output()
    assert "Unhandled" not in secure.output()


def test_who_vanishes_leaves_nothing(secure: Server) -> None:
    secure.get("/live")
    time.sleep(0.2)
    before = descriptors(secure)
    hello = ssl.MemoryBIO()
    wrapped = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        wrapped.do_handshake()
    flight = hello.read()
    for sent in (b"", b"\x16", flight[:100], flight, b"\x16\x03\x01\xff\xff" + bytes(1000), b"\x80" * 50):
        for abruptly in (False, True):
            client = socket.create_connection(("127.0.0.1", secure.port), LIMIT)
            client.sendall(sent)
            if abruptly:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.close()
    until(lambda: descriptors(secure) <= before, lambda: f"{descriptors(secure)}, before {before}")
    assert "Traceback" not in secure.output()
    assert secure.get("/live").status_code == 200


# -- the certificate at the start, and the stop ----------------------------------------------------


def test_a_start_names_what_is_wrong_with_both_files(tmp_path: Path, authority: Authority) -> None:
    certificate, _ = authority.sign()
    paths = {"SSL_CERT_PATH": tmp_path / "cert.pem", "SSL_KEY_PATH": tmp_path / "key.pem"}
    paths["SSL_KEY_PATH"].write_bytes(certificate)
    with pytest.raises(AssertionError) as failed:
        Server.start(tmp_path, {"SSL_ENABLED": "true"} | {name: str(path) for name, path in paths.items()})
    said = str(failed.value)
    assert "SSL_CERT_PATH: must be the path of a file that exists" in said
    assert "SSL_KEY_PATH: must be the path of a file with a private key in PEM" in said
    assert "Traceback" not in said


def test_what_expires_is_told(start_server: StartServer, authority: Authority, tmp_path: Path) -> None:
    """Three certificates in a row: one that has expired starts, one that will soon, and one that is fine."""
    installed = Installed(tmp_path / "tls", *authority.sign("old", since=-timedelta(9), until=-timedelta(1)))
    server = start_server(**installed.settings)

    def alerts() -> list[tuple[str, str]]:
        return [(alert["name"], alert["message"]) for alert in server.control("status")["alerts"]]

    def told(words: str) -> bool:
        return [name for name, message in alerts() if words in message] == ["certificate_expiry"]

    until(lambda: told("of old has expired"), lambda: f"{alerts()}")
    assert "expired on" in server.mechamapctl("status").stdout
    installed.renew(*authority.sign("soon", until=timedelta(days=13, hours=23)))
    until(lambda: told("of soon expires in 13 days"), lambda: f"{alerts()}")
    installed.renew(*authority.sign("fine", until=timedelta(days=15)))
    until(lambda: alerts() == [], lambda: f"{alerts()}")
    assert "Cleared: certificate_expiry" in server.output()
    server.stop()


def test_a_stop_takes_leave(start_server: StartServer, authority: Authority, tmp_path: Path) -> None:
    server = start_server(**Installed(tmp_path / "tls", *authority.sign()).settings)
    # a handshake that has not begun, one that stands still, and a connection without a request
    silent = socket.create_connection(("127.0.0.1", server.port))
    halfway = socket.create_connection(("127.0.0.1", server.port))
    halfway.sendall(b"\x16\x03\x01\x02\x00\x01")
    with (
        silent,
        halfway,
        shake(server, context_for(authority)),
        NativeClient.open(server.ws_url, header=server.token(1), context=authority.context) as client,
    ):
        client.greeted()
        assert server.stop() < 5
        assert client.closed()[0] == 1012
    assert "Traceback" not in server.output()
