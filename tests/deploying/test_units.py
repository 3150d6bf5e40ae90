"""``etc/mechamap.service`` and ``.socket``: systemd reads them and finds them safe; the server does what they say."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.waiting import until
from tests.conftest import required
from tests.deploying.filled import filled
from tests.deploying.manager import ETC, Manager, directives

#: The paths of the unit that a test cannot have.
TWISTD = "/opt/mechamap/bin/twistd"
ENV_FILE = "/etc/mechamap/mechamap.env"
#: ``systemd-analyze security``: from 0 to 10, times ten.
EXPOSURE = 15
BIN = Path(sys.executable).parent

UNIT = (ETC / "mechamap.service").read_text("utf-8")
SOCKET = (ETC / "mechamap.socket").read_text("utf-8")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder with the units as they are installed; only the virtualenv is this one."""
    (tmp_path / "mechamap.service").write_text(UNIT.replace(TWISTD, str(BIN / "twistd")))
    (tmp_path / "mechamap.socket").write_text(SOCKET)
    return tmp_path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [required("systemd-analyze", "systemd"), "--no-pager", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_systemd_finds_no_fault(units: Path) -> None:
    done = analyze("verify", units / "mechamap.service", units / "mechamap.socket")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_would_find_one(units: Path) -> None:
    (units / "mechamap.service").write_text(UNIT.replace("WatchdogSec=30s", "WatchdogSeconds=30s"))
    assert "WatchdogSeconds" in analyze("verify", units / "mechamap.service").stderr


def test_the_exposure_is_small(units: Path) -> None:
    arguments = ("security", "--offline=true", f"--threshold={EXPOSURE}", "--json=short")
    done = analyze(*arguments, units / "mechamap.service")
    assert done.returncode == 0, [one for one in json.loads(done.stdout) if not one["set"]]
    (units / "mechamap.service").write_text(UNIT.replace("CapabilityBoundingSet=\n", ""))
    assert analyze(*arguments, units / "mechamap.service").returncode != 0


def test_the_paths_are_those_of_the_document() -> None:
    document = (ETC.parent / "docs" / "deploying.rst").read_text("utf-8")
    for path in (str(Path(TWISTD).parent), ENV_FILE):
        assert path in UNIT
        assert path in document


def test_the_server_does_what_the_unit_says(tmp_path: Path) -> None:
    """Started by its ExecStart, it tells of itself, gives signs of life, reloads by ExecReload, ends by SIGTERM."""
    unit = directives(UNIT)
    (start,), (reload,), (watchdog,) = unit["ExecStart"], unit["ExecReload"], unit["WatchdogSec"]
    assert (unit["Type"], unit["NotifyAccess"], watchdog) == (["notify"], ["main"], "30s")
    path = tmp_path / "mechamap.env"
    path.write_text(filled(PORT="0", CLUSTER_WORKERS="1", CLUSTER_DRAIN_TIME="100"))
    # a second instead of thirty: a sign of life is due every half of it
    environment = {"WATCHDOG_USEC": "1000000"}
    runtime, logs = tmp_path / "runtime", tmp_path / "logs"
    for folder, directive in ((runtime, "RuntimeDirectory"), (logs, "LogsDirectory")):
        assert unit[directive] == ["mechamap"]
        folder.mkdir()
        environment[f"{folder.name.upper()}_DIRECTORY"] = str(folder)
    assert start.startswith(TWISTD)
    command = start.replace(TWISTD, str(BIN / "twistd")).replace(ENV_FILE, str(path))
    manager = Manager(tmp_path, command, environment)
    try:
        manager.told("READY=1")
        assert [file.suffix for file in runtime.iterdir()] == [".sock"]
        manager.told("WATCHDOG=1")
        assert manager.told("WATCHDOG=1") < 1
        # settings that have changed: not only the certificate is looked at
        path.write_text(path.read_text() + "MAX_CONNECTIONS=5\n")
        manager.execute(reload)
        manager.told("RELOADING=1")
        manager.told("READY=1")
        until(lambda: "server.reload" in (logs / "audit.log").read_text(), lambda: "the line of the audit log")
        assert manager.stop() in (0, -signal.SIGTERM)
    finally:
        manager.end()
