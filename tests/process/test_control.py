"""The operator's socket."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mechamap_rt.errors import OperationFault
from mechamap_rt.process import journal
from mechamap_rt.process.control import MAX_REQUEST, Control, Say
from mechamap_rt.settings import load
from mechamap_rt.system.audit import Actor
from tests.fakes import AuditMemory

reactor: Any = installed


class ControlTests(TestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.audit = AuditMemory()
        self.journal = journal.Journal()
        self.control = Control(reactor, self.run_command, self.audit, self.journal)
        self.control.listen(load({"CONTROL_SOCKET": str(self.path)}, None).settings, 0)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.control.stop()))
        self.cancelled = 0

    async def run_command(self, command: str, asked: Mapping[str, Any], say: Say) -> dict[str, Any]:
        if command == "restart":
            raise OperationFault("FAILED", "The new worker does not come up")
        if command == "scale":
            await Deferred()
        if command == "wrong" or asked.get("worker") == 99:
            raise OperationFault("INVALID", "A number is required", "worker")
        if command == "broken":
            raise ValueError("secret words")
        say({"text": "half way"})
        return {"command": command, **asked}

    def exchange(self, sent: bytes, lines: int | None = None) -> list[Any]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self.path))
            client.sendall(sent)
            answer = b""
            while lines is None or answer.count(b"\n") < lines:
                data = client.recv(65536)
                if not data:
                    break
                answer += data
        return [json.loads(line) for line in answer.splitlines()]

    async def ask(self, sent: bytes, lines: int | None = None) -> list[Any]:
        answers: list[Any] = await deferToThread(self.exchange, sent, lines)
        return answers

    async def test_a_command_is_answered_after_its_progress(self) -> None:
        answers = await self.ask(b'{"command":"do","arguments":{"a":1}}\n')
        assert answers == [{"progress": {"text": "half way"}}, {"ok": True, "result": {"command": "do", "a": 1}}]

    async def test_only_the_owner_may_open_it(self) -> None:
        assert stat.S_IMODE(self.path.stat().st_mode) == 0o600

    async def test_a_fault_is_coded(self) -> None:
        error = {"code": "INVALID", "message": "A number is required", "field": "worker"}
        assert await self.ask(b'{"command":"wrong"}\n') == [{"ok": False, "error": error}]

    async def test_our_own_faults_show_nothing(self) -> None:
        answers = await self.ask(b'{"command":"broken"}\n')
        assert answers[0]["error"]["code"] == "SERVER_ERROR"
        assert "secret" not in str(answers)
        assert len(self.flushLoggedErrors(ValueError)) == 1

    async def test_what_is_no_request_is_refused(self) -> None:
        for sent in (b"\n", b"hello\n", b"[]\n", b'{"command":1}\n', b'{"command":"x","arguments":[]}\n', b"\xff\n"):
            answers = await self.ask(sent)
            assert answers[0]["error"]["code"] == "BAD_REQUEST", sent
        assert (await self.ask(b"x" * (MAX_REQUEST + 1)))[0]["error"]["code"] == "TOO_LARGE"

    async def test_what_changes_something_is_noted_with_who_asks(self) -> None:
        me = Actor("operator", None, os.getuid(), os.getpid())
        await self.ask(b'{"command":"status"}\n')
        await self.ask(b'{"command":"logs","arguments":{"lines":0}}\n')
        assert self.audit.acts == []
        told = {"channel": "public.a", "event": "note"}
        asked = {"command": "publish", "arguments": told | {"data": {"text": "private"}}}
        await self.ask(json.dumps(asked).encode() + b"\n")
        await self.ask(b'{"command":"drain","arguments":{"worker":99}}\n')
        await self.ask(b'{"command":"restart","arguments":{"worker":1}}\n')
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
            client.sendall(b'{"command":"scale","arguments":{"to":"+1"}}\n')
            await deferLater(reactor, 0.2)
        while len(self.audit.acts) < 4:
            await deferLater(reactor, 0.02)
        found = [(act["action"], act["target"], act["outcome"], act.get("code")) for act in self.audit.acts]
        assert found == [
            ("channels.publish", told, "ok", None),
            ("workers.drain", {"worker": 99}, "refused", "INVALID"),
            ("workers.restart", {"worker": 1}, "failed", "FAILED"),
            ("workers.scale", {"to": "+1"}, "failed", "CANCELLED"),
        ]
        assert {act["actor"] for act in self.audit.acts} == {me}

    async def test_the_log_is_told_and_followed_until_the_operator_leaves(self) -> None:
        for number in range(30):
            self.journal.add(f"line {number}")
        answers = await self.ask(b'{"command":"logs","arguments":{"lines":3}}\n')
        assert [answer["progress"]["line"][-7:] for answer in answers[:-1]] == ["line 27", "line 28", "line 29"]
        assert answers[-1] == {"ok": True, "result": {}}
        following = deferToThread(self.exchange, b'{"command":"logs","arguments":{"lines":0,"follow":true}}\n', 2)
        await deferLater(reactor, 0.2)
        self.journal.add("the first")
        self.journal.add("the second")
        lines = [answer["progress"]["line"] for answer in await following]
        assert [line.rsplit(" ", 1)[1] for line in lines] == ["first", "second"]
        await deferLater(reactor, 0.1)
        assert not self.control.operators
        assert not self.control.journal._followers

    async def test_the_log_is_kept_within_bounds(self) -> None:
        kept = journal.Journal()
        for number in range(journal.KEPT + 10):
            kept.add("x" * 20_000 if number else "")
        assert len(kept.lines) == journal.KEPT
        assert max(map(len, kept.lines)) == journal.MAX_LINE
        assert kept.last(0) == []
