"""The server's log: where it goes, what becomes of it when that cannot be written, and its levels."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as installed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from mechamap_rt.errors import OperationFault
from mechamap_rt.process import serverlog
from mechamap_rt.process.serverlog import LogError, ServerLog
from mechamap_rt.settings import load
from mechamap_rt.system.linefile import LineFile
from mechamap_rt.system.loglevels import MAX_LOGGERS

reactor: Any = installed


class Stuck(LineFile):
    """A file whose disk does not answer until it is let."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 0, 1)
        self.let, self.asked = threading.Event(), threading.Event()

    def append(self, lines: deque[bytes]) -> None:
        self.asked.set()
        self.let.wait(30)
        super().append(lines)


class ServerLogTests(TestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.complaints: list[str] = []

    def log(self, file: LineFile | None = None, **settings: str) -> ServerLog:
        log = ServerLog(reactor, load({"LOG_FILE": str(self.path)} | settings, None).settings)
        self.patch(log, "_complain", self.complaints.append)
        if file is not None:
            log._file = file
            log._writer.move(file)
        log.start()
        self.events = Logger("x.y", observer=log.observer)
        # what the log has to say of itself is logged as everything else
        self.patch(serverlog, "_log", Logger("x.log", observer=log.observer))
        return log

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    async def until(self, holds: Any) -> None:
        for _ in range(500):
            if holds():
                return
            await deferLater(reactor, 0.02)
        raise AssertionError("it does not come")

    async def test_it_is_written_and_nobody_else_may_read_it(self) -> None:
        log = self.log()
        self.events.info("It is {what}", what="so", connection="c1")
        await log.stop()
        [line] = self.lines()
        assert line.endswith(" [x.y#info] It is so (connection=c1)")
        assert stat.S_IMODE(self.path.stat().st_mode) & 0o137 == 0
        assert list(log.journal.lines) == [line]

    async def test_what_comes_after_the_end_is_written_too(self) -> None:
        log = self.log(LOG_FORMAT="json")
        self.events.info("first")
        await log.stop()
        self.events.info("last")
        assert [json.loads(line)["message"] for line in self.lines()] == ["first", "last"]

    async def test_what_was_logged_before_a_start_that_never_came(self) -> None:
        log = ServerLog(reactor, load({"LOG_FILE": str(self.path)}, None).settings)
        Logger("x.y", observer=log.observer).info("early")
        assert not self.path.exists()
        log.finish()
        assert self.lines()[0].endswith("early")

    async def test_it_is_rotated_by_size(self) -> None:
        log = self.log(LOG_MAX_SIZE="2k", LOG_MAX_FILES="2", LOG_LEVEL="debug")
        for number in range(200):
            self.events.debug("line {number} {fill}", number=number, fill="x" * 50)
        await log.stop()
        files = sorted(self.path.parent.glob(f"{self.path.name}*"))
        assert [each.name for each in files] == [self.path.name + end for end in ("", ".1", ".2")]
        assert max(each.stat().st_size for each in files) <= 2048
        assert "line 199 " in self.lines()[-1]

    async def test_a_file_that_was_moved_or_removed_is_made_again(self) -> None:
        log = self.log()
        self.events.info("one")
        await self.until(self.path.read_bytes)
        moved = self.path.with_suffix(".moved")
        self.path.rename(moved)
        self.events.info("two")
        await self.until(self.path.exists)
        await self.until(self.path.read_bytes)
        self.path.unlink()
        self.events.info("three")
        await log.stop()
        assert moved.read_text().endswith("one\n")
        assert [line[-5:] for line in self.lines()] == ["three"]

    async def test_a_disk_that_does_not_answer_holds_nobody_up_and_what_is_dropped_is_told(self) -> None:
        file = Stuck(self.path)
        log = self.log(file, LOG_LEVEL="debug")
        self.events.debug("first")
        await self.until(file.asked.is_set)
        began = reactor.seconds()
        for _ in range(serverlog.MAX_WAITING + 250):
            self.events.debug("more")
        assert reactor.seconds() - began < 10
        assert log._writer.waiting == serverlog.MAX_WAITING
        file.let.set()
        await self.until(lambda: not log._writer.waiting)
        self.events.debug("last")
        await log.stop()
        lines = self.lines()
        assert len(lines) == 1 + serverlog.MAX_WAITING + 2
        assert lines[-2].endswith("250 lines of the log were dropped here")
        assert lines[-1].endswith("last")

    async def test_what_waits_is_bounded_in_bytes_too(self) -> None:
        file = Stuck(self.path)
        log = self.log(file, LOG_LEVEL="debug")
        for _ in range(2_000):
            self.events.debug("x" * 8_000)
        assert log._writer._bytes <= serverlog.MAX_WAITING_BYTES
        file.let.set()
        await log.stop()

    async def test_a_full_disk_is_told_once_and_written_again(self) -> None:
        log = self.log()
        self.events.info("one")
        await self.until(self.path.read_bytes)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(signal.signal, signal.SIGXFSZ, signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.path.stat().st_size, before[1]))
        try:
            self.events.info("two")
            await self.until(lambda: self.complaints)
            await deferLater(reactor, 1.2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        await self.until(lambda: "written again" in self.path.read_text())
        await log.stop()
        assert self.complaints == [f"The log, {self.path}, cannot be written: File too large; it is tried again"]
        said = [line.partition("] ")[2] for line in self.lines()]
        assert said == ["one", "two", self.complaints[0], "The log is written again"]

    async def test_a_file_that_cannot_be_opened_is_an_error_that_names_it(self) -> None:
        settings = load({"LOG_FILE": str(self.path)}, None).settings
        self.path.mkdir()
        with pytest.raises(LogError, match=f"LOG_FILE: {self.path} cannot be written: Is a directory"):
            ServerLog(reactor, settings).start()

    async def test_a_reload_moves_it_and_changes_its_format(self) -> None:
        log = self.log()
        self.events.info("one")
        await self.until(self.path.read_bytes)
        other = self.path.with_suffix(".other")
        again = load({"LOG_FILE": str(other), "LOG_FORMAT": "json"}, None).settings
        log.check(again)
        log.reload(again)
        self.events.info("two")
        await log.stop()
        assert len(self.lines()) == 1
        assert json.loads(other.read_text())["message"] == "two"
        other.unlink()
        other.mkdir()
        with pytest.raises(OperationFault, match="Is a directory"):
            log.check(again)

    async def test_levels_of_an_operator_outlive_a_reload_unless_the_setting_is_another(self) -> None:
        log = self.log()
        assert log.change_level({}) == {"level": "info", "loggers": {}}
        log.change_level({"level": "debug"})
        assert log.change_level({"level": "error", "logger": "x.y"}) == {"level": "debug", "loggers": {"x.y": "error"}}
        log.reload(load({"LOG_FILE": str(self.path), "LOG_FORMAT": "json"}, None).settings)
        assert log.change_level({}) == {"level": "debug", "loggers": {"x.y": "error"}}
        log.reload(load({"LOG_FILE": str(self.path), "LOG_LEVEL": "warn"}, None).settings)
        assert log.change_level({}) == {"level": "warn", "loggers": {}}
        log.change_level({"level": "error", "logger": "x.y"})
        assert log.change_level({"level": "default", "logger": "x.y"}) == {"level": "warn", "loggers": {}}
        log.change_level({"level": "debug"})
        assert log.change_level({"level": "default"}) == {"level": "warn", "loggers": {}}
        await log.stop()

    async def test_levels_that_are_none(self) -> None:
        log = self.log()
        for asked in ({"level": "loud"}, {"level": 5}, {"level": "info", "logger": ""}, {"level": "info", "logger": 5}):
            with pytest.raises(OperationFault):
                log.change_level(asked)
        for number in range(MAX_LOGGERS):
            log.change_level({"level": "info", "logger": f"n{number}"})
        with pytest.raises(OperationFault, match="At most"):
            log.change_level({"level": "info", "logger": "one more"})
        assert len(log.levels.loggers) == MAX_LOGGERS
        await log.stop()

    async def test_a_pipe_that_takes_little_gets_whole_lines(self) -> None:
        out, into = os.pipe()
        self.addCleanup(os.close, out)
        os.set_blocking(into, False)
        stream = serverlog.Stream(into)
        lines = deque(b"%d" % number + b"x" * 30_000 + b"\n" for number in range(20))
        got = b""
        while lines:
            try:
                stream.append(lines)
            except BlockingIOError:
                got += os.read(out, 1 << 20)
        got += os.read(out, 1 << 20)
        os.close(into)
        assert [len(line) for line in got.splitlines()] == [30_001] * 10 + [30_002] * 10
