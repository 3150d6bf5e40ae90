"""A certificate that changes: when it is taken, when it is refused, and that it is taken when it has become good."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mechamap_rt.settings.credentials import Credentials, CredentialsError
from mechamap_rt.system.renewal import AGAIN, LOOK, NEWS, PATIENCE, Renewal
from tests.certificates import Authority, Installed, ec_key, pem


class Instant(Clock):
    """A reactor whose threads have done their work at once."""

    def getThreadPool(self) -> Instant:
        return self

    def callInThreadWithCallback(self, done: Callable[[bool, Any], None], work: Any, *given: Any) -> None:
        from twisted.python.failure import Failure

        try:
            result = work(*given)
        except Exception:
            done(False, Failure())
        else:
            done(True, result)

    def callFromThread(self, call: Any, *given: Any) -> None:
        call(*given)


class RenewalTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.authority = Authority(folder)
        self.first = self.authority.sign("first")
        self.files = Installed(folder / "tls", *self.first)
        self.taken: list[str] = []
        self.now = time.time()
        self.reactor = Instant()
        reactor: Any = self.reactor
        self.renewal = Renewal(
            reactor, str(self.files.certificate), str(self.files.key), self.take, clock=lambda: self.now
        )
        self.renewal.begin()
        self.renewal.start()
        self.addCleanup(lambda: self.done(self.renewal.stop()))

    def take(self, credentials: Credentials) -> None:
        self.taken.append(credentials.subject)

    def done(self, work: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(work))

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / LOOK)):
            self.now += LOOK
            self.reactor.advance(LOOK)

    def test_a_successor_is_taken_when_its_files_are_left_alone(self) -> None:
        self.wait(5)
        self.assertEqual((self.taken, self.renewal.news), ([], False))
        self.files.renew(*self.authority.sign("second"))
        self.assertTrue(self.renewal.news)
        self.wait(1)
        self.assertEqual(self.taken, [])
        self.wait(1)
        self.assertEqual(self.taken, ["second"])
        self.wait(NEWS - 3)
        self.assertTrue(self.renewal.news)
        self.wait(3)
        self.assertEqual((self.taken, self.renewal.news, self.renewal.fault), (["second"], False, ""))

    def test_one_file_after_the_other(self) -> None:
        certificate, key = self.authority.sign("second")
        self.files.renew(certificate=certificate)
        self.wait(PATIENCE - 1)
        self.assertEqual((self.taken, self.renewal.fault), ([], ""), "it may still be on its way")
        self.files.renew(key=key)
        self.wait(2)
        self.assertEqual((self.taken, self.renewal.fault), (["second"], ""))

    def test_what_does_not_belong_together_is_refused_and_taken_when_it_does(self) -> None:
        certificate, key = self.authority.sign("second")
        self.files.renew(certificate=certificate)
        self.wait(PATIENCE + 1)
        self.assertIn("SSL_KEY_PATH: must be the path of the key of the first certificate", self.renewal.fault)
        assert self.renewal.current is not None
        self.assertEqual((self.taken, self.renewal.current.subject), ([], "first"))
        self.files.renew(key=key)
        self.wait(2)
        self.assertEqual((self.taken, self.renewal.fault), (["second"], ""))

    def test_a_file_that_is_written_to_in_its_place(self) -> None:
        certificate, key = self.authority.sign("second")
        self.files.renew(certificate[: len(certificate) // 2], key)
        self.wait(1)
        os.truncate(self.files.certificate, 0)
        self.wait(1)
        self.files.certificate.resolve().write_bytes(certificate)
        self.wait(2)
        self.assertEqual((self.taken, self.renewal.fault), (["second"], ""))

    def test_a_file_that_is_gone_comes_back(self) -> None:
        self.files.key.unlink()
        self.wait(PATIENCE + 1)
        self.assertIn("must be the path of a file that exists", self.renewal.fault)
        self.files.renew(key=self.first[1])
        self.wait(2)
        self.assertEqual((self.taken, self.renewal.fault), ([], ""), "the same as before is nothing new")

    def test_an_expired_one_does_not_follow_a_good_one(self) -> None:
        self.files.renew(*self.authority.sign("old", since=-timedelta(days=9), until=-timedelta(days=1)))
        self.wait(PATIENCE + 1)
        self.assertEqual((self.taken, self.renewal.fault), ([], "SSL_CERT_PATH: has expired"))

    def test_an_early_one_is_taken_when_its_time_has_come(self) -> None:
        self.files.renew(*self.authority.sign("early", since=timedelta(seconds=30)))
        self.wait(PATIENCE + 1)
        self.assertEqual((self.taken, self.renewal.fault), ([], "SSL_CERT_PATH: is not valid yet"))
        self.wait(30 + AGAIN)
        self.assertEqual((self.taken, self.renewal.fault), (["early"], ""))

    def test_who_has_expired_takes_what_there_is(self) -> None:
        self.now += timedelta(days=91).total_seconds()
        self.files.renew(*self.authority.sign("expired too"))
        self.wait(2)
        self.assertEqual(self.taken, ["expired too"])

    def test_looking_now_takes_or_refuses_at_once(self) -> None:
        certificate, key = self.authority.sign("second")
        self.files.renew(certificate, pem(ec_key()))
        self.done(self.renewal.look_now())
        self.assertIn("SSL_KEY_PATH", self.renewal.fault)
        self.files.renew(key=key)
        self.done(self.renewal.look_now())
        self.assertEqual((self.taken, self.renewal.fault), (["second"], ""))

    def test_other_files(self) -> None:
        other = Installed(self.files.certificate.parent / "other", *self.authority.sign("elsewhere"))
        paths = str(other.certificate), str(other.key)
        found = self.done(self.renewal.elsewhere(*paths))
        self.renewal.move(*paths, found)
        assert self.renewal.current is not None
        self.assertEqual(self.renewal.current.subject, "elsewhere")
        self.files.renew(*self.authority.sign("nobody looks"))
        other.renew(*self.authority.sign("there"))
        self.wait(2)
        self.assertEqual(self.taken, ["there"])
        other.key.unlink()
        failing = Deferred.fromCoroutine(self.renewal.elsewhere(*paths))
        self.assertEqual(self.successResultOf(failing).subject, "there", "what is good goes on")
        gone = Deferred.fromCoroutine(self.renewal.elsewhere("/nowhere", "/nowhere"))
        self.failureResultOf(gone, CredentialsError)
