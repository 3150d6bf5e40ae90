"""The log of a worker, which the master writes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Final

from twisted.logger import LogLevel

from mechamap_rt.system.logline import texts
from mechamap_rt.wire import json

#: Bytes of log that wait for the master.
MAX_LOG_WAITING: Final = 256 * 1024
#: Whose information is of no use to an operator: of ports and of the reactor, for each worker again.
_CHATTER: Final = frozenset(("log_legacy", "twisted.internet.base"))


class LogPipe:
    """A log observer that writes each event to the master as one line of JSON: the master writes the log.

    A master that does not read must not hold up this process: what does not fit is dropped, and counted.

    :param descriptor: of the pipe; is made non-blocking.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = b""
        self._dropped = 0
        os.set_blocking(descriptor, False)

    def __call__(self, event: Mapping[str, Any]) -> None:
        level = event.get("log_level") or LogLevel.info
        if level <= LogLevel.info and event.get("log_namespace") in _CHATTER:
            return
        text, trace = texts(dict(event))
        if self._dropped and len(self._waiting) < MAX_LOG_WAITING:
            text = f"({self._dropped} lines were dropped before this one) {text}"
            self._dropped = 0
        self._add(json.encode([level.name, str(event.get("log_namespace", "")), text, trace]) + b"\n")

    def _add(self, line: bytes) -> None:
        if len(self._waiting) + len(line) > MAX_LOG_WAITING:
            self._dropped += 1
        else:
            self._waiting += line
        self.flush()

    def flush(self) -> None:
        """Write what the pipe takes."""
        # without a master there is no log
        with contextlib.suppress(OSError):
            while self._waiting:
                self._waiting = self._waiting[os.write(self._descriptor, self._waiting) :]
