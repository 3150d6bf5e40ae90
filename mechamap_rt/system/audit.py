"""The audit log: who has done what to the server, from where, when, and what came of it.

One JSON object on a line, in a file of its own:

.. code-block:: json

   {"time": "2026-11-23T10:30:00.000Z", "actor": {"kind": "admin_key", "id": "9f86d081"},
    "action": "connections.disconnect", "target": {"user_id": 5}, "address": "203.0.113.7", "request": "4f2a09c1",
    "outcome": "ok", "code": null, "worker": "a7z001"}

``actor.kind`` is ``admin_key`` or ``api_key`` (``id``: the first eight hexadecimal digits of the key's SHA-256),
``jwt`` (``id``: the user's), ``operator`` (``mechamapctl``: with ``uid`` and ``pid``) or ``signal``. ``outcome`` is
``ok``, ``refused`` (``code`` says why) or ``failed``.

To note an act of an HTTP endpoint: :class:`mechamap_rt.http.audit.Acts`. Of an operator: what
:mod:`mechamap_rt.process.control` counts as an act. Of anything else: :meth:`AuditLog.note`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from twisted.logger import Logger
from zope.interface import implementer

from mechamap_rt.interfaces import IAuditLog
from mechamap_rt.settings import Settings
from mechamap_rt.system.linefile import LineFile
from mechamap_rt.system.linewriter import LineWriter, cannot
from mechamap_rt.wire import json

_log = Logger()

#: Acts that wait for the disk; more are dropped, and counted.
MAX_WAITING: Final = 1_000
#: Bytes of a line, more than any has.
MAX_LINE: Final = 16_384
#: Of what an act was done to: members, and characters of each.
MAX_MEMBERS: Final = 16
MAX_TEXT: Final = 256
#: The file's name where no other is set.
DEFAULT_NAME: Final = "audit.log"

Outcome = Literal["ok", "refused", "failed"]


class Actor(NamedTuple):
    """Who acts.

    :ivar kind: see the module.
    :ivar ident: the user's id or the key's fingerprint; never the key.
    :ivar uid: of the process that asks, and ``pid``, where it is one on this host.
    """

    kind: str
    ident: int | str | None = None
    uid: int | None = None
    pid: int | None = None

    def members(self) -> dict[str, Any]:
        found: dict[str, Any] = {"kind": self.kind, "id": self.ident}
        return found if self.uid is None else found | {"uid": self.uid, "pid": self.pid}


class AuditError(Exception):
    """The audit log cannot be opened; the text is a sentence for the operator."""


@implementer(IAuditLog)
class AuditLog:
    """Takes acts on the reactor's thread, and writes them on one of its own.

    :param file: ``None`` for no audit log.
    :param worker: the name of this process.
    :param clock: seconds since the epoch.
    """

    def __init__(self, reactor: Any, file: LineFile | None, worker: str, clock: Callable[[], float]) -> None:
        self._file = file
        self._worker = worker
        self._clock = clock
        self._writer = LineWriter(reactor, file, "audit", self._said, MAX_WAITING, MAX_WAITING * MAX_LINE)
        self._ending = False
        self._dropped = 0

    def start(self, required: bool) -> None:
        """Open the file, and take what is noted.

        :param required: a file that cannot be opened is an error; otherwise it is tried again with each act.
        :raises AuditError: it cannot be opened, and is required.
        """
        if self._file is None:
            return
        try:
            self._file.open()
        except OSError as error:
            if required:
                raise AuditError(fault_of(self._file, error)) from None
            self._writer.tell(cannot(error))
        self._writer.start()

    def move(self, file: LineFile | None) -> None:
        """Write to another file from now on."""
        self._file = file
        self._writer.move(file)

    async def stop(self) -> None:
        """Take nothing more, and wait until what was noted is written, for half a second at most."""
        self._ending = True
        count = await self._writer.stop()
        if count:
            _log.error("The audit log: {count} acts are not written", count=count)

    # noting

    def note(
        self,
        actor: Actor,
        action: str,
        target: Mapping[str, Any],
        outcome: Outcome,
        *,
        code: str | None = None,
        address: str | None = None,
        request: str | None = None,
    ) -> None:
        """As :class:`~mechamap_rt.interfaces.IAuditLog` says."""
        if self._file is None or self._ending:
            return
        record = {
            "time": json.timestamp(self._clock()),
            "actor": actor.members(),
            "action": action,
            "target": _fitting(target),
            "address": address or None,
            "request": request,
            "outcome": outcome,
            "code": code,
            "worker": self._worker,
        }
        try:
            line = json.encode(record)
        except TypeError:
            line = json.encode(record | {"target": None})
        self._put(line + b"\n")

    def _put(self, line: bytes) -> None:
        if not self._writer.put(line):
            self._dropped += 1
            if self._dropped == 1:
                _log.error("The audit log does not keep up: from now on acts are dropped")
        elif self._dropped and self._writer.waiting <= MAX_WAITING / 2:
            dropped, self._dropped = self._dropped, 0
            _log.error("The audit log keeps up again: {dropped} acts were dropped", dropped=dropped)
            self.note(Actor("server"), "audit.dropped", {"acts": dropped}, "failed")

    def _said(self, fault: str | None) -> None:
        """The file cannot be written any more, for this reason, or can again."""
        if fault is None:
            _log.info("The audit log is written again")
        else:
            path = "" if self._file is None else str(self._file.path)
            _log.error("The audit log {path} {fault}; it is tried again", path=path, fault=fault)


def audit_file(settings: Settings, environ: Mapping[str, str]) -> LineFile | None:
    """The file of these settings, not open yet; ``None`` where there shall be none.

    :param environ: ``LOGS_DIRECTORY`` is systemd's; several are joined by colons, and the first counts.
    """
    audit = settings.audit
    if audit.off:
        return None
    directory = Path(environ.get("LOGS_DIRECTORY", "").partition(":")[0])
    path = Path(audit.file) if audit.file else directory / DEFAULT_NAME
    return LineFile(path.absolute(), audit.max_size, audit.max_files)


def fault_of(file: LineFile, error: OSError) -> str:
    """Why a start without this file is refused: a sentence for the operator."""
    return f"AUDIT_LOG_FILE: {file.path} {cannot(error)}"


def _fitting(target: Mapping[str, Any]) -> dict[str, Any]:
    """What an act was done to, of a size that fits a line: whoever asks may write much."""
    return {str(name)[:MAX_TEXT]: _short(value) for name, value in list(target.items())[:MAX_MEMBERS]}


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
    if value is None or isinstance(value, bool | int | float):
        return value
    return _short(repr(value))
