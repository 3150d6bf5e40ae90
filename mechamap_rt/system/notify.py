"""Telling the service manager how the server is: the protocol of ``sd_notify(3)``, without libsystemd."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Notifier:
    """Sends the state of the service to systemd. Never raises and never waits; without a manager does nothing.

    :param environ: with ``NOTIFY_SOCKET`` (a path, or ``@`` and a name in the abstract namespace), ``WATCHDOG_USEC``
        and ``WATCHDOG_PID``. It is only read: who starts children must leave the three out of their environment.
    :param clock: ``CLOCK_MONOTONIC`` in nanoseconds.
    """

    def __init__(self, environ: Mapping[str, str], clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._next: IDelayedCall | None = None
        #: Seconds between two calls of :meth:`watchdog`: half of what the manager allows, as sd_watchdog_enabled(3)
        #: recommends. None when it watches nothing, or another process.
        self.watchdog_interval = _watchdog(environ) if self._address else None

    @property
    def configured(self) -> bool:
        """Whether somebody listens."""
        return bool(self._address)

    def ready(self) -> None:
        """The service is up, or has reloaded."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The service has begun to stop; ends :meth:`watch_over`."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """The service has begun to reload; :meth:`ready` ends it (``Type=notify-reload``)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={self._clock() // 1000}")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send("STATUS=" + " ".join(text.split()))

    def watchdog(self) -> None:
        """The service is alive."""
        self._send("WATCHDOG=1")

    def watch_over(self, reactor: IReactorTime, healthy: Callable[[], object] = lambda: True) -> None:
        """Call :meth:`watchdog` as often as the manager wants, from now on.

        :param healthy: asked each time; while it is not true the manager is told nothing, and ends the service.
        """
        if self.watchdog_interval is not None:
            if healthy():
                self.watchdog()
            self._next = reactor.callLater(self.watchdog_interval, self.watch_over, reactor, healthy)

    def main_pid(self, pid: int) -> None:
        """The service's main process is now ``pid``."""
        self._send(f"MAINPID={pid}")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            ) as sender:
                sender.sendto(state.encode("utf-8", "replace"), self._address)
        except OSError:
            pass  # a manager that is gone or slow is no reason for the service to be


def _address(text: str) -> bytes:
    """What to send to, as in ``struct sockaddr_un``; empty for none, and for the kinds that no unit has."""
    if text.startswith("@"):
        return b"\0" + os.fsencode(text[1:])
    return os.fsencode(text) if text.startswith("/") else b""


def _watchdog(environ: Mapping[str, str]) -> float | None:
    pid, microseconds = environ.get("WATCHDOG_PID", ""), environ.get("WATCHDOG_USEC", "")
    if pid and pid != str(os.getpid()):
        return None
    if not microseconds.isascii() or not microseconds.isdigit() or not int(microseconds):
        return None
    return int(microseconds) / 2_000_000
