"""``docs/deploying.rst`` from its first line on, in folders of a test: installed, set, started, upgraded, and back.

What changes the host itself is left out (Debian's packages, the account, certificates). What systemd does,
:class:`tests.deploying.manager.Manager` does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import requests

from mechamap_rt import __version__
from tests.clients.node import FOLDER as NODE_FOLDER
from tests.conftest import required
from tests.deploying.document import BLOCKS, HOST, ROOT, Shell
from tests.deploying.manager import Manager, directives
from tests.nginx import Certificate, Front, free_ports
from tests.server import inherited

NAME: Final = "realtime.example.org"
SOURCES: Final = (
    "mechamap_rt",
    "twisted",
    "etc",
    "setup.cfg",
    "pyproject.toml",
    "constraints.txt",
    "LICENSE",
    "README.rst",
)


class Host:
    """A host that has nothing yet.

    :ivar opt: its ``/opt/mechamap``.
    :ivar env: its ``/etc/mechamap/mechamap.env``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opt, self.env = folder / "opt" / "mechamap", folder / "etc" / "mechamap" / "mechamap.env"
        self.source = folder / "src"
        self.port, _ = free_ports()
        self.socket = folder / "mechamap.sock"
        for name in ("bin", "systemd", "nginx", "front", "certificate"):
            (folder / name).mkdir()
        self.source.mkdir()
        for name in SOURCES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, self.source / name)
        places = {
            "/usr/local/src/mechamap": self.source,
            "/opt/mechamap": self.opt,
            "/usr/local/bin": folder / "bin",
            "/etc/mechamap": self.env.parent,
            "/etc/systemd/system": folder / "systemd",
            "/etc/nginx/conf.d": folder / "nginx",
            # the account is none of this machine's
            " -g mechamap": "",
            "127.0.0.1:3000": f"127.0.0.1:{self.port}",
        }
        environment = inherited() | {"CURL_HOME": str(folder), "MECHAMAPCTL_SOCKET": str(self.socket)}
        environment["PATH"] = f"{folder / 'bin'}:{environment['PATH']}"
        self.shell = Shell({there: str(here) for there, here in places.items()}, environment)

    def fill_in(self, **values: str) -> None:
        """What the document leaves to the operator."""
        text = self.env.read_text()
        for name, value in values.items():
            text, count = re.subn(rf"^#?{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
            assert count == 1, name
        self.env.write_text(text)

    def start(self) -> Manager:
        """What ``systemctl start`` does with the installed unit."""
        (start,) = directives((self.folder / "systemd" / "mechamap.service").read_text())["ExecStart"]
        (self.folder / "run").mkdir()
        return Manager(self.folder / "run", self.shell.here(start), {"LOGS_DIRECTORY": str(self.folder)})

    def version(self) -> str:
        """Of the worker that answers."""
        answer = requests.get(f"http://127.0.0.1:{self.port}/api/health", timeout=10)
        version: str = answer.json()["version"]
        return version


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """After "Packages and account", "The program", "Settings", and the files of "The service" and "nginx"."""
    host = Host(tmp_path_factory.mktemp("host"))
    host.shell.run("program")
    host.shell.run("fill-in")
    host.shell.run("service", without=HOST)
    host.shell.run("proxy", without=HOST)
    return host


@pytest.fixture(scope="module")
def running(host: Host) -> Iterator[Manager]:
    host.fill_in(PORT=str(host.port), CONTROL_SOCKET=str(host.socket), CORS_ORIGIN="https://www.example.org")
    host.fill_in(CLUSTER_WORKERS="2", CLUSTER_DRAIN_TIME="500")
    manager = host.start()
    try:
        manager.told("READY=1")
        yield manager
        manager.stop()
    finally:
        manager.end()


@pytest.fixture(scope="module")
def front(host: Host, running: Manager) -> Iterator[Front]:
    class Installed(Front):
        source = host.folder / "nginx" / "mechamap.conf"

    certificate = Certificate(host.folder / "certificate", NAME)
    one = Installed(host.folder / "front", certificate, host)
    lines = (f'connect-to = "{NAME}:443:127.0.0.1:{one.port}"', f'cacert = "{certificate.path}"', 'noproxy = "*"')
    (host.folder / ".curlrc").write_text("\n".join(lines) + "\n")
    try:
        yield one
    finally:
        one.end()


def test_the_secrets_are_made_up_and_nobody_else_reads_them(host: Host) -> None:
    found = dict(re.findall(r"^(JWT_SECRET|LARAVEL_API_KEY|ADMIN_KEY)=(.{64})$", host.env.read_text(), re.MULTILINE))
    assert len(set(found.values())) == 3
    assert host.env.stat().st_mode & 0o777 == 0o640
    # a second time changes nothing
    loop = BLOCKS["fill-in"].steps[1].command
    subprocess.run(["bash", "-c", host.shell.here(loop)], check=True)
    for value in found.values():
        assert value in host.env.read_text()


def test_the_settings_are_good(host: Host, running: Manager) -> None:
    printed = host.shell.run("check")
    assert re.search(r"^JWT_SECRET +\(set\) +file$", printed, re.MULTILINE)
    assert "warning" not in printed


def test_first_checks(host: Host, front: Front) -> None:
    printed = host.shell.run("first-checks")
    assert "a cluster, 2 of 2 workers ready" in printed
    assert "takes clients" in printed
    assert printed.splitlines()[-2].count(".") == 2, "a token"


def test_the_browsers_check(host: Host, front: Front) -> None:
    """With npm's client in Node, which is the page's ``io``."""
    ctl = [host.folder / "bin" / "mechamapctl", "--env-file", host.env, "token", "--user", "1"]
    token = subprocess.run(ctl, env=inherited(), capture_output=True, text=True, check=True).stdout.strip()
    script = BLOCKS["browser"].text.replace("…", token).replace(f"https://{NAME}", f"https://localhost:{front.port}")
    end = 'socket.on("connected", () => socket.close()); socket.on("connect_error", () => socket.close());'
    done = subprocess.run(
        [required("node", "nodejs"), "--input-type=module"],
        input=f'import {{ io }} from "socket.io-client";\n{script}{end}\n',
        cwd=NODE_FOLDER,
        env=inherited() | {"NODE_EXTRA_CA_CERTS": str(front.certificate.path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout, done.stderr) == ("connected as 1\n", "")


def test_the_next_version_and_back(host: Host, running: Manager) -> None:
    module = host.source / "mechamap_rt" / "__init__.py"
    text = module.read_text()
    assert host.version() == __version__
    for version in ("99.0", __version__):
        module.write_text(text.replace(f'"{__version__}"', f'"{version}"'))
        assert "Reloaded" in host.shell.run("upgrade", without=HOST)
        assert host.version() == version


def test_nothing_of_this_virtualenv_was_used(host: Host) -> None:
    shebang = (host.opt / "bin" / "mechamapctl").read_text().partition("\n")[0]
    assert str(host.opt) in shebang
    assert sys.prefix not in shebang
