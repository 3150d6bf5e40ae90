"""What there is of notifications in one process: the counts, and what has been read."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from mechamap_rt.bus.node import Node
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.core.writing import Pace
from mechamap_rt.interfaces import INotifications
from mechamap_rt.notifications.counts import Counts
from mechamap_rt.notifications.reading import ReadMarks


class Inbox:
    """Everything where there is a database that has the site's notifications, and nothing where there is none.

    :param notifications: the site's, if there are any.
    :param pace: of all that this process writes.
    :param clock: seconds since the epoch.

    :ivar marks: ``None`` where nothing can be marked.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        node: Node,
        notifications: INotifications | None,
        pace: Pace,
        wheel: Wheel,
        clock: Callable[[], float],
    ) -> None:
        self.marks: ReadMarks | None = None
        self.counts: Counts | None = None
        if notifications is not None:
            self.counts = Counts(reactor, node, notifications, clock)
            self.marks = ReadMarks(reactor, node, notifications, self.counts, pace, wheel, clock)

    def start(self) -> None:
        if self.counts is not None and self.marks is not None:
            self.counts.start()
            self.marks.start()

    async def stop(self) -> None:
        """Write what is left, if the database takes it."""
        if self.counts is not None and self.marks is not None:
            await self.marks.stop()
            self.counts.stop()

    def welcome(self, connection: Connection) -> None:
        """Tell a new connection how many are unread, as soon as it is known."""
        if self.counts is not None:
            self.counts.welcome(connection)

    def forget(self, connection: Connection) -> None:
        """The connection has ended."""
        if self.counts is not None:
            self.counts.forget(connection)
