"""The server as an operator runs it, for the tests: ``twistd -n --pidfile= mechamap`` in its own process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jwt
import requests

from tests import leaks

JWT_SECRET = "test-jwt-secret-of-at-least-thirty-two-bytes"
LARAVEL_API_KEY = "test-laravel-api-key-of-thirty-two-bytes"
ADMIN_KEY = "test-admin-key-of-at-least-thirty-two-bytes"

#: What every test server runs with. The limits on people are off: the suite is one person on one address.
SETTINGS = {
    "NODE_ENV": "development",
    "HOST": "127.0.0.1",
    "PORT": "0",
    "JWT_SECRET": JWT_SECRET,
    "LARAVEL_API_KEY": LARAVEL_API_KEY,
    "ADMIN_KEY": ADMIN_KEY,
    "WS_MAX_HTTP_BUFFER_SIZE": "1e6",
    "MAX_CONNECTIONS_PER_USER": "0",
    "MAX_CONNECTIONS_PER_IP": "0",
    "CONNECTION_ATTEMPTS_PER_MINUTE": "0",
    "RATE_LIMIT_MAX_REQUESTS": "0",
    "CLIENT_EVENTS_PER_MINUTE": "0",
    "TYPING_EVENTS_PER_MINUTE": "0",
    "CHANNEL_PUBLICATIONS_PER_MINUTE": "0",
}
#: What the server may inherit from the environment of the tests: nothing that is a setting.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")

START_LIMIT = 20.0
STOP_LIMIT = 5.0
REQUEST_LIMIT = 10.0
CONTROL_LIMIT = 30.0
MAX_BODY = 1_000_000

_LISTENING = re.compile(rb"Listening on (https?://\S+:(\d+))")

#: Every server that has not been stopped yet; their output is shown with a failing test.
running: list[Server] = []


def inherited() -> dict[str, str]:
    """The environment of what the tests start, before any setting."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


def mechamapctl(socket: Path, *arguments: str) -> list[str]:
    """The operator's command line, for a server whose socket is ``socket``."""
    return [str(Path(sys.executable).with_name("mechamapctl")), "--socket", str(socket), *arguments]


