"""Acts of an operator on this host, for the audit log: what ``mechamapctl`` asks for, and signals."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from twisted.internet.defer import CancelledError

from mechamap_rt.errors import OperationFault
from mechamap_rt.interfaces import IAuditLog
from mechamap_rt.system.audit import Actor

#: Commands that change something, and what they are called as acts; ``publish`` without its data.
ACTS: Final[Mapping[str, str]] = {
    "disconnect": "connections.disconnect",
    "drain": "workers.drain",
    "log-level": "server.log_level",
    "publish": "channels.publish",
    "reload": "server.reload",
    "restart": "workers.restart",
    "scale": "workers.scale",
}
RELOAD: Final = ACTS["reload"]
#: Why nobody gets into the processes.
NO_MANHOLE: Final = "There is no manhole: it takes MANHOLE_ENABLED and MANHOLE_AUTHORIZED_KEYS"
#: Who signals is not known: the kernel tells a handler of Python's nothing of it.
BY_SIGNAL: Final = Actor("signal", "SIGHUP")

#: Codes of what was tried and has not worked; by any other an operator is refused.
_FAILED: Final = frozenset(("FAILED", "NO_WORKER"))
#: ``struct ucred`` of unix(7): process, user, group.
_CREDENTIALS: Final = struct.Struct("3i")


def act_of(command: str, asked: Mapping[str, Any]) -> str | None:
    """What a command is called as an act; ``None`` for one that changes nothing."""
    return None if command == "log-level" and asked.get("level") is None else ACTS.get(command)


def operator_of(connection: socket.socket) -> Actor:
    """Who is at the other end of a unix socket: as the kernel knows it (``SO_PEERCRED``), not as it says itself."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return Actor("operator", None, uid, pid)


@contextmanager
def noted(audit: IAuditLog, actor: Actor, action: str, target: Mapping[str, Any]) -> Iterator[None]:
    """Note what comes of the block."""
    try:
        yield
    except OperationFault as fault:
        audit.note(actor, action, target, "failed" if fault.code in _FAILED else "refused", code=fault.code)
        raise
    except BaseException as error:
        code = "CANCELLED" if isinstance(error, CancelledError | GeneratorExit) else "SERVER_ERROR"
        audit.note(actor, action, target, "failed", code=code)
        raise
    audit.note(actor, action, target, "ok")
