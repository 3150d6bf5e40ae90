"""The backend's question who is online."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mechamap_rt.http.bodies import Fields, number_of
from mechamap_rt.http.call import Call
from mechamap_rt.http.keys import Keys, Right
from mechamap_rt.http.replies import Reply
from mechamap_rt.http.routing import Route, read_json
from mechamap_rt.presence.presence import MAX_ASKED, Presence
from mechamap_rt.wire import json


class Attendance:
    """Answers for the whole cluster.

    :param clock: seconds since the epoch.
    """

    def __init__(self, presence: Presence, keys: Keys, clock: Callable[[], float]) -> None:
        self._presence = presence
        self._keys = keys
        self._clock = clock

    def routes(self) -> list[Route]:
        return [Route("/api/presence/online", {"POST": self.online})]

    async def online(self, call: Call) -> Reply:
        """``{user_ids: [..]}``: those of up to 1,000 users who are online now, in the order asked."""
        await self._keys.require(call, Right.PUBLISH)
        fields = Fields(read_json(call))
        asked = _user_ids(fields, fields.value("user_ids"))
        fields.check()
        online = await self._presence.online(asked)
        found = [user_id for user_id in dict.fromkeys(asked) if user_id in online]
        stamp = json.timestamp(self._clock())
        return Reply.of({"success": True, "online": found, "count": len(found), "timestamp": stamp})


def _user_ids(fields: Fields, value: Any) -> list[int]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_ASKED:
        fields.fault("user_ids", f"a list of 1 to {MAX_ASKED} user ids is required")
        return []
    found = [number_of(each) for each in value]
    for at, each in enumerate(found):
        if each is None:
            fields.fault(f"user_ids[{at}]", "a positive integer is required")
    return [each for each in found if each is not None]
