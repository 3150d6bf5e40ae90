"""What clients may ask about the presence of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from mechamap_rt.commands.dispatch import Command
from mechamap_rt.commands.outcome import Outcome
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.identity import MAX_ID
from mechamap_rt.errors import ClientFault, Code
from mechamap_rt.presence.presence import MAX_ASKED, Presence
from mechamap_rt.wire import json

_NAMES: Final = ("user_ids", "userIds")


class PresenceCommands:
    """Who is online?

    :param clock: seconds since the epoch.
    """

    def __init__(self, presence: Presence, clock: Callable[[], float]) -> None:
        self._presence = presence
        self._clock = clock

    def table(self) -> Mapping[str, Command]:
        return {"who_is_online": Command(self.who_is_online)}

    async def who_is_online(self, connection: Connection, data: Any) -> Outcome:
        """``{user_ids: [..]}`` → ``online_users`` ``{online: [..], timestamp}``, in the order asked."""
        asked = user_ids(data)
        online = await self._presence.online(asked)
        found = [user_id for user_id in dict.fromkeys(asked) if user_id in online]
        return Outcome("online_users", {"online": found, "timestamp": json.timestamp(self._clock())})


def user_ids(data: Any) -> list[int]:
    """The ids in ``{user_ids: [..]}``, ``{userIds: [..]}`` or the bare list."""
    name = next((each for each in _NAMES if isinstance(data, dict) and each in data), _NAMES[0])
    asked = data.get(name) if isinstance(data, dict) else data
    if not isinstance(asked, list) or not 1 <= len(asked) <= MAX_ASKED:
        raise ClientFault(Code.VALIDATION_ERROR, f"A list of 1 to {MAX_ASKED} user ids", field=name)
    for at, each in enumerate(asked):
        if not isinstance(each, int) or isinstance(each, bool) or not 1 <= each <= MAX_ID:
            raise ClientFault(Code.VALIDATION_ERROR, "A user's id is a positive integer", field=f"{name}[{at}]")
    return asked
