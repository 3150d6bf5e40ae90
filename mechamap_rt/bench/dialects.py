"""The three wires that a benchmark client speaks, from connect to subscribed.

A dialect is asked what to say at each message of the server until the connection is ready; after that the
client only counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import orjson

from mechamap_rt.bench.job import BenchError, DialectName


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is and what it wants.

    :ivar token: the JWT.
    :ivar channel: the channel to subscribe to; ``None`` to stay at the user's own.
    """

    token: str
    channel: str | None


class Refused(BenchError):
    """The server refused the connection or the subscription.

    :ivar said: its message, if it was one.
    """

    def __init__(self, words: str, said: bytes = b"") -> None:
        super().__init__(words)
        self.said = said


class Dialect(Protocol):
    """One wire. Stateless: a connection's progress shows in what the server says."""

    path: str
    headers: tuple[tuple[str, str], ...]

    def opening(self, who: Identity) -> bytes | None:
        """What the client says first, if it speaks first."""
        ...

    def advance(self, message: bytes, who: Identity) -> tuple[bytes | None, bool]:
        """What to say to a message of the handshake, and whether the connection is ready.

        :raises Refused: if the message is a refusal.
        """
        ...


class SocketIO:
    """Engine.IO 4 and Socket.IO 5 over WebSocket."""

    path = "/socket.io/?EIO=4&transport=websocket"
    headers: tuple[tuple[str, str], ...] = ()

    def opening(self, who: Identity) -> bytes | None:
        return None

    def advance(self, message: bytes, who: Identity) -> tuple[bytes | None, bool]:
        if message.startswith(b"0{"):
            return b"40" + orjson.dumps({"token": who.token}), False
        if message.startswith(b"40"):
            if who.channel is None:
                return None, True
            return b"42" + orjson.dumps(["subscribe", {"channel": who.channel}]), False
        if message.startswith(b'42["subscribed"'):
            return None, True
        if message.startswith((b"44", b"41", b'42["subscription_error"', b'42["connection_rejected"')):
            raise Refused(f"the server said {message[:200]!r}", message)
        return (b"3" if message == b"2" else None), False


class Native:
    """The protocol ``mechamap.v1.json`` (docs/protocols.rst)."""

    path = "/ws"
    headers: tuple[tuple[str, str], ...] = (("Sec-WebSocket-Protocol", "mechamap.v1.json"),)

    def opening(self, who: Identity) -> bytes | None:
        return orjson.dumps({"type": "auth", "id": 1, "token": who.token})

    def advance(self, message: bytes, who: Identity) -> tuple[bytes | None, bool]:
        answer = orjson.loads(message)
        kind = answer.get("type")
        if kind == "error":
            raise Refused(f"the server said {message[:200]!r}", message)
        if kind == "connected":
            if who.channel is None:
                return None, True
            return orjson.dumps({"type": "subscribe", "id": 2, "channel": who.channel}), False
        return None, kind == "reply" and answer.get("id") == 2


class Bare:
    """The send loop: connected is subscribed. Its events look like Socket.IO's."""

    path = "/"
    headers: tuple[tuple[str, str], ...] = ()

    def opening(self, who: Identity) -> bytes | None:
        return None

    def advance(self, message: bytes, who: Identity) -> tuple[bytes | None, bool]:
        return None, True


_SOCKETIO: Final = SocketIO()

#: Over long polling the packets are Socket.IO's too; :mod:`mechamap_rt.bench.poller` carries them.
DIALECTS: Final[dict[DialectName, Dialect]] = {
    "socketio": _SOCKETIO,
    "native": Native(),
    "polling": _SOCKETIO,
    "bare": Bare(),
}
