"""Connections that have asked for nothing yet: how many there may be, and who has to go when there are more.

Whoever can open connections can open very many, and each costs memory and a descriptor before it has said a word. A
client with something to ask says so within a round trip. So the oldest go first: they are the least likely to ask yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import islice
from typing import Protocol

from mechamap_rt.wire.forwarded import Network, within


class Waiting(Protocol):
    """A connection that is waited for."""

    def cut(self) -> None:
        """End it at once."""


class Pending:
    """Those connections, oldest first.

    :param most: of the process; 0 for no limit.
    :param most_of_address: of one address; 0 for no limit.
    :param counted: is this address a client's own, and not that of a proxy or of a unix socket?
    :ivar shed: how many had to go because there were too many.
    """

    def __init__(self, most: int, most_of_address: int, counted: Callable[[str], bool] = bool) -> None:
        self.most = most
        self._most_of_address = most_of_address
        self._counted = counted
        self._all: dict[Waiting, str] = {}
        self._by_address: dict[str, dict[Waiting, None]] = {}
        self.shed = 0

    def __len__(self) -> int:
        return len(self._all)

    def add(self, one: Waiting, address: str) -> None:
        """One more; the oldest of its address, or of all, has to go if that is one too many."""
        if self.most and len(self._all) >= self.most:
            self.cut_oldest(1)
        if self._most_of_address and self._counted(address):
            others = self._by_address.setdefault(address, {})
            if len(others) >= self._most_of_address:
                self._cut(next(iter(others)))
                others = self._by_address.setdefault(address, {})
            others[one] = None
        else:
            address = ""
        self._all[one] = address

    def remove(self, one: Waiting) -> None:
        """It has asked for something, or is gone."""
        address = self._all.pop(one, None)
        if address:
            others = self._by_address[address]
            del others[one]
            if not others:
                del self._by_address[address]

    def cut_oldest(self, count: int, keep: Waiting | None = None) -> int:
        """End the oldest.

        :param keep: not this one.
        :returns: how many there were.
        """
        oldest = [one for one in islice(self._all, count + 1) if one is not keep][:count]
        for one in oldest:
            self._cut(one)
        return len(oldest)

    def _cut(self, one: Waiting) -> None:
        self.shed += 1
        self.remove(one)
        one.cut()

    def cut_all(self) -> None:
        """End them all: the server stops."""
        for one in tuple(self._all):
            self.remove(one)
            one.cut()


def own_address(hops: int, networks: Sequence[Network]) -> Callable[[str], bool]:
    """Tells the addresses of clients from those of proxies, which send many clients' connections from one address.

    :param hops: how many proxies are trusted; with any, who connects is one.
    :param networks: the addresses of proxies.
    """
    if hops:
        return lambda address: False

    @lru_cache(maxsize=4096)
    def own(address: str) -> bool:
        return address != "" and not within(address, networks)

    return own
