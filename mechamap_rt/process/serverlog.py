"""The server's log, as the process writes it that operators start: the master, or the one process there is.

It goes to ``LOG_FILE``, or to standard output, and its last lines are kept for ``mechamapctl logs``.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.components import Componentized

from mechamap_rt.errors import OperationFault
from mechamap_rt.process.journal import Journal
from mechamap_rt.settings import Settings
from mechamap_rt.system import logline
from mechamap_rt.system.linefile import LineFile
from mechamap_rt.system.linewriter import LineWriter, Target, cannot
from mechamap_rt.system.log import Log
from mechamap_rt.system.loglevels import MAX_LOGGERS, MAX_NAME, NAMES, Levels
from mechamap_rt.system.logrecord import Record, as_json, as_text

_log = Logger()

#: What waits for the disk or for whoever reads standard output; more is dropped, and counted.
MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
#: Who may read the file: the account, and its group.
_MODE: Final = 0o640
#: The word for a level that is not an operator's, but of the settings.
DEFAULT: Final = "default"


class LogError(Exception):
    """The log cannot be opened; the text is a sentence for the operator."""


class Stream:
    """A descriptor that lines go to; its methods block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def append(self, lines: deque[bytes]) -> None:
        """As :class:`~mechamap_rt.system.linewriter.Target` says."""
        while lines:
            written = os.write(self._descriptor, lines[0])
            if written < len(lines[0]):
                lines[0] = lines[0][written:]
            else:
                lines.popleft()

    def close(self) -> None:
        """It belongs to the process."""


class ServerLog:
    """Writes records down.

    :param logfile: of ``twistd --logfile``, for a server without ``LOG_FILE``; ``""`` for standard output.
    :param foreign: ``twistd`` has an observer of its own: nothing is written here; the last lines are kept.
    :ivar observer: the log observer of this process.
    """

    def __init__(self, reactor: Any, settings: Settings, logfile: str = "", foreign: bool = False) -> None:
        self._settings = settings.log
        self._logfile = logfile
        self.foreign = foreign
        self._dropped = 0
        self.journal = Journal()
        self.levels = Levels(settings.log.level)
        self.observer = Log(reactor, self.levels, "master", self._take)
        self._file = self._make_file(settings)
        self._stdout = None if foreign or sys.__stdout__ is None else Stream(sys.__stdout__.fileno())
        target: Target | None = self._file or self._stdout
        self._writer = LineWriter(reactor, target, "log", self._said, MAX_WAITING, MAX_WAITING_BYTES)
        if foreign:
            publisher: Any = globalLogPublisher
            publisher.addObserver(logline.make_plain)
            publisher.addObserver(self.observer)

    def _make_file(self, settings: Settings) -> LineFile | None:
        log = settings.log
        path = log.file or self._logfile
        if not path or self.foreign:
            return None
        return LineFile(Path(path).absolute(), log.max_size, log.max_files, _MODE)

    def start(self) -> None:
        """Begin to write.

        :raises LogError: the file cannot be opened; what is logged goes to standard output instead.
        """
        file = self._file
        try:
            if file is not None:
                file.open()
        except OSError as error:
            assert file is not None
            self._file = None
            self._writer.move(self._stdout)
            raise LogError(f"LOG_FILE: {file.path} {cannot(error)}") from None
        self._writer.start()

    async def stop(self) -> None:
        """Write what is there; whatever comes later is written at once."""
        self.observer.flood.summarise()
        left = await self._writer.stop()
        if left:
            self._complain(f"The log: {left} lines are not written")
        self._writer.finish()

    def finish(self) -> None:
        """Write what a start that has come to nothing has left."""
        self._writer.finish()

    # writing

    def _take(self, record: Record) -> None:
        text = as_text(record)
        self.journal.add(text)
        self.journal.note(record)
        as_asked = text if self._settings.format == "text" else as_json(record)
        self._put(as_asked.encode() + b"\n", record)

    def _put(self, line: bytes, record: Record) -> None:
        if self.foreign:
            return
        if self._dropped and self._writer.waiting <= MAX_WAITING / 2:
            dropped, self._dropped = self._dropped, 0
            name = self.observer.worker
            self._take(
                Record(record.time, "warn", __name__, name, 0, f"{dropped:,} lines of the log were dropped here")
            )
        if not self._writer.put(line):
            self._dropped += 1

    def _said(self, fault: str | None) -> None:
        if fault is None:
            _log.info("The log is written again")
            return
        where = "standard output" if self._file is None else str(self._file.path)
        text = f"The log, {where}, {fault}; it is tried again"
        _log.error("{text}", text=text)
        if self._file is not None:
            self._complain(text)

    def _complain(self, text: str) -> None:
        """Where the log itself cannot say it."""
        if sys.__stderr__ is not None:
            with suppress(OSError):
                sys.__stderr__.write(f"{text}\n")
                sys.__stderr__.flush()

    # changing it

    def check(self, settings: Settings) -> None:
        """Is the file of these settings one that can be written?

        :raises OperationFault: it is not.
        """
        file = self._make_file(settings)
        if file is not None:
            try:
                file.open()
            except OSError as error:
                raise OperationFault("BAD_SETTINGS", f"LOG_FILE: {file.path} {cannot(error)}") from None
            file.close()

    def reload(self, settings: Settings) -> None:
        """Do as these settings say. A level that an operator has set stays, unless ``LOG_LEVEL`` is another."""
        before, self._settings = self._settings, settings.log
        if settings.log.level != before.level:
            self.levels.change(settings.log.level, {})
        if (settings.log.file, settings.log.max_size, settings.log.max_files) != (
            before.file,
            before.max_size,
            before.max_files,
        ):
            self._file = self._make_file(settings)
            self._writer.move(self._file or self._stdout)

    def change_level(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What an operator asks: ``{level?, logger?}``; a level of ``default`` is that of the settings.

        :returns: the levels.
        :raises OperationFault: there is no such level.
        """
        level, logger = asked.get("level"), asked.get("logger")
        if level is not None and level not in (*NAMES, DEFAULT):
            raise OperationFault("INVALID", f"One of {', '.join((*NAMES, DEFAULT))} is required", "level")
        if logger is not None and not (isinstance(logger, str) and 1 <= len(logger) <= MAX_NAME):
            raise OperationFault("INVALID", f"1 to {MAX_NAME} characters are required", "logger")
        loggers = dict(self.levels.loggers)
        if level is None:
            return self.levels.members()
        if logger is None:
            self.levels.change(self._settings.level if level == DEFAULT else level, {} if level == DEFAULT else loggers)
        else:
            loggers.pop(logger, None)
            if level != DEFAULT:
                loggers[logger] = level
            if len(loggers) > MAX_LOGGERS:
                raise OperationFault(
                    "INVALID", f"At most {MAX_LOGGERS} loggers can have a level of their own", "logger"
                )
            self.levels.change(self.levels.level, loggers)
        return self.levels.members()


class Logging(Service):
    """A service that ``twistd`` gives its log to.

    :ivar log: the log.
    """

    def __init__(self, log: ServerLog) -> None:
        self.log = log

    def setServiceParent(self, parent: Any) -> None:
        """The application asks its components for an observer before it starts (``twistd``'s ``AppLogger``)."""
        if isinstance(parent, Componentized) and not self.log.foreign:
            parent.setComponent(ILogObserver, self.log.observer)
        super().setServiceParent(parent)
