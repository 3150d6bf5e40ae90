"""The endpoints of administrators: who is connected, in the whole cluster, and out with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs

from mechamap_rt.bus.census import MAX_LISTED, MAX_TOP, Census
from mechamap_rt.http.audit import Acts
from mechamap_rt.http.bodies import Fields
from mechamap_rt.http.call import Call
from mechamap_rt.http.keys import Keys, Right
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.routing import Route, ident, read_json
from mechamap_rt.wire import json

MAX_REASON: Final = 200
#: What can be asked for the most of.
TOPS: Final = ("channels", "users", "events")


class Administration:
    """Answers for the whole cluster, to administrators.

    :param clock: seconds since the epoch.
    """

    def __init__(self, census: Census, keys: Keys, acts: Acts, clock: Callable[[], float]) -> None:
        self._census = census
        self._keys = keys
        self._acts = acts
        self._clock = clock

    def routes(self) -> list[Route]:
        return [
            Route("/api/connections/stats", {"GET": self.stats}),
            Route("/api/top", {"GET": self.top}),
            Route("/api/connections/user/<id>", {"GET": self.user}),
            Route("/api/connections/disconnect/<id>", {"POST": self.disconnect}),
        ]

    async def stats(self, call: Call) -> Reply:
        """How many connections there are, by what they are."""
        await self._keys.require(call, Right.ADMINISTER)
        return self._answer({"stats": await self._census.stats()})

    async def top(self, call: Call) -> Reply:
        """``?of=channels|users|events&limit=20``: what there is most of."""
        await self._keys.require(call, Right.ADMINISTER)
        asked = parse_qs(call.query.decode("latin-1"))
        of, limit = asked.get("of", ["channels"])[-1], asked.get("limit", ["20"])[-1]
        faults = []
        if of not in TOPS:
            faults.append(("of", "one of " + ", ".join(TOPS)))
        if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 1 <= int(limit) <= MAX_TOP):
            faults.append(("limit", f"a number from 1 to {MAX_TOP}"))
        if faults:
            raise HTTPFault(Error.VALIDATION, "The request is not valid", faults)
        return self._answer({"of": of, "top": await self._census.top(of, int(limit))})

    async def user(self, call: Call) -> Reply:
        """The connections of one user."""
        await self._keys.require(call, Right.ADMINISTER)
        user_id = ident(call)
        found = await self._census.connections(user_id, MAX_LISTED)
        rows = [_row(row) for row in found["connections"]]
        return self._answer(
            {
                "userId": user_id,
                "connected": bool(found["total"]),
                "connectionCount": found["total"],
                "connections": rows,
            }
        )

    async def disconnect(self, call: Call) -> Reply:
        """``{reason?}``: the user's connections end, everywhere, and the clients stay away."""
        with self._acts.act(call, "connections.disconnect") as act:
            act.caller = await self._keys.require(call, Right.ADMINISTER)
            user_id = act.target["user_id"] = ident(call)
            body = read_json(call)
            fields = Fields(body if body.strip() else b"{}")
            reason = act.target["reason"] = fields.text("reason", MAX_REASON, required=False) or ""
            fields.check()
            ended = await self._census.disconnect(user_id, reason)
            return self._answer({"message": "Disconnected", "userId": user_id, "disconnected": ended})

    def _answer(self, members: dict[str, Any]) -> Reply:
        return Reply.of({"success": True} | members | {"timestamp": json.timestamp(self._clock())})


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A connection, as the API names things."""
    return {
        "socketId": row["id"],
        "userId": row["user"],
        "name": row["name"],
        "role": row["role"],
        "protocol": row["protocol"],
        "transport": row["transport"],
        "address": row["address"],
        "worker": row["worker"],
        "connectedAt": json.timestamp(row["since"]),
        "channels": row["channels"],
        "subscriptions": row["subscriptions"],
    }
