"""Who is typing where: announced to the channel's other subscribers, and always taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mechamap_rt.bus.node import Node
from mechamap_rt.core import channels
from mechamap_rt.core.channels import Channel
from mechamap_rt.core.connection import Announced, Connection
from mechamap_rt.core.wheel import Wheel
from mechamap_rt.wire import json

#: Seconds after which a start without a stop is taken back.
EXPIRY: Final = 10.0
#: Channels in which one connection may be typing at once.
MAX_AT_ONCE: Final = 16


class Typing:
    """Announces typing, and its end: by a stop, by expiry, by leaving the channel, by disconnecting."""

    def __init__(self, node: Node, wheel: Wheel, clock: Callable[[], float]) -> None:
        self._node = node
        self._wheel = wheel
        self._clock = clock

    def start(self, connection: Connection, channel: Channel) -> None:
        """``connection``, a subscriber of ``channel``, began to type there."""
        board = connection.typing
        if board is None:
            board = connection.typing = {}
        running = board.pop(channel.resource, None)
        if running is not None:
            running.deadline.cancel()
        elif len(board) >= MAX_AT_ONCE:
            self.stop(connection, next(iter(board)))
        resource = channel.resource
        deadline = self._wheel.after(EXPIRY, lambda: self.stop(connection, resource))
        board[resource] = Announced(channel.name, deadline)
        self._announce(connection, channel.name, "user_typing")

    def stop(self, connection: Connection, resource: str, *, silently: bool = False) -> None:
        """It stopped; nothing is announced if it was not typing there."""
        board = connection.typing
        running = board.pop(resource, None) if board else None
        if running is not None:
            running.deadline.cancel()
            if not silently:
                self._announce(connection, running.name, "user_stopped_typing")

    def leave_all(self, connection: Connection, *, silently: bool = False) -> None:
        """It is gone.

        :param silently: so is everybody else.
        """
        for resource in tuple(connection.typing or ()):
            self.stop(connection, resource, silently=silently)

    def _announce(self, connection: Connection, name: str, event: str) -> None:
        channel = channels.parse(name)
        payload = {
            "userId": connection.identity.user_id,
            "name": connection.identity.name,
            "channel": name,
            "timestamp": json.timestamp(self._clock()),
        }
        if channel.kind == "thread":
            payload["thread_id"] = int(channel.resource.partition(".")[2])
        self._node.announce(channel, event, payload, sender=connection.id)
