"""TLS in a cluster: WebSockets of other workers' sessions over tunnels, and certificates that change under clients."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from tests.certificates import Authority, Installed, ec_key, pem
from tests.clients.natives import Natives
from tests.clients.swarm import Account, Swarm
from tests.clients.waiting import until, wait_for_subscribers
from tests.conftest import StartServer
from tests.server import Server

CHANNEL = "public.tls"
SESSIONS = 40
HALF = 50
LIMIT = 20.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Secured:
    """A server with TLS and its certificate."""

    def __init__(self, folder: Path, authority: Authority, start: StartServer, **settings: str) -> None:
        self.authority = authority
        self.files = Installed(folder / "tls", *authority.sign("first"))
        self.server: Server = start(DEMO_ENABLED="false", **self.files.settings, **settings)
        self.server.trust(authority.path)

    def connect(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.server.port), LIMIT)
        return (context or self.authority.context).wrap_socket(plain, server_hostname="localhost")

    def seen(self) -> str:
        """The certificate that a new connection gets."""
        with self.connect() as connection:
            certificate = connection.getpeercert()
        assert certificate is not None
        names = dict(pair[0] for pair in certificate["subject"])  # type: ignore[misc,union-attr]
        return str(names["commonName"])

    def renewed(self, name: str, connections: int = 12) -> None:
        """Wait until every worker shows this certificate."""
        until(
            lambda: all(self.seen() == name for _ in range(connections)),
            lambda: f"{self.seen()}, {self.server.control('status')['certificate']}",
            LIMIT,
        )

    def alerts(self) -> dict[str, str]:
        return {alert["name"]: alert["message"] for alert in self.server.control("status")["alerts"]}

    def workers(self) -> list[tuple[int, int]]:
        return [(each["worker"], each["pid"]) for each in self.server.control("status")["workers"]]

    def streams(self) -> int:
        """Unix sockets of the workers: their streams to each other, and tunnels. Clients' idle connections are none."""
        rows = Path("/proc/net/unix").read_text().splitlines()[1:]
        inodes = {f"socket:[{row.split()[6]}]" for row in rows}
        found = 0
        for _, pid in self.workers():
            for entry in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    found += os.readlink(f"/proc/{pid}/fd/{entry}") in inodes
        return found


@pytest.fixture
def clustered(tmp_path: Path, authority: Authority, start_cluster: StartServer) -> Secured:
    return Secured(tmp_path, authority, start_cluster, CLUSTER_DRAIN_TIME="1500")


@pytest.fixture
def single(tmp_path: Path, authority: Authority, start_server: StartServer) -> Secured:
    return Secured(tmp_path, authority, start_server)


def tunnels(secured: Secured) -> int:
    return sum(each["tunnels"] for each in secured.server.workers())


# -- tunnels ---------------------------------------------------------------------------------------


def away(account: Account) -> bool:
    stay = account.stays[-1]
    return stay.left is not None or stay.subscribed is None


def test_clients_move_to_a_websocket_and_are_let_go(clustered: Secured, swarm: Swarm) -> None:
    """Forty sessions upgrade, most over tunnels, while the backend publishes; then a worker of three is drained."""
    server = clustered.server
    before = clustered.streams()
    clients = {f"{user}": (server.token(user), CHANNEL) for user in range(1, SESSIONS + 1)}
    swarm.add(server.url, clients, mode="default", keep_alive=True, ca=clustered.authority.pem)
    published, counted = 0, 0
    deadline = time.monotonic() + LIMIT
    while (swarm.subscribed(), swarm.upgraded()) != (SESSIONS, SESSIONS) or published < 30:
        assert time.monotonic() < deadline, (swarm.subscribed(), swarm.upgraded())
        counted += server.publish(CHANNEL, "tick", {"n": published}).json()["subscriberCount"]
        published += 1
    until(lambda: swarm.received() >= counted, lambda: f"{swarm.received()} of {counted}")
    assert swarm.received() == counted
    for account in swarm.accounts():
        assert (len(account.stays), account.refused, account.upgraded) == (1, 0, 1), account
        assert account.seen == [*range(account.seen[0], published)], f"in order, and all of them: {account}"
    rows = server.control("connections", "--limit", "100")["connections"]
    assert {row["transport"] for row in rows} == {"websocket"}
    assert {row["address"] for row in rows} == {"127.0.0.1"}, "the client's own, at the other end of the tunnel"
    # a tunnel is told of with the next sign of life
    until(lambda: tunnels(clustered) > 0, lambda: "nobody came over a tunnel")
    number, _ = clustered.workers()[0]
    server.control("drain", f"{number}", limit=LIMIT)
    until(
        lambda: swarm.subscribed() == SESSIONS,
        lambda: f"not back: {[each for each in swarm.accounts() if away(each)]}",
        LIMIT,
    )
    until(lambda: len(server.workers()) == 2, lambda: f"{server.workers()}")
    left = [account for account in swarm.accounts() if len(account.stays) > 1]
    assert len(left) > 0
    for account in left:
        assert (len(account.stays), account.refused) == (2, 0), account
        assert account.stays[0].how.startswith("transport close"), account
    counted = server.publish(CHANNEL, "tick", {"n": published}).json()["subscriberCount"]
    assert counted == SESSIONS
    until(lambda: sum(a.seen[-1] == published for a in swarm.accounts()) == SESSIONS, lambda: f"{swarm.received()}")
    swarm.clear()
    wait_for_subscribers(server, CHANNEL, 0)
    until(lambda: tunnels(clustered) == 0, lambda: f"{tunnels(clustered)} tunnels are left")
    until(lambda: clustered.streams() < before, lambda: f"{clustered.streams()}, {before} of three workers")
    assert server.stop() < 5
    assert "Traceback" not in server.output()


