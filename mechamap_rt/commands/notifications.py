"""What clients say of their notifications: that one has been read, or all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from mechamap_rt.commands.dispatch import Command
from mechamap_rt.commands.outcome import Outcome
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.identity import MAX_ID
from mechamap_rt.errors import ClientFault, Code
from mechamap_rt.notifications.reading import Marked, ReadMarks
from mechamap_rt.wire import json

_ID = re.compile(r"[1-9][0-9]{0,18}")


class NotificationCommands:
    """The events about notifications.

    :param marks: ``None`` where there is no database that has the site's notifications.
    :param clock: seconds since the epoch.
    """

    def __init__(self, marks: ReadMarks | None, clock: Callable[[], float]) -> None:
        self._marks = marks
        self._clock = clock

    def table(self) -> Mapping[str, Command]:
        """Every event, by the name clients use."""
        return {
            "notification_read": Command(self.notification_read),
            "notifications_read_all": Command(self.notifications_read_all),
        }

    async def notification_read(self, connection: Connection, data: Any) -> Outcome:
        ident = _notification_id(data)
        marked = await self._known().read(connection, ident)
        return Outcome(None, {"notificationId": ident} | self._result(marked))

    async def notifications_read_all(self, connection: Connection, data: Any) -> Outcome:
        marked = await self._known().read_all(connection)
        return Outcome(None, self._result(marked))

    def _known(self) -> ReadMarks:
        if self._marks is None:
            raise ClientFault(Code.SERVER_ERROR, "This needs the site's database")
        return self._marks

    def _result(self, marked: Marked) -> dict[str, Any]:
        known = {"unreadCount": marked.unread, "count": marked.count}
        told = {name: value for name, value in known.items() if value is not None}
        return {"state": marked.state} | told | {"timestamp": json.timestamp(self._clock())}


def _notification_id(data: Any) -> int:
    """The id of ``{notificationId}``, of ``{notification_id}``, or of the bare value."""
    given = data
    if isinstance(data, dict):
        given = data.get("notificationId")
        if given is None:
            given = data.get("notification_id")
    # JSON has numbers of any length, of which not every one is worth being written out
    number = isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= MAX_ID
    if number or (isinstance(given, str) and _ID.fullmatch(given) and int(given) <= MAX_ID):
        return int(given)
    raise ClientFault(Code.VALIDATION_ERROR, "A notification's id is a positive integer", field="notificationId")
