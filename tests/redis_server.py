"""Real Redis servers for the tests: each in its own process and folder, on a free port of 127.0.0.1."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

START_LIMIT = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Certificates:
    """An authority made by openssl, a server certificate for 127.0.0.1 and localhost, and a client's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.ca = str(folder / "ca.pem")
        self._openssl("req", "-x509", *self._new_key("ca"), "-out", self.ca, "-days", "2", "-subj", "/CN=test-ca")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=START_LIMIT)

    def _new_key(self, name: str) -> tuple[str, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        return (*curve, "-keyout", str(self.folder / f"{name}.key"))

    def issue(self, name: str, subject: str = "DNS:localhost,IP:127.0.0.1") -> tuple[str, str]:
        """Paths of a new certificate for ``subject`` and of its key."""
        folder, certificate = self.folder, str(self.folder / f"{name}.pem")
        extensions = folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={subject}\n")
        request = str(folder / f"{name}.csr")
        self._openssl("req", "-new", *self._new_key(name), "-out", request, "-subj", f"/CN={name}")
        authority = ("-CA", self.ca, "-CAkey", str(folder / "ca.key"), "-CAcreateserial")
        self._openssl(
            "x509", "-req", "-in", request, *authority, "-out", certificate, "-days", "2", "-extfile", str(extensions)
        )
        return certificate, str(folder / f"{name}.key")


class RedisServer:
    """One ``redis-server``; nothing of it is kept on disk.

    :param options: as on its command line, without the dashes: ``("requirepass", "x")``.
    :param sentinel_of: the port of the master that it watches; it is then a sentinel with a quorum of 1.
    :param tls: certificate, key and authority; it then speaks nothing but TLS.
    """

    def __init__(
        self,
        *options: tuple[str, ...],
        port: int = 0,
        sentinel_of: int = 0,
        tls: tuple[str, str, str] | None = None,
        verify_clients: bool = False,
    ) -> None:
        command = shutil.which("redis-server")
        if command is None:
            pytest.fail("redis-server is missing; on Debian: apt-get install redis-server", pytrace=False)
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._tls = tls
        lines = ["bind 127.0.0.1", f"dir {self.folder}", "daemonize no"]
        if tls is None:
            lines.append(f"port {self.port}")
        else:
            certificate, key, authority = tls
            lines += ["port 0", f"tls-port {self.port}", f"tls-cert-file {certificate}", f"tls-key-file {key}"]
            lines += [f"tls-ca-cert-file {authority}", f"tls-auth-clients {'yes' if verify_clients else 'no'}"]
        if sentinel_of:
            lines.append(f"sentinel monitor mymaster 127.0.0.1 {sentinel_of} 1")
            lines += ["sentinel down-after-milliseconds mymaster 500", "sentinel failover-timeout mymaster 2000"]
        else:
            lines += ['save ""', "appendonly no"]
        lines += [" ".join(option) for option in options]
        configuration = self.folder / "redis.conf"
        configuration.write_text("\n".join(lines) + "\n")
        self._command = [command, str(configuration), *(["--sentinel"] if sentinel_of else [])]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, empty, at the same port; returns when it accepts connections."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise AssertionError(f"redis-server does not listen:\n{(self.folder / 'log').read_text()}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """``kill -9``: it is gone, with everything it had in hand."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """``SIGSTOP``: it accepts and answers nothing, and no connection breaks."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Make sure that it is gone, with its folder; safe at any time."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *arguments: str, password: str = "") -> Any:
        """One command, by ``redis-cli``; its output's lines."""
        command = ["redis-cli", "-p", str(self.port), *(["-a", password, "--no-auth-warning"] if password else [])]
        if self._tls is not None:
            command += ["--tls", "--cacert", self._tls[2], "--cert", self._tls[0], "--key", self._tls[1]]
        done = subprocess.run([*command, *arguments], check=True, capture_output=True, timeout=START_LIMIT)
        return done.stdout.decode().split("\n")[:-1]
