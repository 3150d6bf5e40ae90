"""The door of Engine.IO: handshakes over both transports, and the sessions there are."""

from __future__ import annotations

from mechamap_rt.core.outbox import Turn
from mechamap_rt.errors import Disconnect
from mechamap_rt.transport.enginesession import EngineSession
from mechamap_rt.transport.handshake import Denied, Handshake, Origins, enter
from mechamap_rt.transport.lobby import Lobby
from mechamap_rt.transport.upgrade import Probe
from mechamap_rt.transport.websocket import Accepted, Pipe
from mechamap_rt.wire import engineio, json
from mechamap_rt.wire.engineio import Refusal


class EngineDoor:
    """Makes Engine.IO sessions and finds them again; all times are seconds.

    :param connect_timeout: to join a namespace in; ``inf`` is no limit.
    :param transports: those on offer, of ``websocket`` and ``polling``.
    :param namespaces: the Socket.IO namespaces that exist.
    :ivar draining: no session is opened any more.
    :ivar sessions: by ``sid``.
    """

    def __init__(
        self,
        lobby: Lobby,
        turn: Turn,
        origins: Origins,
        *,
        ping_interval: float,
        ping_timeout: float,
        connect_timeout: float,
        upgrade_timeout: float,
        max_payload: int,
        transports: tuple[str, ...],
        namespaces: frozenset[str] = frozenset(("/",)),
    ) -> None:
        self.lobby = lobby
        self.turn = turn
        self.origins = origins
        self.ping_interval = ping_interval
        self.ping_timeout = ping_timeout
        self.connect_timeout = connect_timeout
        self.upgrade_timeout = upgrade_timeout
        self.max_payload = max_payload
        self.transports = transports
        self.namespaces = namespaces
        self.draining = False
        self.sessions: dict[str, EngineSession] = {}

    def refusal(self, handshake: Handshake, transport: str) -> Refusal | None:
        """Why a request over ``transport`` is refused before anybody looks at its session, if it is."""
        query = handshake.query
        if query.get("transport") not in self.transports:
            return engineio.UNKNOWN_TRANSPORT
        session = self.sessions.get(query.get("sid", ""))
        revision = engineio.REVISIONS.get(query.get("EIO", ""))
        if session is not None and session.revision is not revision:
            return engineio.BAD_REQUEST
        if revision is None:
            return engineio.UNSUPPORTED_VERSION
        if query["transport"] != transport:
            return engineio.BAD_REQUEST
        if "j" in query:
            return engineio.NO_JSONP
        if not self.origins.allows(handshake.headers):
            return engineio.FORBIDDEN
        return None

    def accept(self, pipe: Pipe, handshake: Handshake) -> Accepted:
        """A WebSocket handshake: a new session, or the upgrade of one."""
        refusal = self.refusal(handshake, "websocket")
        sid = handshake.query.get("sid")
        if refusal is None and sid is not None:
            session = self.sessions.get(sid)
            if session is None:
                refusal = engineio.UNKNOWN_SID
            elif session.may_upgrade:
                return Accepted(Probe(session, pipe), None)
            else:
                refusal = engineio.BAD_REQUEST
        if refusal is not None:
            raise Denied(refusal.status, refusal.body())
        return Accepted(self._open(handshake, pipe), None)

    def open_polling(self, handshake: Handshake) -> tuple[EngineSession, bytes]:
        """A polling handshake: a new session, and the payload that opens it."""
        session = self._open(handshake, None)
        packet = session.greeting()
        session.begin()
        return session, engineio.encode_payload([packet], session.revision)

    def _open(self, handshake: Handshake, pipe: Pipe | None) -> EngineSession:
        if self.draining:
            body = {"success": False, "error": "UNAVAILABLE", "message": "The server is going down"}
            raise Denied(503, json.encode(body), (("Retry-After", "1"),))
        session = EngineSession(self, handshake, pipe, enter(self.lobby, handshake))
        self.sessions[session.sid] = session
        return session

    def polling(self) -> list[EngineSession]:
        """The sessions over long polling; they are known until their clients have asked them to the end."""
        return [session for session in self.sessions.values() if session.polling]

    def dismiss_all(self, reason: Disconnect) -> None:
        """End every session."""
        for session in tuple(self.sessions.values()):
            session.finish(reason)
