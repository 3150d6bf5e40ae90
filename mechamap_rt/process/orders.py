"""What the master and a worker say to each other: AMP commands (https://amp-protocol.net/), typed.

The stream is a socket pair that the worker inherits. When it ends, the other side is gone.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.protocol import connectionDone
from twisted.protocols import amp
from twisted.python.failure import Failure

#: Bytes of one AMP value; longer ones are cut.
_PIECE: Final = 0xFFFF


class Long(amp.Argument):
    """Bytes of any length, in several values where one is too short."""

    def toBox(self, name: bytes, strings: dict[bytes, bytes], objects: dict[str, Any], proto: Any) -> None:
        value: bytes = objects.pop(name.decode())
        for number in range(0, max(len(value), 1), _PIECE):
            strings[_key(name, number // _PIECE)] = value[number : number + _PIECE]

    def fromBox(self, name: bytes, strings: dict[bytes, bytes], objects: dict[str, Any], proto: Any) -> None:
        pieces: list[bytes] = []
        while (key := _key(name, len(pieces))) in strings:
            pieces.append(strings.pop(key))
        objects[name.decode()] = b"".join(pieces)


def _key(name: bytes, number: int) -> bytes:
    return name if not number else b"%b.%d" % (name, number)


class Stream(amp.AMP):
    """One end of the stream; the log does not hear of its beginning and end."""

    def makeConnection(self, transport: Any) -> None:
        amp.BinaryBoxProtocol.makeConnection(self, transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        amp.BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None


class Refused(Exception):
    """An operation that cannot be done; ``str()`` is JSON: ``code``, ``message``, and ``field`` where one is wrong."""


# worker → master


class Hello(amp.Command):
    """The worker has built everything and waits to be joined with the others."""

    arguments = [(b"version", amp.Unicode())]


class Beat(amp.Command):
    """A sign of life, with figures (JSON)."""

    arguments = [(b"figures", amp.String())]
    requiresAnswer = False


class Steer(amp.Command):
    """An operator asks this of the master, by way of the worker's HTTP port."""

    arguments = [(b"command", amp.Unicode()), (b"asked", Long())]
    response = [(b"answer", Long())]
    errors = {Refused: b"REFUSED"}


# master → worker


class Tell(amp.Command):
    """Facts about the host (a JSON object), which take the place of those of the same name."""

    arguments = [(b"facts", Long())]
    requiresAnswer = False


class Meet(amp.Command):
    """Here is a stream to another worker of this host."""

    arguments = [(b"name", amp.Unicode()), (b"stream", amp.Descriptor())]


class Attend(amp.Command):
    """Here is a stream to somebody who has come by the manhole (:mod:`mechamap_rt.manhole.stream`)."""

    arguments = [(b"stream", amp.Descriptor())]


class Certify(amp.Command):
    """New connections get this certificate, with its chain, and this key (PEM)."""

    arguments = [(b"certificate", Long()), (b"key", Long())]
    response = [(b"fault", amp.Unicode())]


class Level(amp.Command):
    """Log from these levels on (JSON, see :class:`~mechamap_rt.system.loglevels.Levels`)."""

    arguments = [(b"levels", amp.String())]


class Accept(amp.Command):
    """Take clients."""


class Drain(amp.Command):
    """Take no more clients, let those who are there go over so many seconds, and end."""

    arguments = [(b"seconds", amp.Float())]
    response = [(b"dismissed", amp.Integer())]


class Stop(amp.Command):
    """Let everybody go now, and end."""

    requiresAnswer = False


class Operate(amp.Command):
    """Do what an operator asks (see :mod:`mechamap_rt.process.operations`)."""

    arguments = [(b"command", amp.Unicode()), (b"asked", Long())]
    response = [(b"answer", Long())]
    errors = {Refused: b"REFUSED"}
