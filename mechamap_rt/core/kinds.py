"""How many connections there are of each kind, kept as they come and go: nobody has to look at all of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from mechamap_rt.settings.roles import RANKS

if TYPE_CHECKING:
    from mechamap_rt.core.connection import Connection

#: Roles that the site does not have are counted as one.
OTHER_ROLE: Final = "other"

#: Protocol, transport, role.
Kind = tuple[str, str, str]


class Kinds:
    """Connections by kind.

    :ivar counts: how many of each there are.
    """

    __slots__ = ("_known", "counts")

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        # one object for all connections of a kind
        self._known: dict[Kind, Kind] = {}

    def count(self, connection: Connection) -> None:
        """Count it in; again when its transport or role is another one."""
        role = connection.identity.role
        kind = (
            connection.encoder.protocol,
            connection.outbox.transport_name,
            role if role in RANKS else OTHER_ROLE,
        )
        if connection.kind == kind:
            return
        self.uncount(connection)
        connection.kind = kind = self._known.setdefault(kind, kind)
        self.counts[kind] += 1

    def uncount(self, connection: Connection) -> None:
        """It has ended."""
        kind, connection.kind = connection.kind, None
        if kind is not None:
            self.counts[kind] -= 1
