"""The client events of the site's contract, and what each does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from mechamap_rt.access.subscriptions import Subscriptions
from mechamap_rt.auth.jwt import bare
from mechamap_rt.bus.node import Node
from mechamap_rt.commands.arguments import channel_of, ident
from mechamap_rt.commands.dispatch import Command
from mechamap_rt.commands.outcome import Outcome, rate_limited, unavailable
from mechamap_rt.commands.typing import Typing
from mechamap_rt.core import channels
from mechamap_rt.core.channels import Channel
from mechamap_rt.core.connection import Connection
from mechamap_rt.errors import AuthRefused, ClientFault, Code, Unavailable
from mechamap_rt.interfaces import IAuthenticator, IPolicy, ISessionStore
from mechamap_rt.presence.presence import Presence
from mechamap_rt.wire import json

#: Resources that one connection may be subscribed to at once.
MAX_SUBSCRIPTIONS: Final = 512
MAX_ACTIVITY: Final = 128


class ClientCommands:
    """What a connected client may ask for.

    :param extend: called when a fresh token has extended a connection.
    :param store: has the limit of publications that clients may cause on one channel.
    """

    def __init__(
        self,
        *,
        node: Node,
        policy: IPolicy,
        authenticator: IAuthenticator,
        typing: Typing,
        presence: Presence,
        subscriptions: Subscriptions,
        store: ISessionStore,
        clock: Callable[[], float],
        extend: Callable[[Connection], object],
    ) -> None:
        self._node = node
        self._policy = policy
        self._authenticator = authenticator
        self._typing = typing
        self._presence = presence
        self._subscriptions = subscriptions
        self._store = store
        self._clock = clock
        self._extend = extend

    def table(self) -> Mapping[str, Command]:
        """Every known event, by the name clients use."""
        subscribe = Command(self.subscribe, "subscription_error")
        return {
            "authenticate": Command(self.authenticate, "authentication_error"),
            "subscribe": subscribe,
            "subscribe_request": subscribe,
            "join_channel": subscribe,
            "unsubscribe": Command(self.unsubscribe),
            "ping": Command(self.ping),
            "user_activity": Command(self.user_activity),
            "typing_start": Command(self.typing_start, limit="typing"),
            "typing_stop": Command(self.typing_stop, limit="typing"),
        }

    async def authenticate(self, connection: Connection, data: Any) -> Outcome:
        """A fresh token of the same user extends the connection."""
        token = bare(data.get("token") if isinstance(data, dict) else data)
        try:
            identity = await self._authenticator.authenticate(token)
        except AuthRefused as refused:
            raise ClientFault(Code.AUTH_FAILED, str(refused)) from None
        except Unavailable:
            raise unavailable("Authentication failed: ") from None
        if identity.user_id != connection.identity.user_id:
            raise ClientFault(Code.INVALID_TOKEN, "Authentication failed: Token of another user")
        before, connection.identity = connection.identity, identity
        self._extend(connection)
        # where the site decides about channels, each token of a user may be worth something else
        if (before.role, before.permissions, before.bearer) != (identity.role, identity.permissions, identity.bearer):
            await self._subscriptions.review(connection)
        return Outcome(
            "authenticated",
            {
                "user": identity.profile(),
                "permissions": list(identity.permissions),
                "socketId": connection.id,
            },
        )

    async def subscribe(self, connection: Connection, data: Any) -> Outcome:
        channel = channel_of(data)
        if not await self.may(connection, channel):
            raise _unauthorized()
        return Outcome("subscribed", await self.enter(connection, channel, present=channel.presence))

    async def may(self, connection: Connection, channel: Channel) -> bool:
        """May the user subscribe, as what the user is when the answer is there?"""
        return await self._subscriptions.allowed(connection, channel)

    async def enter(self, connection: Connection, channel: Channel, *, present: bool) -> dict[str, Any]:
        """Subscribe a connection that may.

        :param present: it takes part in the channel's presence, too.
        :raises ClientFault: it may not any more, or has too many.
        """
        held = connection.subscriptions
        if channel.resource not in held and len(held) >= MAX_SUBSCRIPTIONS:
            raise ClientFault(Code.RATE_LIMITED, f"At most {MAX_SUBSCRIPTIONS} subscriptions", field="channel")
        era, identity = self._policy.era, connection.identity
        await self._node.subscribe(connection, channel)
        if era != self._policy.era or identity is not connection.identity:
            # rights have changed while the bus was waited for, and nobody saw this subscription
            await self._confirm(connection, channel)
        members: dict[str, Any] = {}
        if present:
            name, avatar = self._policy.member(connection.identity, channel)
            members = await self._presence.enter(connection, channel, name, avatar)
            if channel.resource not in connection.subscriptions:
                # it was ended while the other processes were asked, and the client has been told
                raise _unauthorized()
        return {"channel": channel.name, "status": "success", "timestamp": self._now()} | members

    async def _confirm(self, connection: Connection, channel: Channel) -> None:
        """End a new subscription unless the user still may.

        :raises ClientFault: they may not; or fails with :class:`~mechamap_rt.errors.Unavailable`.
        """
        allowed = False
        try:
            allowed = await self._subscriptions.allowed(connection, channel, fresh=True)
        finally:
            if not allowed:
                self._subscriptions.end(connection, channel.resource, "Unauthorized")
        if not allowed:
            raise _unauthorized()

    async def unsubscribe(self, connection: Connection, data: Any) -> Outcome:
        return Outcome("unsubscribed", self.give_up(connection, channel_of(data)))

    def give_up(self, connection: Connection, channel: Channel) -> dict[str, Any]:
        """End a subscription, as far as it was by this name."""
        self._node.unsubscribe(connection, channel)
        names = connection.subscriptions.get(channel.resource, ())
        if not names:
            self._typing.stop(connection, channel.resource)
        self._presence.keep(connection, channel.resource, names)
        return {"channel": channel.name, "timestamp": self._now()}

    async def ping(self, connection: Connection, data: Any) -> Outcome:
        sent = data.get("timestamp") if isinstance(data, dict) else None
        return Outcome("pong", {"timestamp": echo(sent, self._clock())})

    async def user_activity(self, connection: Connection, data: Any) -> Outcome:
        """Who shares a presence channel with this connection hears of it."""
        activity = data.get("activity") if isinstance(data, dict) else data
        if activity is not None and (not isinstance(activity, str) or len(activity) > MAX_ACTIVITY):
            raise ClientFault(Code.VALIDATION_ERROR, f"A string of at most {MAX_ACTIVITY} characters", field="activity")
        payload = {"userId": connection.identity.user_id, "activity": activity, "timestamp": self._now()}
        for resource in tuple(connection.presence or ()):
            await self.spend(channels.parse(resource))
        self._presence.tell(connection, "user_activity", payload)
        return Outcome(None)

    async def typing_start(self, connection: Connection, data: Any) -> Outcome:
        channel = self._where(connection, data)
        if self._typing.is_news(connection, channel.resource):
            await self.spend(channel)
        if channel.resource in connection.subscriptions:
            self._typing.start(connection, channel)
        return Outcome(None)

    async def typing_stop(self, connection: Connection, data: Any) -> Outcome:
        self._typing.stop(connection, self._where(connection, data).resource)
        return Outcome(None)

    def _where(self, connection: Connection, data: Any) -> Channel:
        """The channel a client types in, one it is itself subscribed to."""
        thread = data.get("thread_id") if isinstance(data, dict) and data.get("channel") is None else None
        if thread is None:
            channel = channel_of(data)
        else:
            number = ident(thread)
            if number is None:
                raise ClientFault(Code.VALIDATION_ERROR, "A thread's id is a positive integer", field="thread_id")
            channel = channels.parse(f"thread.{number}")
        if channel.resource not in connection.subscriptions:
            raise ClientFault(Code.PERMISSION_DENIED, "Not subscribed to this channel", field="channel")
        return channel

    async def spend(self, channel: Channel) -> None:
        """Count a publication that a client causes.

        :raises ClientFault: there are too many on this channel.
        """
        wait = await self._store.take("channel", channel.resource)
        if wait:
            raise rate_limited("events on this channel", wait)

    def _now(self) -> str:
        return json.timestamp(self._clock())


def _unauthorized() -> ClientFault:
    return ClientFault(Code.PERMISSION_DENIED, "Unauthorized", field="channel")


def echo(sent: Any, now: float) -> Any:
    """The time that a ``pong`` gives back: the client's own, or ours where it sent none that is one."""
    number = isinstance(sent, int | float) and not isinstance(sent, bool)
    return sent if number or (isinstance(sent, str) and len(sent) <= 64) else json.timestamp(now)
