"""The log of a worker, which the master writes."""

from __future__ import annotations

import contextlib
import os
from typing import Final

from mechamap_rt.system.logrecord import Record
from mechamap_rt.wire import json

#: Bytes of log that wait for the master.
MAX_LOG_WAITING: Final = 256 * 1024
#: Whose information is of no use to an operator: of ports and of the reactor, for each worker again.
_CHATTER: Final = frozenset(("log_legacy", "twisted.internet.base"))
_QUIET: Final = frozenset(("debug", "info"))


class LogPipe:
    """Writes each record to the master as one line, a JSON array of its members: the master writes the log.

    A master that does not read must not hold up this process: what does not fit is dropped, and counted.

    :param descriptor: of the pipe; is made non-blocking.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = b""
        self._dropped = 0
        os.set_blocking(descriptor, False)

    def __call__(self, record: Record) -> None:
        if record.level in _QUIET and record.logger in _CHATTER:
            return
        if self._dropped and len(self._waiting) < MAX_LOG_WAITING:
            told = f"({self._dropped} lines were dropped before this one) {record.message}"
            record = record._replace(message=told)
            self._dropped = 0
        self._add(json.encode(list(record)) + b"\n")

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
