"""The lobby: from a token to a connection, and out again. The same for every protocol."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mechamap_rt.bus.node import Node
from mechamap_rt.commands.dispatch import Dispatcher
from mechamap_rt.commands.typing import Typing
from mechamap_rt.core import channels
from mechamap_rt.core.connection import Connection, Encoder, State
from mechamap_rt.core.identity import Identity
from mechamap_rt.core.limits import Admission, Buckets
from mechamap_rt.core.outbox import Outbox
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.errors import Disconnect
from mechamap_rt.interfaces import IAuthenticator
from mechamap_rt.wire import json

_log = Logger()

#: Lines about rejected connections that the log gets a minute.
LINES_PER_MINUTE: Final = 60


class Rejected(Exception):
    """A user who may connect in principle may not connect now."""

    def __init__(self, reason: Disconnect) -> None:
        super().__init__(reason.message)
        self.reason = reason


def new_id() -> str:
    """An unguessable id of 20 characters, for sessions and connections."""
    return secrets.token_urlsafe(15)


class Lobby:
    """Admits authenticated clients and sees them out.

    :param clock: seconds since the epoch.
    """

    def __init__(
        self,
        *,
        node: Node,
        dispatcher: Dispatcher,
        authenticator: IAuthenticator,
        admission: Admission,
        typing: Typing,
        wheel: Wheel,
        clock: Callable[[], float],
    ) -> None:
        self.node = node
        self.dispatcher = dispatcher
        self.admission = admission
        self.wheel = wheel
        self.clock = clock
        #: Everybody is leaving: nobody needs to be told that one more has.
        self.closing = False
        self._lines = Buckets(LINES_PER_MINUTE, time.monotonic)
        self._authenticator = authenticator
        self._typing = typing

    def authenticate(self, token: str | None) -> Deferred[Identity]:
        return self._authenticator.authenticate(token)

    def admit(
        self,
        ident: str,
        identity: Identity,
        encoder: Encoder,
        outbox: Outbox,
        address: str,
        end: Callable[[Disconnect], None],
    ) -> Connection:
        """A connection of ``identity``, subscribed to the user's own channel.

        :param ident: the connection's id.
        :param end: ends the connection, given the reason; called at most once.
        :raises Rejected: a limit is reached.
        """
        reason = self.admission.admit(identity.user_id)
        if reason is not None:
            self.rejected(identity, address, reason)
            raise Rejected(reason)
        connection = Connection(ident, identity, encoder, outbox, address, self.clock(), end)
        self.node.join(connection)
        self.node.subscribe(connection, channels.parse(own_channel(identity)))
        self.extend(connection)
        return connection

    def rejected(self, identity: Identity, address: str, reason: Disconnect) -> None:
        """Say in the log that somebody was sent away; a flood of them says it a few times a minute."""
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

    def leave(self, connection: Connection) -> None:
        """The connection has ended, or is about to."""
        if connection.expiry is not None:
            connection.expiry.cancel()
            connection.expiry = None
        try:
            self._typing.leave_all(connection, silently=self.closing)
        finally:
            self.node.leave(connection)
            self.admission.dismiss(connection.identity.user_id)

    def greeting(self, connection: Connection) -> dict[str, Any]:
        """The data of ``connected``."""
        return {
            "socketId": connection.id,
            "userId": connection.identity.user_id,
            "timestamp": json.timestamp(self.clock()),
            "channels": [own_channel(connection.identity)],
        }


def own_channel(identity: Identity) -> str:
    """The channel that every connection of a user is subscribed to from the start."""
    return f"private-user.{identity.user_id}"
