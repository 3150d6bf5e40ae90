"""What an operator may ask of a process about clients and channels; answers are for the whole cluster."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mechamap_rt.bus.census import Census
from mechamap_rt.bus.node import Node
from mechamap_rt.bus.stories import Stories
from mechamap_rt.core import channels
from mechamap_rt.core.publication import provenance, splice
from mechamap_rt.errors import OperationFault
from mechamap_rt.wire import json

#: The figures of the whole cluster, as they are now.
Live = Callable[[], Awaitable[dict[str, Any]]]
Operation = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]


class Operations:
    """The operations that any worker can do for all of them."""

    def __init__(self, node: Node, census: Census, stories: Stories, live: Live) -> None:
        self._node = node
        self._census = census
        self._stories = stories
        self._live = live

    def table(self) -> dict[str, Operation]:
        return {
            "connections": self.connections,
            "disconnect": self.disconnect,
            "channels": self.channels,
            "publish": self.publish,
            "trace": self.trace,
            "top": self.top,
            "live": self.live,
        }

    async def run(self, command: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """:raises OperationFault: it cannot be done."""
        operation = self.table().get(command)
        if operation is None:
            raise OperationFault("UNKNOWN_COMMAND", f"There is no command {command}", "command")
        answer = await operation(asked)
        # other hosts were not asked, or not told
        return answer | {"degraded": True} if self._node.degraded else answer

    async def connections(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        user = None if asked.get("user") is None else integer(asked, "user", 1)
        return await self._census.connections(user, integer(asked, "limit", 0, 100))

    async def disconnect(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        user = integer(asked, "user", 1)
        return {"user": user, "disconnected": await self._census.disconnect(user)}

    async def channels(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        match = asked.get("match")
        if match is not None and not isinstance(match, str):
            raise OperationFault("INVALID", "A text is required", "match")
        sizes = await self._census.channels(match)
        listed = sorted(sizes.items(), key=lambda size: (-size[1], size[0]))[: integer(asked, "limit", 0, 50)]
        return {
            "total": len(sizes),
            "subscriptions": sum(sizes.values()),
            "channels": [{"channel": name, "subscribers": size} for name, size in listed],
        }

    async def top(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        what = str(asked.get("of"))
        try:
            return {"of": what, "top": await self._census.top(what, integer(asked, "limit", 1, 20))}
        except ValueError as error:
            raise OperationFault("INVALID", f"There are {error}", "of") from None

    async def live(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return await self._live()

    async def trace(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        user = None if asked.get("user") is None else integer(asked, "user", 1)
        try:
            story = await self._stories.story(str(asked.get("publication")), user)
        except ValueError as error:
            raise OperationFault("INVALID", str(error), "publication") from None
        if not story["found"]:
            message = "No such publication is remembered: it was never made, is too old, or was volatile"
            raise OperationFault("UNKNOWN_PUBLICATION", message, "publication")
        return story

    async def publish(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        try:
            channel = channels.parse(asked.get("channel"))
        except channels.InvalidChannel as error:
            raise OperationFault("INVALID", f"Not a channel: {error}", "channel") from None
        event = asked.get("event")
        if not isinstance(event, str) or not 1 <= len(event) <= 255:
            raise OperationFault("INVALID", "1 to 255 characters are required", "event")
        data = asked.get("data", {})
        if not isinstance(data, dict):
            raise OperationFault("INVALID", "An object is required", "data")
        told = splice(json.encode(data), provenance(json.timestamp(time.time()), "operator"), wins=False)
        ident, count = self._node.publish(channel, event, told, source="operator")
        return {"id": ident, "channel": channel.name, "subscribers": await count}


def integer(asked: Mapping[str, Any], name: str, least: int, default: int | None = None) -> int:
    """The argument ``name``, a number from ``least`` on.

    :raises OperationFault: it is none.
    """
    value = asked.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        raise OperationFault("INVALID", f"A number from {least} on is required", name)
    return value
