"""The service that is replaced, as a process of its own (``old.js``)."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import required
from tests.server import JWT_SECRET, START_LIMIT, STOP_LIMIT

SOURCE: Final = Path(__file__).with_name("old.js")
MODULES: Final = Path(__file__).parents[1] / "conformance" / "peer" / "node_modules"


class OldService:
    """Runs from the start on; :meth:`stop` is ``pm2 stop``."""

    def __init__(self, port: int) -> None:
        if not MODULES.is_dir():
            pytest.fail("npm's socket.io is not installed; please run: make test-tools", pytrace=False)
        self.port = port
        environment = {"PATH": os.environ["PATH"], "JWT_SECRET": JWT_SECRET, "PORT": str(port)}
        self._process = subprocess.Popen(
            [required("node", "nodejs"), SOURCE],
            env=environment | {"NODE_PATH": str(MODULES)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        overdue = threading.Timer(START_LIMIT, self._process.kill)
        overdue.start()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        overdue.cancel()
        if not line.startswith(b"Listening on "):
            self.stop()
            raise AssertionError(f"the old service does not start: {line!r}")

    def stop(self) -> None:
        """End it; safe at any time."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
