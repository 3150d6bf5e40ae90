"""The lobby: from a token to a connection, and out again. The same for every protocol."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from mechamap_rt.bus.node import Node
from mechamap_rt.commands.dispatch import Dispatcher
from mechamap_rt.commands.typing import Typing
from mechamap_rt.core import channels
from mechamap_rt.core.connection import Connection, Encoder, State
from mechamap_rt.core.identity import Identity
from mechamap_rt.core.limits import Buckets
from mechamap_rt.core.outbox import Outbox
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.errors import EXPIRED, AuthRefused, Disconnect, Unavailable
from mechamap_rt.interfaces import IAuthenticator, ISessionStore
from mechamap_rt.presence.presence import Presence
from mechamap_rt.wire import json
from mechamap_rt.wire.forwarded import household

_log = Logger()

#: Lines about rejected connections that the log gets a minute.
LINES_PER_MINUTE: Final = 60
#: How many transports over a limit may be in at once to be told why; more are refused at the handshake.
MAX_TOLD: Final = 16
#: How often a client is let in while its own rights are taken away.
MAX_ATTEMPTS: Final = 3
#: Characters of the ids of sessions and connections; the first ones are the name of the process they are in.
ID_LENGTH: Final = 20


class Rejected(Exception):
    """A user who may connect in principle may not connect now."""

    def __init__(self, reason: Disconnect) -> None:
        super().__init__(reason.message)
        self.reason = reason


class Visit:
    """A transport that has come in: the store has let it, or found it over a limit, or has not answered yet.

    :ivar over: the limit, as far as it is known.
    :ivar gone: has the transport gone again?
    """

    __slots__ = ("_lobby", "_waiting", "address", "gone", "over")

    def __init__(self, lobby: Lobby, address: str) -> None:
        self._lobby = lobby
        self._waiting: list[Deferred[Disconnect | None]] | None = []
        self.address = address
        self.over: Disconnect | None = None
        self.gone = False

    def settle(self, over: Disconnect | None) -> None:
        """The store has answered."""
        self.over = over
        waiting, self._waiting = self._waiting, None
        for verdict in waiting or ():
            verdict.callback(over)

    def verdict(self) -> Deferred[Disconnect | None]:
        """Fires with :attr:`over` as soon as it is known."""
        if self._waiting is None:
            return succeed(self.over)
        verdict: Deferred[Disconnect | None] = Deferred()
        self._waiting.append(verdict)
        return verdict

    def leave(self) -> None:
        """The transport has gone."""
        self._lobby.see_out(self)


class Lobby:
    """Admits authenticated clients and sees them out.

    :param clock: seconds since the epoch.
    :param came: called with every connection that has been let in.
    :param left: called with every connection that has ended.
    """

    def __init__(
        self,
        *,
        node: Node,
        dispatcher: Dispatcher,
        authenticator: IAuthenticator,
        store: ISessionStore,
        typing: Typing,
        presence: Presence,
        wheel: Wheel,
        clock: Callable[[], float],
        came: Callable[[Connection], object] = lambda connection: None,
        left: Callable[[Connection], object] = lambda connection: None,
    ) -> None:
        self.node = node
        self.dispatcher = dispatcher
        self.store = store
        self._told: Counter[str] = Counter()
        self.wheel = wheel
        self.clock = clock
        #: Everybody is leaving: nobody needs to be told that one more has.
        self.closing = False
        self._lines = Buckets(LINES_PER_MINUTE, time.monotonic)
        self._authenticator = authenticator
        self._typing = typing
        self._presence = presence
        self._came = came
        self._left = left

    def new_id(self) -> str:
        """An unguessable id, for sessions and connections, that names this process."""
        name = self.node.name
        return name + secrets.token_urlsafe(ID_LENGTH)[: ID_LENGTH - len(name)]

    # transports

    def enter(self, address: str) -> Visit:
        """Count a transport in.

        :raises Rejected: so many are over a limit already that telling one more is too dear.
        """
        for subject, reason in (("", Disconnect.GLOBAL_LIMIT), (household(address), Disconnect.THROTTLED)):
            if self._told.get(subject, 0) >= MAX_TOLD:
                self.node.counts.refusals[reason.reason] += 1
                raise Rejected(reason)
        visit = Visit(self, address)
        self.store.enter(household(address)).addCallback(self._entered, visit)
        return visit

    def _entered(self, over: Disconnect | None, visit: Visit) -> None:
        if over is not None and not visit.gone:
            self._told[_subject(over, visit)] += 1
        visit.settle(over)

    def see_out(self, visit: Visit) -> None:
        visit.gone = True
        self.store.leave(household(visit.address))
        if visit.over is not None:
            subject = _subject(visit.over, visit)
            self._told[subject] -= 1
            if not self._told[subject]:
                del self._told[subject]

    # connections

    async def let_in(
        self,
        visit: Visit,
        token: str | None,
        *,
        ident: str,
        encoder: Encoder,
        outbox: Callable[[], Outbox],
        end: Callable[[Disconnect], None],
        wanted: Callable[[], bool],
    ) -> Connection | None:
        """The connection of the user whose token this is, subscribed to the user's own channel.

        :param ident: the connection's id.
        :param end: ends the connection, given the reason; called at most once.
        :param wanted: is the client still there?
        :returns: ``None`` when it is not.
        :raises AuthRefused: the token is not good.
        :raises Unavailable: it cannot be found out now whether it is.
        :raises Rejected: a limit is reached.
        """
        for _ in range(MAX_ATTEMPTS):
            era = self._authenticator.era
            identity = await self._identify(token)
            reason = await visit.verdict() or await self.store.admit(identity.user_id)
            if reason is not None:
                self._rejected(identity, visit.address, reason)
                raise Rejected(reason)
            if not wanted():
                self.store.dismiss(identity.user_id)
                return None
            if not self._authenticator.overtaken(identity, era):
                break
            # rights of this one have been taken away meanwhile, who was not connected yet
            self.store.dismiss(identity.user_id)
        else:
            raise Unavailable("the user's rights are taken away again and again")
        connection = Connection(ident, identity, encoder, outbox(), visit.address, self.clock(), end)
        self.node.join(connection)
        self.node.counts.connects[encoder.protocol, connection.outbox.transport_name] += 1
        self._presence.arrive(connection)
        await self.node.subscribe(connection, channels.parse(own_channel(identity)))
        if connection.state is not State.ACTIVE or not wanted():
            self.leave(connection, Disconnect.GOING_AWAY)
            return None
        self.extend(connection)
        self._came(connection)
        _log.debug(
            "Connected by {protocol} from {address}",
            protocol=encoder.protocol,
            address=visit.address,
            connection=ident,
            user=identity.user_id,
        )
        return connection

    async def _identify(self, token: str | None) -> Identity:
        """Whose token it is, counted by what kind of token it is and what came of it."""
        counts, method = self.node.counts, method_of(token)
        try:
            identity = await self._authenticator.authenticate(token)
        except AuthRefused as refused:
            result = "expired" if refused.reason == EXPIRED else "refused"
            counts.authentications[method, result] += 1
            counts.refusals[Disconnect.AUTH_FAILED.reason] += 1
            raise
        except Unavailable:
            counts.authentications[method, "unavailable"] += 1
            counts.refusals["unavailable"] += 1
            raise
        counts.authentications[method, "accepted"] += 1
        return identity

    def _rejected(self, identity: Identity, address: str, reason: Disconnect) -> None:
        """Say in the log that somebody was sent away; a flood of them says it a few times a minute."""
        self.node.counts.refusals[reason.reason] += 1
        if not self._lines.take("rejected"):
            _log.info(
                "Rejected user {user} from {address}: {reason}",
                user=identity.user_id,
                address=address,
                reason=reason.reason,
            )

    def extend(self, connection: Connection) -> None:
        """Hold the connection to the life of its (new) token."""
        if connection.expiry is not None:
            connection.expiry.cancel()
            connection.expiry = None
        expires_at = connection.identity.expires_at
        if expires_at is not None and connection.state is State.ACTIVE:
            connection.expiry = self.wheel.after(expires_at - self.clock(), connection.expire)

    def leave(self, connection: Connection, reason: Disconnect) -> None:
        """The connection has ended, or is about to."""
        self.node.counts.ends[reason.reason] += 1
        self.node.visits.ended(connection, reason.reason)
        if connection.expiry is not None:
            connection.expiry.cancel()
            connection.expiry = None
        try:
            self._typing.leave_all(connection, silently=self.closing)
        finally:
            self.node.leave(connection)
            self._presence.depart(connection)
            self.store.dismiss(connection.identity.user_id)
            self._left(connection)
            _log.debug("Disconnected", connection=connection.id, user=connection.identity.user_id)

    def greeting(self, connection: Connection) -> dict[str, Any]:
        """The data of ``connected``."""
        greeting = {
            "socketId": connection.id,
            "userId": connection.identity.user_id,
            "timestamp": json.timestamp(self.clock()),
            "channels": [own_channel(connection.identity)],
        }
        return greeting | {"status": "degraded"} if self.node.degraded else greeting


def method_of(token: str | None) -> str:
    """Of what kind a token is, by its looks: ``none``, ``sanctum``, ``jwt`` or ``other``."""
    if token is None:
        return "none"
    if "|" in token:
        return "sanctum"
    return "jwt" if token.count(".") == 2 else "other"


def _subject(over: Disconnect, visit: Visit) -> str:
    return "" if over is Disconnect.GLOBAL_LIMIT else household(visit.address)


def own_channel(identity: Identity) -> str:
    """The channel that every connection of a user is subscribed to from the start."""
    return f"private-user.{identity.user_id}"
