"""What the master tells a worker when it starts it: one environment variable, of JSON."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final, Self

import msgspec

#: The name of the environment variable.
MANDATE: Final = "MECHAMAP_WORKER"


class Mandate(msgspec.Struct, frozen=True):
    """What a worker shall be.

    :ivar name: of the process, in the cluster.
    :ivar slot: on the scoreboard, and in the table of rates.
    :ivar control: descriptors, as ``store``, ``board`` and ``rates``.
    :ivar sockets: descriptor and URL of each listening socket.
    :ivar levels: of its log (:class:`~mechamap_rt.system.loglevels.Levels`).
    """

    name: str
    slot: int
    control: int
    store: int
    board: int
    rates: int
    sockets: list[tuple[int, str]]
    levels: dict[str, Any]

    def environ(self) -> dict[str, str]:
        """For the worker's environment."""
        return {MANDATE: msgspec.json.encode(self).decode()}

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Self:
        """The mandate, out of the worker's environment: it is nobody else's.

        :raises KeyError, msgspec.MsgspecError: there is none.
        """
        return msgspec.json.decode(environ.pop(MANDATE), type=cls)
