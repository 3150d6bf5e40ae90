"""Something that listens on a control socket and says what it was told to say: for what no sound server does.

And for how answers look. That the server answers so is tested against the server itself.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.clients.waiting import LIMIT

Script = Callable[[socket.socket, dict[str, Any]], None]


class StandIn:
    """Accepts connections one after another and runs ``script(connection, request)`` for each.

    :ivar requests: every request received, in order.
    """

    def __init__(self, path: Path, script: Script) -> None:
        self.path = path
        self.requests: list[dict[str, Any]] = []
        self._script = script
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(LIMIT)
                line = connection.makefile("rb").readline()
                if line:
                    self.requests.append(json.loads(line))
                    # A client may leave before it has heard everything.
                    with suppress(OSError):
                        self._script(connection, self.requests[-1])

    def close(self) -> None:
        """Stop listening; the socket's file stays, as a killed server's does."""
        # shutdown, because close alone does not wake accept
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(LIMIT)


def saying(*lines: object) -> Script:
    """A script that sends each of ``lines``: bytes as they are, anything else as a line of JSON."""

    def script(connection: socket.socket, request: dict[str, Any]) -> None:
        for line in lines:
            connection.sendall(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")

    return script


def result(**members: object) -> dict[str, object]:
    """The last line of a good answer."""
    return {"ok": True, "result": members}


def error(code: str, message: str, **members: object) -> dict[str, object]:
    """The last line of a refusal."""
    return {"ok": False, "error": {"code": code, "message": message, **members}}