class Frames:
    """A WebSocket, byte by byte, on a connection of TLS that has been used before."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self.connection = connection
        self.buffer = b""

    def answer(self, head: str) -> bytes:
        """The head, and the body where its length is told, of the answer to a request."""
        self.connection.sendall(head.encode())
        while b"\r\n\r\n" not in self.buffer:
            self.receive()
        answer, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        if b"Content-Length: " not in answer:
            return answer
        length = int(answer.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        while len(self.buffer) < length:
            self.receive()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return answer + b"\r\n\r\n" + body

    def receive(self) -> None:
        data = self.connection.recv(65536)
        assert data, f"the server has ended the connection: {self.buffer!r}"
        self.buffer += data

    def send(self, text: str) -> None:
        payload = text.encode()
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        self.connection.sendall(b"\x81" + size + b"\0\0\0\0" + payload)

    def expect(self, text: bytes) -> None:
        while text not in self.buffer:
            self.receive()


def test_a_kept_alive_connection_becomes_a_tunnel(clustered: Secured) -> None:
    """As proxies do it: requests first, then the handshake of a session that another worker has."""
    server = clustered.server
    opened = server.get("/socket.io/?EIO=4&transport=polling").text
    sid = json.loads(opened[1:])["sid"]
    path = f"/socket.io/?EIO=4&transport=polling&sid={sid}"
    assert server.post(path, raw=b'40{"token":"%b"}' % server.token(1).encode(), key=False).text == "ok"
    for _ in range(100):
        frames = Frames(clustered.connect())
        health = frames.answer("GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if json.loads(health.partition(b"\r\n\r\n")[2])["worker"] != sid[:6]:
            break
        frames.connection.close()
    else:
        pytest.fail("every connection went to the same worker")
    with frames.connection:
        answer = frames.answer(
            f"GET /socket.io/?EIO=4&transport=websocket&sid={sid} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        frames.send("2probe")
        frames.expect(b"3probe")
        frames.send("5")
        frames.send('42["subscribe",{"channel":"' + CHANNEL + '"}]')
        frames.expect(b'"subscribed"')
        # more than fits into the tunnel, the kernel and the client's buffer: it waits with the session's own worker
        for number in range(60):
            server.publish(CHANNEL, "large", {"number": number, "text": "x" * 15_000})
        frames.expect(b'"number": 59')
        numbers = [int(part.split(b",")[0]) for part in frames.buffer.split(b'"number": ')[1:]]
        assert numbers == [*range(60)]
        assert tunnels_of_others(clustered, sid)
    until(lambda: tunnels(clustered) == 0, lambda: "the tunnel is left")
    wait_for_subscribers(server, CHANNEL, 0)


def tunnels_of_others(secured: Secured, sid: str) -> bool:
    """Is there a tunnel, in another worker than the session's?"""
    until(lambda: tunnels(secured) == 1, lambda: f"{secured.server.workers()}")
    return [each["tunnels"] for each in secured.server.workers() if each["node"] == sid[:6]] == [0]


def test_tunnels_end_with_either_process(clustered: Secured, swarm: Swarm) -> None:
    """A worker that is killed takes its tunnels and the ends of others' with it; everybody comes back."""
    server = clustered.server
    clients = {f"{user}": (server.token(user), CHANNEL) for user in range(1, 31)}
    swarm.add(server.url, clients, mode="default", ca=clustered.authority.pem)
    until(lambda: (swarm.subscribed(), swarm.upgraded()) == (30, 30), lambda: f"{swarm.upgraded()}", LIMIT)
    os.kill(clustered.workers()[0][1], signal.SIGKILL)
    until(lambda: swarm.subscribed() < 30, lambda: "nobody noticed")
    until(lambda: swarm.subscribed() == 30 and len(server.workers()) == 3, lambda: f"{swarm.subscribed()}", LIMIT)
    assert server.publish(CHANNEL, "tick", {"n": 1}).json()["subscriberCount"] == 30
    assert server.stop() < 5


# -- the certificate -------------------------------------------------------------------------------


