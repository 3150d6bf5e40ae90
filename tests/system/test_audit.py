"""What is noted, and what becomes of it while the disk does not answer."""

from __future__ import annotations

import json
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as installed
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from mechamap_rt.settings import SettingsError, load
from mechamap_rt.system.audit import MAX_WAITING, Actor, AuditError, AuditLog, audit_file
from mechamap_rt.system.linefile import LineFile

reactor: Any = installed
KEY = Actor("admin_key", "9f86d081")


class Stuck(LineFile):
    """A file whose disk does not answer until it is let."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 0, 1)
        self.let, self.asked = threading.Event(), threading.Event()

    def append(self, lines: deque[bytes]) -> None:
        self.asked.set()
        self.let.wait(30)
        super().append(lines)


class AuditLogTests(TestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.said: list[str] = []
        globalLogPublisher.addObserver(self._hear)
        self.addCleanup(globalLogPublisher.removeObserver, self._hear)

    def _hear(self, event: Any) -> None:
        if event.get("log_namespace") == "mechamap_rt.system.audit":
            self.said.append(event["log_format"].format(**event))

    def log(self, file: LineFile | None = None, required: bool = False) -> AuditLog:
        log = AuditLog(reactor, file or LineFile(self.path, 0, 1), "a7z001", lambda: 1_700_000_000.5)
        log.start(required)
        return log

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    async def until(self, holds: Any) -> None:
        for _ in range(500):
            if holds():
                return
            await deferLater(reactor, 0.02)
        raise AssertionError("it does not come")

    async def test_a_line_says_who_what_where_when_and_how_it_went(self) -> None:
        log = self.log()
        log.note(KEY, "connections.disconnect", {"user_id": 5}, "ok", address="203.0.113.7", request="r1")
        log.note(Actor("operator", None, 1000, 77), "workers.drain", {"worker": 9}, "refused", code="UNKNOWN_WORKER")
        await log.stop()
        assert self.lines() == [
            {
                "time": "2023-11-14T22:13:20.500Z",
                "actor": {"kind": "admin_key", "id": "9f86d081"},
                "action": "connections.disconnect",
                "target": {"user_id": 5},
                "address": "203.0.113.7",
                "request": "r1",
                "outcome": "ok",
                "code": None,
                "worker": "a7z001",
            },
            {
                "time": "2023-11-14T22:13:20.500Z",
                "actor": {"kind": "operator", "id": None, "uid": 1000, "pid": 77},
                "action": "workers.drain",
                "target": {"worker": 9},
                "address": None,
                "request": None,
                "outcome": "refused",
                "code": "UNKNOWN_WORKER",
                "worker": "a7z001",
            },
        ]

    async def test_whatever_is_noted_is_one_line_of_a_bound(self) -> None:
        log = self.log()
        hostile = {"a": "x\n{}\u2028\x1b" * 1000, "b" * 5000: ["y" * 100_000], "c": "\ud800", "d": 10**30, "e": b"raw"}
        log.note(KEY, "a", hostile, "ok")
        log.note(KEY, "b", {str(number): "ệ" * 1000 for number in range(1000)}, "ok")
        await log.stop()
        lines = self.path.read_bytes().split(b"\n")
        assert [json.loads(line)["action"] for line in lines[:-1]] == ["a", "b"]
        assert max(map(len, lines)) < 16_384

    async def test_all_that_was_noted_is_written_before_the_end(self) -> None:
        log = self.log()
        for number in range(MAX_WAITING):
            log.note(KEY, "a", {"number": number}, "ok")
        await log.stop()
        assert [line["target"]["number"] for line in self.lines()] == list(range(MAX_WAITING))
        log.note(KEY, "too late", {}, "ok")
        await log.stop()
        assert len(self.lines()) == MAX_WAITING

    async def test_a_disk_that_does_not_answer_holds_nobody_up(self) -> None:
        file = Stuck(self.path)
        log = self.log(file)
        log.note(KEY, "a", {}, "ok")
        await self.until(file.asked.is_set)
        for number in range(MAX_WAITING * 2):
            log.note(KEY, "a", {"number": number}, "ok")
        assert self.said == ["The audit log does not keep up: from now on acts are dropped"]
        file.let.set()
        await self.until(lambda: not log._writer.waiting)
        log.note(KEY, "again", {}, "ok")
        await log.stop()
        lines = self.lines()
        assert [line["action"] for line in lines] == ["a"] * (1 + MAX_WAITING) + ["again", "audit.dropped"]
        assert lines[-1]["target"] == {"acts": MAX_WAITING}
        assert len(self.said) == 2

    async def test_the_end_does_not_wait_for_such_a_disk(self) -> None:
        file = Stuck(self.path)
        log = self.log(file)
        log.note(KEY, "a", {}, "ok")
        began = reactor.seconds()
        await log.stop()
        assert 0.4 < reactor.seconds() - began < 5
        assert "not written" in self.said[-1]
        file.let.set()
        await self.until(lambda: log._writer.ended.called)

    async def test_a_file_that_cannot_be_opened_is_tried_again(self) -> None:
        self.path.mkdir()
        log = self.log()
        log.note(KEY, "a", {}, "ok")
        await self.until(lambda: self.said)
        self.path.rmdir()
        await self.until(self.path.is_file)
        await log.stop()
        assert [line["action"] for line in self.lines()] == ["a"]
        assert "cannot be written: Is a directory; it is tried again" in self.said[0]
        assert self.said[1:] == ["The audit log is written again"]

    async def test_where_it_is_required_it_must_open(self) -> None:
        self.path.mkdir()
        with pytest.raises(AuditError, match=f"AUDIT_LOG_FILE: {self.path} cannot be written: Is a directory"):
            self.log(required=True)

    async def test_another_file_from_now_on(self) -> None:
        log = self.log()
        log.note(KEY, "a", {}, "ok")
        await self.until(self.path.read_bytes)
        other = Path(self.mktemp()).absolute()
        log.move(LineFile(other, 0, 1))
        log.note(KEY, "b", {}, "ok")
        await self.until(other.is_file)
        await self.until(other.read_bytes)
        log.move(None)
        log.note(KEY, "c", {}, "ok")
        await log.stop()
        assert [line["action"] for line in self.lines()] == ["a"]
        assert json.loads(other.read_bytes())["action"] == "b"

    async def test_off_is_off(self) -> None:
        log = AuditLog(reactor, None, "a7z001", lambda: 0.0)
        log.start(True)
        log.note(KEY, "a", {}, "ok")
        await log.stop()


def placed(environ: dict[str, str], **settings: str) -> Path | None:
    file = audit_file(load(settings, None).settings, environ)
    return None if file is None else file.path


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert placed({}) == tmp_path / "audit.log"
    assert placed({"LOGS_DIRECTORY": "/var/log/mechamap:/var/log/other"}) == Path("/var/log/mechamap/audit.log")
    assert placed({"LOGS_DIRECTORY": "/var/log/mechamap"}, AUDIT_LOG_FILE="/x/y") == Path("/x/y")
    assert placed({}, AUDIT_LOG_FILE="acts") == tmp_path / "acts"
    assert placed({}, AUDIT_LOG_FILE="OFF") is None
    with pytest.raises(SettingsError):
        load({"AUDIT_LOG_MAX_SIZE": "x", "AUDIT_LOG_MAX_FILES": "-1"}, None)
