"""``etc/nginx.conf`` as it ships, in a real nginx with TLS; only ports, paths and the upstream are replaced."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from tests.clients.native import LIMIT, SUBPROTOCOL, NativeClient
from tests.conftest import required
from tests.server import Server

SHIPPED = Path(__file__).parents[1] / "etc" / "nginx.conf"
START_LIMIT = 5.0
FRAME = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
    gzip on;
    include {folder}/conf.d/*.conf;
}}
"""


class Certificate:
    """A self-signed certificate of this host.

    :param names: further host names that it is for.
    """

    def __init__(self, folder: Path, *names: str) -> None:
        self.path = folder / "certificate.pem"
        self.key = folder / "key.pem"
        command = [required("openssl", "openssl"), "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        others = "".join(f",DNS:{name}" for name in names)
        command += ["-addext", f"subjectAltName=DNS:localhost,IP:127.0.0.1{others}"]
        subprocess.run([*command, "-keyout", self.key, "-out", self.path], check=True, capture_output=True)
        self.pem = self.path.read_text()
        self.context = ssl.create_default_context(cadata=self.pem)


class Answer:
    """What came back for one request."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self) -> Any:
        return json.loads(self.body)


class Front:
    """A running nginx.

    :param inside: the addresses that the configuration shall take for this host's own.
    :cvar source: the site file that it runs with.
    :cvar before: where that has the server.
    """

    source = SHIPPED
    before = "127.0.0.1:3000"

    def __init__(self, folder: Path, certificate: Certificate, upstream: Server, inside: str = "127.0.0.0/8") -> None:
        self.certificate = certificate
        self.plain_port, self.port = free_ports()
        self.url = f"https://127.0.0.1:{self.port}"
        self.access_log = folder / "access.log"
        self._error_log = folder / "error.log"
        (folder / "conf.d").mkdir()
        (folder / "conf.d" / "mechamap.conf").write_text(self._site(upstream.port, inside))
        # workers that are not root could not enter pytest's own folders
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(FRAME.format(folder=folder, user=user))
        command = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or required("nginx", "nginx")
        self.command = [command, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(self._error_log)]
        self._process = subprocess.Popen(self.command, stderr=subprocess.DEVNULL)
        self._wait()

    def _site(self, upstream: int, inside: str) -> str:
        text = self.source.read_text()
        folder = "/etc/letsencrypt/live/realtime.example.org/"
        replaced = {
            f"server {self.before};": f"server 127.0.0.1:{upstream};",
            "listen 80;": f"listen {self.plain_port};",
            "listen [::]:80;": f"listen [::]:{self.plain_port};",
            "listen 443 ssl;": f"listen {self.port} ssl;",
            "listen [::]:443 ssl;": f"listen [::]:{self.port} ssl;",
            f"{folder}fullchain.pem": str(self.certificate.path),
            f"{folder}privkey.pem": str(self.certificate.key),
            "/var/log/nginx/mechamap.access.log": str(self.access_log),
            "allow 127.0.0.0/8;": f"allow {inside};",
        }
        for old, new in replaced.items():
            assert old in text, f"etc/nginx.conf has no {old!r}"
            if "[::]" in old and not has_ipv6():
                new = ""
            text = text.replace(old, new)
        return text

    def _wait(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.end()
                    raise AssertionError(f"nginx does not start:\n{self.errors()}") from None
                time.sleep(0.02)

    def errors(self) -> str:
        return self._error_log.read_text() if self._error_log.exists() else ""

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(START_LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    # clients

    def ask(self, method: str, path: str, body: Any = None, *, source: str = "127.0.0.1", **headers: str) -> Answer:
        """One request over TLS on a connection of its own, from any address of the loopback network."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=LIMIT, source_address=(source, 0), context=self.certificate.context
        )
        return asked(connection, method, path, body, headers)

    def native(self, token: str, source: str = "127.0.0.1", **headers: str) -> NativeClient:
        """A client of the native protocol, connected."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        opening = connect(
            f"wss://127.0.0.1:{self.port}/ws",
            ssl=self.certificate.context,
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            additional_headers=given | {"Authorization": f"Bearer {token}"},
            source_address=(source, 0),
            proxy=None,
            open_timeout=LIMIT,
            close_timeout=1,
            ping_interval=None,
            max_size=None,
        )
        return NativeClient(opening.__enter__())


def asked(connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body
    if body is not None and not isinstance(body, bytes):
        data = json.dumps(body).encode()
        sent["Content-Type"] = "application/json"
    try:
        connection.request(method, path, data, sent)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on, and that no outgoing connection gets by chance (they begin at 32768)."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("", port))
            found.append(port)
        if len(found) == 2:
            return found[0], found[1]
    raise AssertionError("no free ports")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::", 0))
    except OSError:
        return False
    return True


def eventually(check: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not check():
        assert time.monotonic() < deadline, f"{what} did not come within {LIMIT:g} s"
        time.sleep(0.02)
