"""Questions about clients, asked of every process of the cluster: who is connected, who is subscribed, out with them.

Each process answers from its own tables, with bounds; what is counted by user or channel is merged by who asked, so
that a user on two processes is one user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import nlargest
from typing import Any, Final

from mechamap_rt.bus.node import Node
from mechamap_rt.core.connection import Connection
from mechamap_rt.errors import Disconnect
from mechamap_rt.settings.roles import RANKS

#: Channels, and users, that one process names in one answer.
MAX_CHANNELS: Final = 50_000
MAX_USERS: Final = 500_000
#: Subscribers of one channel that are listed by name.
MAX_NAMED: Final = 100
#: Users, or channels, of one process that are looked at for what there is most of; and how many of them are listed.
MAX_HOLDERS: Final = 2_000
MAX_TOP: Final = 500
#: Connections that are listed.
MAX_LISTED: Final = 1_000


class Census:
    """Answers for this process, and asks all of them."""

    def __init__(self, node: Node) -> None:
        self._node = node
        node.answer("figures", self._figures)
        node.answer("connections", self._connections)
        node.answer("channel", self._channel)
        node.answer("channels", self._channels)
        node.answer("disconnect", self._disconnect)
        node.answer("stats", self._stats)
        node.answer("holders", self._holders)
        node.answer("largest", lambda asked: nlargest(MAX_HOLDERS, node.hub.sizes(), key=lambda size: size[1]))
        node.answer("events", lambda asked: (node.published, node.counts.events.most_common(MAX_TOP)))

    # asking

    async def figures(self) -> dict[str, int]:
        """``connections`` and ``users``, of the whole cluster."""
        answers = await self._node.ask("figures", None)
        users = {user for answer in answers for user in answer["users"]}
        return {"connections": sum(answer["connections"] for answer in answers), "users": len(users)}

    async def connections(self, user_id: int | None = None, limit: int = 100) -> dict[str, Any]:
        """``total``, ``users``, and ``connections``: the oldest ``limit`` of them, of one user or of all."""
        limit = max(0, min(limit, MAX_LISTED))
        answers = await self._node.ask("connections", (user_id, limit))
        rows = [row for answer in answers for row in answer["connections"]]
        rows.sort(key=lambda row: row["since"])
        return {
            "total": sum(answer["total"] for answer in answers),
            "users": len({user for answer in answers for user in answer["users"]}),
            "connections": rows[:limit],
        }

    async def channel(self, resource: str) -> dict[str, Any]:
        """``count`` of subscriptions, ``users``, and ``subscribers``: some of them by name."""
        answers = await self._node.ask("channel", resource)
        held: Counter[int] = Counter()
        names: dict[int, str] = {}
        for answer in answers:
            held.update(dict(answer["users"]))
            names |= dict(answer["names"])
        listed = [{"userId": user, "name": names[user], "connections": held[user]} for user in sorted(names)]
        return {
            "count": sum(answer["count"] for answer in answers),
            "users": len(held),
            "subscribers": listed[:MAX_NAMED],
        }

    async def channels(self, match: str | None = None) -> Counter[str]:
        """Subscribers of every resource whose name contains ``match``."""
        sizes: Counter[str] = Counter()
        for answer in await self._node.ask("channels", match):
            sizes.update(dict(answer))
        return sizes

    async def disconnect(self, user_id: int, words: str = "") -> int:
        """End every connection of a user, wherever it is; how many there were.

        :param words: what the clients are told as the reason.
        """
        return sum(await self._node.ask("disconnect", (user_id, words) if words else user_id))

    async def top(self, what: str, limit: int) -> list[dict[str, Any]]:
        """The ``channels`` with the most subscribers, the ``users`` with the most connections, or the ``events`` that
        are published most: ``name`` and ``count`` of each, the greatest first. Of channels and users each process names
        those that have most there.

        :raises ValueError: it is none of these.
        """
        limit = max(1, min(limit, MAX_TOP))
        found: Counter[str] = Counter()
        if what == "channels":
            for sizes in await self._node.ask("largest", None):
                found.update(dict(sizes))
        elif what == "users":
            for users in await self._node.ask("holders", None):
                found.update({str(user): count for user, count in users})
        elif what == "events":
            for _, events in await self._node.ask("events", None):
                found.update(dict(events))
        else:
            raise ValueError("channels, users or events")
        ordered = sorted(found.items(), key=lambda each: (-each[1], each[0]))[:limit]
        return [{"name": name, "count": count} for name, count in ordered]

    async def stats(self) -> dict[str, Any]:
        """``totalConnections``, ``uniqueUsers``, and how many of each protocol, transport, role and process."""
        answers = await self._node.ask("stats", None)
        kinds: dict[str, Counter[str]] = {name: Counter() for name in ("byProtocol", "byTransport", "byRole")}
        users: Counter[int] = Counter()
        for answer in answers:
            users.update(dict(answer["users"]))
            for name, sizes in kinds.items():
                sizes.update(answer[name])
        total = sum(answer["connections"] for answer in answers)
        return {
            "totalConnections": total,
            "uniqueUsers": len(users),
            "averagePerUser": round(total / len(users), 2) if users else 0,
            "mostOfOneUser": max(users.values(), default=0),
            "byWorker": {answer["worker"]: answer["connections"] for answer in answers},
            **{name: dict(sizes) for name, sizes in kinds.items()},
        }

    # of this process alone

    def connections_here(self, user_id: int | None, limit: int) -> dict[str, Any]:
        """As :meth:`connections`, of the connections of this process."""
        found = self._connections((user_id, max(0, min(limit, MAX_LISTED))))
        return found | {"users": len(found["users"])}

    def channels_here(self, match: str | None, limit: int) -> dict[str, Any]:
        """``total`` channels, ``subscriptions``, and ``channels``: the ``limit`` with the most subscribers."""
        sizes = self._channels(match)
        largest = sorted(sizes, key=lambda size: (-size[1], size[0]))[: max(0, limit)]
        return {
            "total": len(sizes),
            "subscriptions": sum(size for _, size in sizes),
            "channels": [{"channel": name, "subscribers": size} for name, size in largest],
        }

    # answering

    def _holders(self, asked: None) -> list[tuple[int, int]]:
        """Users with connections here, and how many; those with most of them, if they are many."""
        held = ((user, len(self._node.connections_of(user))) for user in self._node.users())
        return nlargest(MAX_HOLDERS, held, key=lambda each: each[1])

    def _figures(self, asked: None) -> dict[str, Any]:
        return {"connections": self._node.connection_count(), "users": _some(self._node.users(), MAX_USERS)}

    def _connections(self, asked: tuple[int | None, int]) -> dict[str, Any]:
        user_id, limit = asked
        node = self._node
        if user_id is not None:
            found = node.connections_of(user_id)
            users = [user_id] if found else []
            rows = [self._row(each) | {"subscriptions": _some(each.subscriptions, MAX_NAMED)} for each in found[:limit]]
            return {"total": len(found), "users": users, "connections": rows}
        rows = [self._row(connection) for connection in _some(node.connections(), limit)]
        return {"total": node.connection_count(), "users": _some(node.users(), MAX_USERS), "connections": rows}

    def _row(self, connection: Connection) -> dict[str, Any]:
        identity = connection.identity
        return {
            "id": connection.id,
            "user": identity.user_id,
            "name": identity.name,
            "role": identity.role,
            "worker": self._node.name,
            "protocol": connection.encoder.protocol,
            "transport": connection.outbox.transport_name,
            "address": connection.address,
            "since": connection.since,
            "channels": len(connection.subscriptions),
        }

    def _channel(self, resource: str) -> dict[str, Any]:
        held: Counter[int] = Counter()
        names: dict[int, str] = {}
        for connection in self._node.hub.subscribers(resource):
            identity = connection.identity
            held[identity.user_id] += 1
            if len(names) < MAX_NAMED:
                names[identity.user_id] = identity.name
        return {"count": sum(held.values()), "users": _some(held.items(), MAX_USERS), "names": list(names.items())}

    def _channels(self, match: str | None) -> list[tuple[str, int]]:
        sizes = self._node.hub.sizes()
        return _some((size for size in sizes if match is None or match in size[0]), MAX_CHANNELS)

    def _disconnect(self, asked: int | tuple[int, str]) -> int:
        user_id, words = (asked, "") if isinstance(asked, int) else asked
        connections = self._node.connections_of(user_id)
        for connection in connections:
            connection.close(Disconnect.FORCED, words)
        return len(connections)

    def _stats(self, asked: None) -> dict[str, Any]:
        protocols: Counter[str] = Counter()
        transports: Counter[str] = Counter()
        roles: Counter[str] = Counter()
        users: Counter[int] = Counter()
        for connection in self._node.connections():
            protocols[connection.encoder.protocol] += 1
            transports[connection.outbox.transport_name] += 1
            role = connection.identity.role
            # roles are the site's few, but a token may say anything
            roles[role if role in RANKS else "other"] += 1
            users[connection.identity.user_id] += 1
        return {
            "worker": self._node.name,
            "connections": self._node.connection_count(),
            "users": _some(users.items(), MAX_USERS),
            "byProtocol": protocols,
            "byTransport": transports,
            "byRole": roles,
        }


def _some(items: Iterable[Any], most: int) -> list[Any]:
    """The first ones, at most so many."""
    return [item for item, _ in zip(items, range(most), strict=False)]
