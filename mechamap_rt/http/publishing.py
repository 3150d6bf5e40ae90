"""The endpoints by which the backend publishes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from mechamap_rt.bus.node import Node
from mechamap_rt.core.channels import Channel
from mechamap_rt.core.publication import provenance, splice
from mechamap_rt.http import bodies
from mechamap_rt.http.bodies import Broadcast
from mechamap_rt.http.call import Call
from mechamap_rt.http.idempotency import Idempotency
from mechamap_rt.http.keys import Keys, Right
from mechamap_rt.http.replies import Reply
from mechamap_rt.http.routing import Route, ident, read_json
from mechamap_rt.wire import json

Work = Callable[[Call], Coroutine[Any, Any, Reply]]


class _Sent(NamedTuple):
    """A publication's id, and its subscribers in the whole cluster."""

    ident: str
    subscribers: int


class Publishing:
    """Publishes what the backend posts.

    :param idempotency: what is posted twice under one key is published once.
    """

    def __init__(self, node: Node, keys: Keys, clock: Callable[[], float], idempotency: Idempotency) -> None:
        self._node = node
        self._keys = keys
        self._clock = clock
        self._idempotency = idempotency

    def routes(self) -> list[Route]:
        return [
            Route("/api/laravel-broadcast", {"POST": self.laravel_broadcast}),
            Route("/api/broadcast", {"POST": self.broadcast}),
            Route("/api/broadcast/multi", {"POST": self.multi}),
            Route("/api/broadcast/user/<id>", {"POST": self.user}),
            Route("/api/notify", {"POST": self.notify}),
        ]

    async def _once(self, call: Call, work: Work, *, keyless: bool = False) -> Reply:
        caller = await self._keys.require(call, Right.PUBLISH, keyless=keyless)
        return await self._idempotency.once(call, caller, partial(work, call))

    async def laravel_broadcast(self, call: Call) -> Reply:
        return await self._once(call, self._laravel_broadcast, keyless=True)

    async def broadcast(self, call: Call) -> Reply:
        return await self._once(call, self._broadcast)

    async def user(self, call: Call) -> Reply:
        return await self._once(call, self._user)

    async def notify(self, call: Call) -> Reply:
        return await self._once(call, self._notify)

    async def multi(self, call: Call) -> Reply:
        return await self._once(call, self._multi)

    async def _laravel_broadcast(self, call: Call) -> Reply:
        broadcast = bodies.laravel_broadcast(read_json(call))
        now = self._now()
        stamp = now if broadcast.timestamp is None else broadcast.timestamp
        sent = await self._publish(call, broadcast, provenance(stamp, "laravel"), source="laravel", wins=True)
        results = [
            {"channel": channel.name, "subscriberCount": sent[channel].subscribers} for channel in broadcast.channels
        ]
        total = sum({channel.resource: each.subscribers for channel, each in sent.items()}.values())
        return Reply.of(
            {
                "success": True,
                "message": "Event broadcast",
                "event": broadcast.event,
                "channelCount": len(broadcast.channels),
                "totalSubscribers": total,
                "results": results,
                "ids": [sent[channel].ident for channel in broadcast.channels],
                "timestamp": now,
            }
        )

    async def _broadcast(self, call: Call) -> Reply:
        return await self._one(call, bodies.broadcast(read_json(call)))

    async def _user(self, call: Call) -> Reply:
        user_id = ident(call)
        return await self._one(call, bodies.user_event(read_json(call), user_id), userId=user_id)

    async def _notify(self, call: Call) -> Reply:
        return await self._one(call, bodies.notify(read_json(call)))

    async def _multi(self, call: Call) -> Reply:
        now = self._now()
        results, idents = [], []
        for broadcast in bodies.broadcasts(read_json(call)):
            sent = await self._publish(call, broadcast, provenance(now, "api"), source="api", wins=False)
            channel = broadcast.channels[0]
            idents.append(sent[channel].ident)
            results.append(
                {
                    "channel": channel.name,
                    "event": broadcast.event,
                    "subscriberCount": sent[channel].subscribers,
                    "success": True,
                }
            )
        message = f"{len(results)} events broadcast"
        return Reply.of({"success": True, "message": message, "results": results, "ids": idents, "timestamp": now})

    async def _one(self, call: Call, broadcast: Broadcast, **extra: Any) -> Reply:
        now = self._now()
        sent = await self._publish(call, broadcast, provenance(now, "api"), source="api", wins=False)
        channel = broadcast.channels[0]
        answer = {
            "success": True,
            "message": "Event broadcast",
            "channel": channel.name,
            "event": broadcast.event,
            "subscriberCount": sent[channel].subscribers,
            "id": sent[channel].ident,
            "timestamp": now,
        }
        return Reply.of(answer | extra)

    async def _publish(
        self, call: Call, broadcast: Broadcast, extra: bytes, *, source: str, wins: bool
    ) -> dict[Channel, _Sent]:
        """Publish once to each resource, whatever names it was given by.

        :param extra: members to add to the data; where it has them already, ``wins`` says whose count.
        :returns: by channel.
        """
        data = splice(broadcast.data, extra, wins=wins)
        sent: dict[str, tuple[str, Deferred[int]]] = {}
        for channel in broadcast.channels:
            if channel.resource not in sent:
                sent[channel.resource] = self._node.publish(
                    channel,
                    broadcast.event,
                    data,
                    delivery=broadcast.delivery,
                    key=broadcast.key,
                    sender=broadcast.sender,
                    priority=broadcast.priority,
                    source=source,
                    request=call.ident,
                )
        done = {resource: _Sent(ident, await count) for resource, (ident, count) in sent.items()}
        return {channel: done[channel.resource] for channel in broadcast.channels}

    def _now(self) -> str:
        return json.timestamp(self._clock())
