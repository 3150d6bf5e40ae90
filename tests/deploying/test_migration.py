"""``etc/nginx-migration.conf``: from the old service to this one and back, with the site's clients connected."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from tests.clients.node import NodeClient
from tests.clients.waiting import until
from tests.conftest import ConnectNode
from tests.deploying.document import BLOCKS, HOST, Shell
from tests.deploying.filled import SECRETS
from tests.deploying.manager import ETC
from tests.deploying.old import OldService
from tests.nginx import Certificate, Front, free_ports
from tests.server import Server, inherited

BIN: Final = Path(sys.executable).parent
NEWS: Final = "public.news"
NOBODY: Final = "    # 10%   mechamap;\n    *       mechamap_old;\n"
TESTER: Final = "    # 203.0.113.20   mechamap;\n"


def on_disk(folder: Path) -> Shell:
    """What the document does to files of nginx, in a folder."""
    return Shell({"/opt/mechamap/share/mechamap-rt": str(ETC), "/etc/nginx/conf.d": str(folder)}, inherited())


class Migration(Front):
    """nginx before the old service and this server, with the files that the document makes."""

    before = "127.0.0.1:3100"

    def __init__(self, folder: Path, certificate: Certificate, server: Server, old: int) -> None:
        self._site_file = folder / "conf.d" / "mechamap.conf"
        self._server, self._old = server, old
        self.fan_out, _ = free_ports()
        made = folder / "made"
        made.mkdir()
        on_disk(made).run("both", without=HOST)
        self.source = made / "mechamap.conf"
        self.text = (made / "mechamap-migration.conf").read_text("utf-8")
        super().__init__(folder, certificate, server)

    def _site(self, upstream: int, inside: str) -> str:
        text = self.text
        for port, here in ((3000, self._old), (3101, self.fan_out)):
            assert text.count(f" 127.0.0.1:{port};") == 1
            text = text.replace(f" 127.0.0.1:{port};", f" 127.0.0.1:{here};")
        return super()._site(upstream, inside) + text

    def change(self, *changes: tuple[str, str]) -> None:
        """Edit the file, ``nginx -t``, ``systemctl reload nginx``."""
        for old, new in changes:
            assert self.text.count(old) == 1
            self.text = self.text.replace(old, new)
        self._site_file.write_text(self._site(self._server.port, "127.0.0.0/8"))
        subprocess.run([*self.command, "-t"], check=True, capture_output=True)
        before = self.errors().count("gracefully shutting down")
        subprocess.run([*self.command, "-s", "reload"], check=True, capture_output=True)
        # from now on it is the new worker process that takes connections
        until(lambda: self.errors().count("gracefully shutting down") > before, self.errors)

    def publish(self, number: int) -> dict[str, Any]:
        """As the site does meanwhile; what it is answered."""
        body = {"channels": [NEWS], "event": "news", "data": {"number": number}}
        answer = requests.post(f"http://127.0.0.1:{self.fan_out}/api/laravel-broadcast", json=body, timeout=10)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result


class Stage:
    """Everything there is, and the site's pages that are open."""

    def __init__(self, folder: Path, connect: ConnectNode, stack: ExitStack) -> None:
        (folder / "server").mkdir()
        (folder / "nginx").mkdir()
        self._folder, self._connect, self._stack = folder, connect, stack
        self._port, _ = free_ports()
        self.old = self.start_old()
        self.server = self.start_new("0")
        self.front = Migration(folder / "nginx", Certificate(folder), self.server, self._port)
        stack.callback(self.front.end)
        self._numbers = iter(range(1, 1000))

    def start_old(self) -> OldService:
        service = OldService(self._port)
        self._stack.callback(service.stop)
        return service

    def start_new(self, port: str) -> Server:
        server = Server.start(self._folder / "server", {"HOST_ID": "rt1", "TRUST_PROXY": "1", "PORT": port})
        self._stack.callback(server.end)
        return server

    def page(self, *transports: str, **options: Any) -> NodeClient:
        """A page of the site that has opened, and is subscribed."""
        number, ca = next(self._numbers), self.front.certificate.pem
        given = {"transports": transports, "ca": ca, "forceNew": True} | options
        page = self._connect(self.front.url, self.server.token(number), **given)
        page.message("connected")
        return self.subscribed(page)

    def subscribed(self, page: NodeClient) -> NodeClient:
        assert page.ask("subscribe", {"channel": NEWS})["status"] == "success"
        return page

    def pages(self) -> list[NodeClient]:
        """One of each transport."""
        return [self.page("websocket"), self.page("polling", "websocket"), self.page("polling", upgrade=False)]

    def heard(self, *pages: NodeClient) -> None:
        """What the site publishes now reaches each of them, once."""
        number = next(self._numbers)
        self.front.publish(number)
        for page in pages:
            page.message("news", lambda data: data["number"] == number)
        last = next(self._numbers)
        self.front.publish(last)
        for page in pages:
            page.message("news", lambda data: data["number"] == last)
            assert [data["number"] for data in page.messages("news")].count(number) == 1

    def moved(self, pages: list[NodeClient], begin: list[int]) -> None:
        """They have come back by themselves, and subscribe again as pages do."""
        for page, mark in zip(pages, begin, strict=True):
            page.message("connected", after=mark)
            self.subscribed(page)


@pytest.fixture
def stage(tmp_path: Path, connect_node: ConnectNode) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(tmp_path, connect_node, stack)


def new(page: NodeClient) -> bool:
    """Is it at the new server?"""
    greeting: dict[str, Any] = page.messages("connected")[-1]
    assert greeting["socketId"].startswith("rt1") != ("old" in greeting)
    return "old" not in greeting


def sides(pages: list[NodeClient]) -> list[bool]:
    return [new(page) for page in pages]