class Server:
    """One running server. :meth:`start` makes it, :meth:`stop` ends it or, whatever happened, :meth:`end`.

    :ivar url: ``http://127.0.0.1:PORT``
    :ivar ws_url: ``ws://127.0.0.1:PORT/ws``, the native protocol; ``https`` and ``wss`` with ``SSL_ENABLED``
    :ivar folder: its working directory
    :ivar control_path: the operator's socket
    """

    def __init__(self, folder: Path, settings: Mapping[str, str | None], twistd: Sequence[str] = ()) -> None:
        # the operator's socket in the server's own folder: nothing of a test is in /tmp/mechamap-UID
        self.control_path = Path(settings.get("CONTROL_SOCKET") or folder / "control.sock")
        chosen = SETTINGS | {"CONTROL_SOCKET": str(self.control_path)} | dict(settings)
        self.settings = {name: text for name, text in chosen.items() if text is not None}
        self.folder = folder
        self._log_path = folder / "server.log"
        command = twistd or (str(Path(sys.executable).with_name("twistd")),)
        # its own working directory: no .env, database or log of the developer's gets into a test
        self._process = subprocess.Popen(
            [*command, "-n", "--pidfile=", "mechamap"],
            cwd=folder,
            env=inherited() | self.settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.pid = self._process.pid
        self._looked_at = False
        self._told = threading.Event()
        self._address: tuple[str, int] | None = None
        self._copier = threading.Thread(target=self._copy_output, daemon=True)
        self._copier.start()
        self._http = requests.Session()
        self._http.trust_env = False
        running.append(self)

    @classmethod
    def start(
        cls, folder: Path, settings: Mapping[str, str | None] | None = None, twistd: Sequence[str] = ()
    ) -> Server:
        """Start a server and wait until it says that it listens.

        :param folder: an empty directory, the server's working directory and the place of its output.
        :param settings: environment variables, over :data:`SETTINGS`; ``None`` takes one away.
        :param twistd: another ``twistd`` command than this virtualenv's.
        """
        server = cls(folder, settings or {}, twistd)
        if not server._told.wait(START_LIMIT) or server._address is None:
            output = server.output()
            server.end()
            raise AssertionError(f"no 'Listening on' line within {START_LIMIT:g} s; the server printed:\n{output}")
        return server

    def _copy_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout, self._log_path.open("wb", buffering=0) as log:
            for line in self._process.stdout:
                log.write(line)
                match = _LISTENING.search(line)
                if match and self._address is None:
                    self._address = (match[1].decode(), int(match[2]))
                    self._told.set()
        self._told.set()

    @property
    def url(self) -> str:
        assert self._address is not None
        return self._address[0]

    @property
    def port(self) -> int:
        assert self._address is not None
        return self._address[1]

    @property
    def ws_url(self) -> str:
        return f"{self.url.replace('http', 'ws', 1)}/ws"

    def trust(self, authority: Path) -> None:
        """Believe certificates that are signed by this one (PEM)."""
        self._http.verify = str(authority)

    def output(self) -> str:
        """All that the server has printed so far."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def _logs(self) -> list[Path]:
        """Every file of a log: what it has printed, its acts, and what it was told to write."""
        named = Path(self.settings.get("LOG_FILE") or self.folder / "server.log")
        return sorted({*self.folder.glob("*.log*"), *named.parent.glob(f"{named.name}*")})

    def token(
        self,
        user_id: int,
        *,
        role: str = "member",
        permissions: Sequence[str] = ("receive_notifications",),
        expires_in: float = 3600,
        **claims: Any,
    ) -> str:
        """A JWT as the site's older pages make it."""
        now = time.time()
        payload = {
            "userId": user_id,
            "role": role,
            "permissions": list(permissions),
            "iat": int(now),
            "exp": int(now + expires_in),
        }
        return jwt.encode(payload | claims, self.settings["JWT_SECRET"], algorithm="HS256")

    def post(
        self, path: str, body: Any = None, *, key: bool = True, raw: bytes | None = None, **headers: str
    ) -> requests.Response:
        """POST as the backend does.

        :param body: sent as JSON.
        :param key: send the backend's key?
        :param raw: these bytes instead of ``body``.
        :param headers: further ones, ``_`` for ``-``.
        """
        sent = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            sent["X-WebSocket-API-Key"] = self.settings["LARAVEL_API_KEY"]
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        # as PHP's json_encode writes it: slashes and everything outside ASCII escaped
        data = raw if raw is not None else json.dumps(body).replace("/", "\\/").encode()
        return self._http.post(self.url + path, data=data, headers=sent, timeout=REQUEST_LIMIT)

    def get(self, path: str, *, key: bool = False, **headers: str) -> requests.Response:
        return self.request("GET", path, key=key, **headers)

    def request(self, method: str, path: str, *, key: bool = False, **headers: str) -> requests.Response:
        """Any method, with no body."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            sent["X-WebSocket-API-Key"] = self.settings["LARAVEL_API_KEY"]
        return self._http.request(method, self.url + path, headers=sent, timeout=REQUEST_LIMIT)

    def publish(self, channel: str, event: str, data: Any) -> requests.Response:
        """One publication through ``/api/broadcast``; it must be accepted."""
        response = self.post("/api/broadcast", {"channel": channel, "event": event, "data": data})
        assert response.status_code == 200, response.text
        return response

    # the operator

    def mechamapctl(self, *arguments: str, limit: float = CONTROL_LIMIT) -> subprocess.CompletedProcess[str]:
        """Run ``mechamapctl`` against this server's own socket, whatever comes of it."""
        return subprocess.run(
            mechamapctl(self.control_path, *arguments),
            env=inherited(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
        )

    def control(self, *arguments: str, limit: float = CONTROL_LIMIT) -> dict[str, Any]:
        """The result of ``mechamapctl --json …``, which must do as it is told."""
        done = self.mechamapctl("--json", *arguments, limit=limit)
        assert done.returncode == 0, f"mechamapctl {arguments}: {done.stdout}{done.stderr}"
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def refusal(self, *arguments: str, limit: float = CONTROL_LIMIT) -> dict[str, Any]:
        """The error with which ``mechamapctl --json …`` must end."""
        done = self.mechamapctl("--json", *arguments, limit=limit)
        assert done.returncode == 1, f"mechamapctl {arguments}: {done.stdout}{done.stderr}"
        error: dict[str, Any] = json.loads(done.stdout)["error"]
        return error

    def workers(self) -> list[dict[str, Any]]:
        """The workers, as ``mechamapctl workers`` has them."""
        found: list[dict[str, Any]] = self.control("workers")["workers"]
        return found

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    # the end

    def stop(self) -> float:
        """SIGTERM, as systemd sends it: the server must be gone within 5 s, and not by a fault.

        :returns: the seconds it took.
        """
        asked = time.monotonic()
        if self._process.poll() is not None:
            raise AssertionError(f"the server had ended by itself ({self._process.returncode}):\n{self.output()}")
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there {STOP_LIMIT:g} s after SIGTERM:\n{self.output()}") from None
        finally:
            self.end()
        took = time.monotonic() - asked
        # twistd ends by the signal it was ended by, after an orderly shutdown
        assert code in (0, -signal.SIGTERM), f"exit status {code}:\n{self.output()}"
        return took

    def end(self) -> None:
        """Make sure that the process is gone; safe at any time."""
        if self._process.poll() is None and self.settings.get("CLUSTER_ENABLED") == "true":
            # a master that is killed would leave its workers to let their clients go at leisure
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_LIMIT)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._copier.join(REQUEST_LIMIT)
        if not self._looked_at:
            self._looked_at = True
            leaks.look(self.pid, self.settings, self._logs())
        self._http.close()
        if self in running:
            running.remove(self)
