"""The door by itself, in this process: what takes too long to wait for at a server's, with OpenSSH's client."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mechamap_rt.manhole import door
from mechamap_rt.manhole.door import MAX_CONNECTIONS, MAX_FAILURES, Destination, Manhole, _Failures
from mechamap_rt.manhole.shell import Shells
from tests.clients import ssh
from tests.fakes import AuditMemory
from tests.server import inherited

reactor: Any = installed


class DoorTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.key = ssh.make_key(self.folder)
        self.audit = AuditMemory()
        self.shells = Shells(reactor, "Hello\n", lambda session: {"answer": 42})
        self.lost: list[int] = []

    def open(self, idle: float = 60.0) -> Manhole:
        async def come_in(descriptor: int) -> None:
            self.shells.open(descriptor)

        keys = ssh.authorize(self.folder / "keys", self.key)
        destination = Destination("The test", {"worker": 1}, come_in)
        manhole = Manhole(reactor, 0, str(keys), lambda name: destination, self.audit, idle)
        manhole.listen(self.folder / "host_key")
        self.addCleanup(lambda: Deferred.fromCoroutine(manhole.stop()))
        return manhole

    def command(self, manhole: Manhole, *options: str) -> list[str]:
        known = self.folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{manhole.port} {manhole.host_key}\n")
        return [
            *("ssh", *ssh.ALONE, "-o", f"UserKnownHostsFile={known}", "-i", str(self.key), "-p", str(manhole.port)),
            *(*options, "somebody@127.0.0.1"),
        ]

    @inlineCallbacks
    def test_who_types_nothing_has_to_go(self) -> Any:
        manhole = self.open(idle=1.0)
        done = yield deferToThread(_sit, self.command(manhole, "-tt"), ["answer\r", "", "", "answer\r"])
        status, shown = done
        self.assertEqual(status, 1)
        self.assertIn("42", shown)
        self.assertIn("Nothing was typed for 0.0166667 minutes: this session is over.", shown)
        self.assertEqual(manhole.visits, {})
        self.assertEqual([act["action"] for act in self.audit.acts], ["manhole.login", "manhole.logout"])
        # it was typed into after three quarters of a second, and went a second after that
        self.assertGreater(self.audit.acts[1]["target"]["seconds"], 1.4)

    @inlineCallbacks
    def test_who_wants_no_terminal_has_to_go_as_well(self) -> Any:
        manhole = self.open(idle=0.5)
        status, _ = yield deferToThread(_sit, self.command(manhole, "-N"), [])
        self.assertEqual(status, 255)
        self.assertEqual([act["action"] for act in self.audit.acts], ["manhole.login", "manhole.logout"])

    @inlineCallbacks
    def test_who_does_not_log_in_has_to_go(self) -> Any:
        from mechamap_rt.manhole import ssh as server

        self.patch(server, "LOGIN_LIMIT", 0.5)
        manhole = self.open()
        with socket.create_connection(("127.0.0.1", manhole.port), 10) as connection:
            yield deferToThread(_until_closed, connection)
        self.assertEqual(self.audit.acts, [])

    @inlineCallbacks
    def test_there_is_room_for_so_many_connections(self) -> Any:
        manhole = self.open()
        waiting = [socket.create_connection(("127.0.0.1", manhole.port), 10) for _ in range(MAX_CONNECTIONS)]
        try:
            yield deferToThread(lambda: [each.recv(8) for each in waiting])
            with socket.create_connection(("127.0.0.1", manhole.port), 10) as another:
                self.assertEqual((yield deferToThread(_until_closed, another)), b"")
            waiting.pop().close()
            yield deferLater(reactor, 0.1)
            done = yield deferToThread(ssh.run, self.command(manhole), "answer\n")
            self.assertEqual(done.stdout, "42\n")
        finally:
            for each in waiting:
                each.close()

    @inlineCallbacks
    def test_a_shell_that_is_not_opened(self) -> Any:
        async def never(descriptor: int) -> None:
            with socket.socket(fileno=descriptor):
                await Deferred()

        async def refuses(descriptor: int) -> None:
            socket.socket(fileno=descriptor).close()
            raise RuntimeError("it is not well")

        from mechamap_rt.manhole import visit

        self.patch(visit, "OPEN_LIMIT", 0.5)
        manhole = self.open()
        for come_in, said in ((never, "The test has opened no shell: no answer in time"), (refuses, "The test has")):
            destination = Destination("The test", {}, come_in)
            manhole._find = lambda name, destination=destination: destination
            done = yield deferToThread(ssh.run, self.command(manhole), "answer\n")
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn(said, done.stderr)
        self.flushLoggedErrors()

    @inlineCallbacks
    def test_who_reads_slowly_holds_up_what_he_reads(self) -> Any:
        """Much output in many pieces goes as fast as it is taken, and all of it."""
        manhole = self.open()
        shown = yield deferToThread(_slowly, self.command(manhole), ["print('x' * 60_000)\n"] * 50)
        # more than the 2 MB that OpenSSH takes without being read (CHAN_SES_WINDOW_DEFAULT)
        self.assertEqual(len(shown), 50 * 60_001)
        self.assertEqual(set(shown), {"x", "\n"})

    def test_strangers_cannot_fill_the_audit_log(self) -> None:
        clock = Clock()
        failures = _Failures(clock.seconds)
        clock.advance(1000)
        noted = [failures.one_more() for _ in range(MAX_FAILURES + 5)]
        self.assertEqual(sum(note for note, _ in noted), MAX_FAILURES)
        clock.advance(60)
        self.assertEqual(failures.one_more(), (True, 5))
        self.assertEqual(failures.one_more(), (True, 0))

    @inlineCallbacks
    def test_nor_by_trying_keys(self) -> Any:
        """A connection is one act, however many keys it tries."""
        self.patch(door, "MAX_FAILURES", 2)
        strangers = [ssh.make_key(self.folder, "ed25519", f"stranger{number}") for number in range(3)]
        manhole = self.open()
        command = self.command(manhole)
        at = command.index("-i")
        tried = [part for each in strangers for part in ("-i", str(each))]
        for _ in range(3):
            done = yield deferToThread(ssh.run, [*command[:at], *tried, *command[at + 2 :]])
            self.assertEqual(done.returncode, 255)
        targets = [act["target"] for act in self.audit.acts]
        self.assertEqual(targets, [{"user": "somebody", "tries": 3}] * 2)


def _sit(command: list[str], typed: list[str]) -> tuple[int, str]:
    """Type one text after the other, a quarter of a second apart, and wait for the end."""
    with ssh.Sitting(command) as sitting:
        if typed:
            sitting.until(">>> ")
        for text in typed:
            if text:
                sitting.type(text)
            time.sleep(0.25)
            if "over" in sitting.shown:
                break
        return sitting.ended(), sitting.shown


def _until_closed(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(4096):
            found += data
    return found


def _slowly(command: list[str], typed: list[str]) -> str:
    """Type one text after the other, read nothing of what they show for a second, and then all."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=inherited(), text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for text in typed:
            process.stdin.write(text)
            process.stdin.flush()
            time.sleep(0.01)
        process.stdin.close()
        time.sleep(1)
        return process.stdout.read()
