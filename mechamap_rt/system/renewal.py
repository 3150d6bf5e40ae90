"""A certificate that changes while the server runs: its files are watched, read, and what is in them taken when good.

Looking costs two ``stat`` a second; reading, parsing and trying is a thread's work. Programs replace the two files one
after the other, or write into them: they are read when they have been left alone, and what cannot be used then is
tried again for a moment before anybody is told.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from mechamap_rt.core.deferreds import shared
from mechamap_rt.interfaces import IReactor
from mechamap_rt.settings.credentials import CERTIFICATE, Credentials, CredentialsError, read
from mechamap_rt.settings.faults import Fault
from mechamap_rt.system.tls import make_context, reason

_log = Logger()

#: Seconds between two looks at the files.
LOOK: Final = 1.0
#: Seconds for which files that cannot be used are being written, perhaps.
PATIENCE: Final = 3.0
#: Seconds between two tries of files that cannot be used: time passes, and rights are given.
AGAIN: Final = 10.0
#: Seconds for which a change is news.
NEWS: Final = 60.0

Signature = tuple[tuple[int, ...], ...]


class Renewal:
    """The certificate of a server, and its successors.

    :param certificate: the path of the certificate; it and ``key`` may be symbolic links that are bent.
    :param taken: called with each successor.
    :param looked: called after each look.

    :ivar current: what is in use.
    :ivar fault: why what is in the files is not in use; empty when it is.
    """

    def __init__(
        self,
        reactor: IReactor,
        certificate: str,
        key: str,
        taken: Callable[[Credentials], object],
        looked: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._paths = certificate, key
        self._taken = taken
        self._looked = looked
        self._clock = clock
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self.current: Credentials | None = None
        self.fault = ""
        #: The files as they were when they were last read, and last used.
        self._seen: Signature = ()
        self._used: Signature = ()
        #: Since when they have not been used, and when they were last tried.
        self._since: float | None = None
        self._tried = -math.inf
        self._changed = -math.inf
        self._trying: Deferred[None] | None = None

    def begin(self) -> Credentials:
        """Read what there is at the start; blocks.

        :raises CredentialsError: it cannot be used.
        """
        self._seen = self._used = _signature(self._paths)
        self.current = _usable(*self._paths)
        return self.current

    def start(self) -> None:
        """Begin to watch."""
        self._looking.start(LOOK, now=True)

    async def stop(self) -> None:
        if self._looking.running:
            self._looking.stop()
        if self._trying is not None:
            await shared(self._trying)

    @property
    def news(self) -> bool:
        """Have the files changed lately, or since they were last used?"""
        lately = self._reactor.seconds() - self._changed < NEWS
        return lately or _signature(self._paths) != self._used

    async def look_now(self) -> None:
        """Take what is in the files now, or say at once why not."""
        if self._trying is not None:
            await shared(self._trying)
        self._notice(_signature(self._paths))
        await self._try(patient=False)

    async def elsewhere(self, certificate: str, key: str) -> Credentials:
        """What is in other files, to be used by :meth:`move`; in the same ones, what is good of them.

        :raises CredentialsError: it cannot be used.
        """
        if (certificate, key) == self._paths and self.current is not None:
            await self.look_now()
            return self.current
        return await self._in_thread(certificate, key)

    def move(self, certificate: str, key: str, credentials: Credentials) -> None:
        """Watch other files from now on, of which these are in use."""
        if (certificate, key) != self._paths:
            self._paths = certificate, key
            self._seen = self._used = _signature(self._paths)
            self._settled()
            self.current = credentials

    # looking

    def _look(self) -> None:
        signature = _signature(self._paths)
        if signature != self._seen:
            # not read before they have been left alone from one look to the next: half a chain may look like a whole
            self._notice(signature)
        elif self._trying is None and self._due():
            self._trying = Deferred.fromCoroutine(self._try(patient=True))
            self._trying.addErrback(lambda why: _log.failure("Looking at the certificate failed", why))
            self._trying.addBoth(self._tried_it)
        self._looked()

    def _tried_it(self, _: object) -> None:
        self._trying = None

    def _notice(self, signature: Signature) -> None:
        if signature != self._seen:
            self._seen = signature
            self._changed = self._reactor.seconds()
            self._since = self._changed

    def _due(self) -> bool:
        """Is it time to try again what could not be used?"""
        if self._since is None:
            return False
        now = self._reactor.seconds()
        return now - self._since <= PATIENCE or not self.fault or now - self._tried >= AGAIN

    async def _try(self, patient: bool) -> None:
        signature, paths, self._tried = self._seen, self._paths, self._reactor.seconds()
        try:
            found = await self._in_thread(*paths)
        except CredentialsError as error:
            if paths != self._paths:
                return
            began = self._tried if self._since is None else self._since
            if not patient or self._tried - began >= PATIENCE:
                self._refuse(str(error))
            self._since = began
            return
        if paths != self._paths:
            return
        if found == self.current:
            self._settled()
        elif self._untimely(found):
            self._refuse(f"{CERTIFICATE}: {self._untimely(found)}")
            return
        else:
            self.current = found
            self._settled()
            _log.info("New connections get the certificate of {subject} that is valid until {until}", **told(found))
            self._taken(found)
        self._used = signature

    def _in_thread(self, certificate: str, key: str) -> Deferred[Credentials]:
        reactor: Any = self._reactor
        return deferToThreadPool(reactor, reactor.getThreadPool(), _usable, certificate, key)

    def _untimely(self, found: Credentials) -> str:
        """Why a successor is worse than what there is, as far as time goes."""
        now = self._clock()
        if found.valid(now) or self.current is None or not self.current.valid(now):
            return ""
        return "has expired" if found.until <= now else "is not valid yet"

    def _settled(self) -> None:
        if self.fault:
            _log.info("The certificate in the files is in use")
        self._since, self.fault = None, ""

    def _refuse(self, fault: str) -> None:
        if self._since is None:
            self._since = self._reactor.seconds()
        if fault != self.fault:
            self.fault = fault
            _log.error("The certificate in the files is refused, the one before stays: {fault}", fault=fault)


def told(credentials: Credentials) -> dict[str, str]:
    """What a log may say of a certificate."""
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(credentials.until))
    return {"subject": credentials.subject, "until": until}


def _usable(certificate: str, key: str) -> Credentials:
    """What is in the files, tried."""
    found = read(certificate, key)
    try:
        make_context(found)
    except SSL.Error as error:
        raise CredentialsError([Fault(CERTIFICATE, f"is none that OpenSSL takes: {reason(error)}")]) from None
    return found


def _signature(paths: tuple[str, str]) -> Signature:
    """What differs when the files are replaced, written to, or given other rights."""
    return tuple(map(_stat, paths))


def _stat(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