class Audience:
    """Fifty clients of Socket.IO and fifty of the native protocol, who shall all stay."""

    def __init__(self, secured: Secured, swarm: Swarm, natives: Natives) -> None:
        self._secured, self._swarm, self._natives = secured, swarm, natives
        self._published = 0
        until(lambda: self.subscribed() == 2 * HALF, lambda: f"{self.subscribed()} came", LIMIT)

    def subscribed(self) -> int:
        return self._swarm.subscribed() + self._natives.subscribed()

    def hears(self) -> None:
        """Each gets a publication, and nobody has been away."""
        answer = self._secured.server.publish(CHANNEL, "tick", {"n": self._published})
        assert answer.json()["subscriberCount"] == 2 * HALF
        self._published += 1
        everybody = 2 * HALF * self._published
        until(lambda: self._swarm.received() + self._natives.received() == everybody, lambda: f"not {everybody}")
        for account in [*self._swarm.accounts(), *self._natives.accounts()]:
            assert (len(account.stays), account.refused) == (1, 0), account
            assert account.seen == [*range(self._published)], account


@pytest.fixture
def audience(swarm: Swarm) -> Iterator[Callable[[Secured], Audience]]:
    with ExitStack() as stack:

        def gather(secured: Secured) -> Audience:
            token = secured.server.token
            clients = {f"io-{user}": (token(user), CHANNEL) for user in range(1, HALF + 1)}
            swarm.add(secured.server.url, clients, mode="default", ca=secured.authority.pem)
            others = {f"native-{user}": (token(user), CHANNEL) for user in range(101, 101 + HALF)}
            natives = stack.enter_context(Natives(secured.server.port, others, secured.authority.context))
            return Audience(secured, swarm, natives)

        yield gather


def renew_under(secured: Secured, audience: Audience) -> None:
    """Good ones and bad ones, by looking and by SIGHUP; nobody moves."""
    before, authority, server = secured.workers(), secured.authority, secured.server
    audience.hears()
    certificate, key = authority.sign("second")
    secured.files.renew(certificate=certificate)
    time.sleep(1)
    secured.files.renew(key=key)
    secured.renewed("second")
    audience.hears()
    assert "refused" not in server.output(), "a moment's mismatch is nobody's business"
    # one whose key is another's: refused, told, and taken when it is mended
    certificate, key = authority.sign("third")
    secured.files.renew(certificate, pem(ec_key()))
    server.signal(signal.SIGHUP)
    until(lambda: "certificate_refused" in secured.alerts(), lambda: f"{secured.alerts()}")
    assert "SSL_KEY_PATH" in secured.alerts()["certificate_refused"]
    assert secured.seen() == "second"
    secured.files.renew(key=key)
    server.signal(signal.SIGHUP)
    secured.renewed("third")
    until(lambda: secured.alerts() == {}, lambda: f"{secured.alerts()}")
    # one that has expired, looked at on SIGHUP
    secured.files.renew(*authority.sign("old", since=-timedelta(9), until=-timedelta(1)))
    server.signal(signal.SIGHUP)
    until(lambda: "has expired" in secured.alerts().get("certificate_refused", ""), lambda: f"{secured.alerts()}")
    secured.files.renew(*authority.sign("fourth", until=timedelta(3)))
    server.signal(signal.SIGHUP)
    secured.renewed("fourth")
    until(lambda: list(secured.alerts()) == ["certificate_expiry"], lambda: f"{secured.alerts()}")
    audience.hears()
    assert secured.workers() == before
    assert server.control("status")["reloads"] == 0


def test_renewal_in_a_single_process(single: Secured, audience: Callable[[Secured], Audience]) -> None:
    renew_under(single, audience(single))
    assert single.server.stop() < 5
    assert "Traceback" not in single.server.output()


def test_renewal_in_a_cluster(clustered: Secured, audience: Callable[[Secured], Audience]) -> None:
    renew_under(clustered, audience(clustered))
    server, before = clustered.server, clustered.workers()
    # an operator's reload replaces the workers, whatever has changed
    server.control("reload", limit=60)
    assert not {number for number, _ in clustered.workers()} & {number for number, _ in before}
    assert clustered.seen() == "fourth"
    assert server.stop() < 5
    assert "Traceback" not in server.output()


def test_a_worker_is_replaced_while_the_files_are_bad(clustered: Secured) -> None:
    """What is good is the master's: nobody needs the files to start another worker, by whatever it ended."""
    clustered.files.certificate.unlink()
    clustered.files.key.unlink()
    number, pid = clustered.workers()[0]
    os.kill(pid, signal.SIGKILL)
    until(lambda: number not in dict(clustered.workers()), lambda: f"{clustered.workers()}")
    until(
        lambda: [each["state"] for each in clustered.server.workers()] == ["ready"] * 3,
        lambda: f"{clustered.server.workers()}",
        LIMIT,
    )
    clustered.renewed("first")
    assert clustered.server.refusal("reload")["code"] == "BAD_SETTINGS"
    until(lambda: "certificate_refused" in clustered.alerts(), lambda: f"{clustered.alerts()}")