def test_there_and_back(stage: Stage) -> None:
    front = stage.front

    # nobody is sent to the new server
    first = stage.pages()
    assert sides(first) == [False] * 3
    stage.heard(*first)

    # only who tries it: this address; others as before
    front.change((TESTER, "    127.0.0.1   mechamap;\n"))
    testers = stage.pages()
    assert sides(testers) == [True] * 3
    other = stage.page("websocket", localAddress="127.0.0.2")
    assert not new(other)
    stage.heard(*first, *testers, other)

    # everybody who comes from now on; whoever is there stays
    front.change((NOBODY, "    *       mechamap;\n"))
    second = stage.page("websocket", localAddress="127.0.0.2")
    assert new(second)
    stage.heard(*first, *testers, other, second)
    assert not [seen for page in (*first, *testers, other) for seen in page.seen if seen["event"] == "disconnect"]

    # the old service stops: its pages come to the new one by themselves
    front.change(
        ("        mirror /mirrored;\n", ""),
        ("        proxy_pass http://mechamap_old;", "        proxy_pass http://mechamap;"),
    )
    left = [*first, other]
    marks = [page.mark for page in left]
    stage.old.stop()
    stage.moved(left, marks)
    everybody = [*left, *testers, second]
    assert sides(everybody) == [True] * 8
    stage.heard(*everybody)

    # and back again: the old one is started, the new one stopped
    stage.old = stage.start_old()
    front.change(
        ("    *       mechamap;\n", NOBODY),
        ("    127.0.0.1   mechamap;\n", ""),
        ("        proxy_pass http://mechamap;", "        proxy_pass http://mechamap_old;"),
    )
    marks = [page.mark for page in everybody]
    stage.server.stop()
    stage.moved(everybody, marks)
    assert sides(everybody) == [False] * 8
    stage.heard(*everybody)


def test_a_share_of_them(stage: Stage) -> None:
    """Every browser on one side, the same one each time; a session never changes it."""
    stage.front.change((NOBODY, "    50%     mechamap;\n    *       mechamap_old;\n"))
    path = "/socket.io/?EIO=4&transport=polling"

    def begun(agent: str) -> str:
        found = re.search(rb'"sid":"([^"]+)"', stage.front.ask("GET", path, User_Agent=agent).body)
        assert found is not None
        return found[1].decode()

    agents = [f"Browser {number}" for number in range(40)]
    opened = {agent: begun(agent) for agent in agents}
    share = sum(sid.startswith("rt1") for sid in opened.values())
    assert 8 <= share <= 32
    for agent, sid in opened.items():
        assert begun(agent).startswith("rt1") == sid.startswith("rt1")
        # whatever the browser says of itself by now
        assert stage.front.ask("POST", f"{path}&sid={sid}", b"3", User_Agent="Another").status == 200


def test_the_site_is_served_when_one_of_them_is_down(stage: Stage) -> None:
    assert stage.front.publish(1) == {"success": True, "old": True}
    stage.server.stop()
    assert stage.front.publish(2) == {"success": True, "old": True}
    stage.front.change(
        ("        proxy_pass http://mechamap_old;", "        proxy_pass http://mechamap;"),
        ("        proxy_pass http://mechamap$request_uri;", "        proxy_pass http://mechamap_old$request_uri;"),
    )
    stage.server = stage.start_new(str(stage.server.port))
    assert stage.front.publish(3)["event"] == "news"
    stage.old.stop()
    assert stage.front.publish(4)["event"] == "news"


def test_looking_at_both(stage: Stage) -> None:
    """The commands with which the document looks at them while nobody has been sent to the new one."""
    places = {
        "127.0.0.1:3100": f"127.0.0.1:{stage.server.port}",
        "127.0.0.1:3101": f"127.0.0.1:{stage.front.fan_out}",
        "mechamapctl --env-file /etc/mechamap/mechamap.env": str(BIN / "mechamapctl"),
    }
    shell = Shell(places, inherited() | {"MECHAMAPCTL_SOCKET": str(stage.server.control_path)})
    assert re.search(r"Failed requests: +0\n", shell.run("beside"))
    shell.run("publish-to-both")


def test_the_old_services_own_file(tmp_path: Path) -> None:
    """Its settings, with the lines that the document adds, are good; and the new server is not where the old one is."""
    old = tmp_path / "old.env"
    made_up = [f"{name}={secrets.token_urlsafe(48)}" for name in SECRETS]
    lines = ["NODE_ENV=production", "PORT=3000", "HOST=0.0.0.0", "CORS_ORIGIN=https://www.example.org", *made_up]
    old.write_text("\n".join(lines) + "\n" + BLOCKS["old-settings"].text)
    places = {
        "/var/www/realtime/.env": str(old),
        "/etc/mechamap": str(tmp_path / "etc"),
        " -g mechamap": "",
        "mechamapctl ": f"{BIN / 'mechamapctl'} ",
    }
    printed = Shell(places, inherited()).run("carry-over")
    for name, value in {"PORT": "3100", "HOST": "127.0.0.1", "HOST_ID": "rt1", "WS_PING_INTERVAL": "15000"}.items():
        assert re.search(rf"^{name} +{re.escape(value)} +file$", printed, re.MULTILINE), name


def test_tidying_up(tmp_path: Path) -> None:
    shell = on_disk(tmp_path)
    shell.run("both", without=HOST)
    shell.run("tidy", without=HOST)
    shipped = (ETC / "nginx.conf").read_text("utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["mechamap.conf"]
    tidied = (tmp_path / "mechamap.conf").read_text("utf-8")
    assert tidied == shipped.replace("    server 127.0.0.1:3000;", "    server 127.0.0.1:3100;")
