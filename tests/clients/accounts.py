"""What very many clients saw, stay by stay: the clients of ``swarm`` and ``natives`` keep it, tests go through it.

Publications are numbered from 0 for each channel; their data is ``{"n": number}``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

#: The event that is published, and counted.
EVENT = "tick"


@dataclass
class Stay:
    """From one ``connected`` to its end. Times are seconds since the epoch.

    :ivar subscribed: when the subscription was answered.
    :ivar how: socket.io-client's reason, or the close code.
    :ivar delay: native: the milliseconds of the server's ``reconnect``.
    :ivar seen: numbers, in the order in which they came.
    """

    began: float
    subscribed: float | None = None
    left: float | None = None
    how: str = ""
    delay: int | None = None
    seen: list[int] = field(default_factory=list)


@dataclass
class Account:
    """One client.

    :ivar kind: ``native``, ``websocket`` or ``polling``.
    :ivar refused: connections that were refused or cut before the greeting.
    :ivar upgraded: moves from polling to a WebSocket.
    :ivar why: what the client knew of the refusals.
    """

    name: str
    kind: str
    channel: str
    stays: list[Stay] = field(default_factory=list)
    refused: int = 0
    upgraded: int = 0
    why: list[str] = field(default_factory=list)

    @property
    def seen(self) -> list[int]:
        return [number for stay in self.stays for number in stay.seen]


def doubled(accounts: Iterable[Account]) -> int:
    """Deliveries of what the same client had already got."""
    return sum(len(account.seen) - len(set(account.seen)) for account in accounts)


def gaps(accounts: Iterable[Account]) -> int:
    """Publications that a client did not get although it got an earlier and a later one without having left."""
    return sum(
        after - before - 1
        for account in accounts
        for stay in account.stays
        for before, after in pairwise(stay.seen)
        if after > before
    )


def disordered(accounts: Iterable[Account]) -> int:
    """Deliveries after one with a higher number."""
    return sum(
        after < before for account in accounts for stay in account.stays for before, after in pairwise(stay.seen)
    )


def receivers(accounts: Iterable[Account]) -> Counter[tuple[str, int]]:
    """How many clients got each publication."""
    return Counter((account.channel, number) for account in accounts for number in set(account.seen))
