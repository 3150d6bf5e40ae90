"""The block for several hosts at the end of ``etc/nginx.conf``: a session's requests find the host that has it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ConnectNode, StartServer
from tests.nginx import SHIPPED, Certificate, Front, eventually
from tests.server import Server

#: ``HOST_ID`` and the address that the shipped block gives the host.
HOSTS = {"aaa": "10.0.0.11:3000", "bbb": "10.0.0.12:3000"}
POLLING = "/socket.io/?EIO=4&transport=polling"
SESSIONS = 8


def block() -> str:
    """The block, without its number signs."""
    text = SHIPPED.read_text().partition("# -- several hosts ---")[2]
    return "".join(re.findall(r"^#   (.*\n)", text, re.MULTILINE))


class Balancer(Front):
    """nginx before several servers."""

    def __init__(self, folder: Path, certificate: Certificate, servers: dict[str, Server]) -> None:
        self._servers = servers
        super().__init__(folder, certificate, next(iter(servers.values())))

    def _site(self, upstream: int, inside: str) -> str:
        text = super()._site(upstream, inside)
        for replaced in (r"^upstream mechamap \{.*?^\}\n", r"^map \$arg_sid .*?^\}\n"):
            text, count = re.subn(replaced, "", text, flags=re.MULTILINE | re.DOTALL)
            assert count == 1
        hosts = block()
        for host, server in self._servers.items():
            assert hosts.count(HOSTS[host]) == 2
            hosts = hosts.replace(HOSTS[host], f"127.0.0.1:{server.port}")
        return hosts + text


@pytest.fixture
def hosts(start_server: StartServer) -> dict[str, Server]:
    return {host: start_server(HOST_ID=host, TRUST_PROXY="1") for host in HOSTS}


@pytest.fixture
def balancer(tmp_path_factory: pytest.TempPathFactory, hosts: dict[str, Server]) -> Iterator[Balancer]:
    certificate = Certificate(tmp_path_factory.mktemp("certificate"))
    one = Balancer(tmp_path_factory.mktemp("nginx"), certificate, hosts)
    try:
        yield one
    finally:
        one.end()


def test_polls_find_the_host_of_their_session(balancer: Balancer, hosts: dict[str, Server]) -> None:
    token = hosts["aaa"].token(5)
    opened = [json.loads(balancer.ask("GET", POLLING).body[1:])["sid"] for _ in range(SESSIONS)]
    assert {sid[:3] for sid in opened} == set(HOSTS), "both hosts get sessions"
    # every request is on a connection of its own: nothing but the sid leads it
    for sid in opened:
        assert balancer.ask("POST", f"{POLLING}&sid={sid}", f'40{{"token":"{token}"}}'.encode()).status == 200
    for sid in opened:
        got = b""
        while b'"connected"' not in got:
            answer = balancer.ask("GET", f"{POLLING}&sid={sid}")
            assert answer.status == 200, answer.body
            got += answer.body
        assert f'"socketId":"{sid[:3]}'.encode() in got


def test_a_session_of_no_host_is_told_so(balancer: Balancer) -> None:
    answer = balancer.ask("GET", f"{POLLING}&sid=zzz001{'x' * 14}")
    assert (answer.status, answer.json()["message"]) == (400, "Session ID unknown")


@pytest.mark.parametrize(
    ("transports", "settles"),
    [(["polling"], "polling"), (["polling", "websocket"], "websocket")],
    ids=["polling", "upgrade"],
)
def test_clients_stay_on_their_host_and_find_another(
    balancer: Balancer, hosts: dict[str, Server], connect_node: ConnectNode, transports: list[str], settles: str
) -> None:
    clients = [
        connect_node(
            balancer.url,
            hosts["aaa"].token(number + 1),
            transports=transports,
            ca=balancer.certificate.pem,
            forceNew=True,
            reconnectionDelay=100,
            reconnectionDelayMax=200,
        ).connected()
        for number in range(SESSIONS)
    ]
    for client in clients:
        assert client.ask("subscribe", {"channel": "public.news"})["status"] == "success"
        eventually(lambda client=client: client.state["transport"] == settles, settles)
        assert not [one for one in client.seen if one["event"] == "disconnect"]
    subscribers = {host: server.publish("public.news", "news", {}).json() for host, server in hosts.items()}
    counts = {host: answer["subscriberCount"] for host, answer in subscribers.items()}
    assert sum(counts.values()) == SESSIONS
    assert all(counts.values()), counts
    hosts["aaa"].stop()
    rest = hosts["bbb"]
    eventually(
        lambda: rest.get("/api/status").json()["connections"]["total"] == SESSIONS, "everybody on the other host"
    )
