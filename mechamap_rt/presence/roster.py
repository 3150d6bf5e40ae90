"""Who is in one channel, in all processes of the cluster, as far as this process has heard.

Each process says who of its own clients takes part, in changes with numbers that grow. Who has missed some asks it for
all, and adds what it said between the question and the answer. A user is in the channel while one process says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

#: Members of one channel that are known; more are not noticed.
MAX_MEMBERS: Final = 50_000
#: Changes that are remembered while processes are being asked.
MAX_LOG: Final = 10_000

#: A member as processes tell one another: id, name, avatar.
Card = tuple[int, str, str | None]


class Change(NamedTuple):
    """What has become of the members.

    :ivar joined: ids of those who were in no process before.
    :ivar left: those who are in none any more.
    """

    joined: list[int]
    left: list[Card]


class Roster:
    """The members of one channel.

    :ivar held: process → the ids of those that it says take part.
    """

    __slots__ = ("_asking", "_buried", "_cards", "_counts", "_log", "_versions", "held")

    def __init__(self) -> None:
        self._cards: dict[int, Card] = {}
        self._counts: dict[int, int] = {}
        self._versions: dict[str, int] = {}
        self._asking = 0
        self._log: deque[tuple[str, int, int, Card | None]] = deque(maxlen=MAX_LOG)
        self._buried: set[str] = set()
        self.held: dict[str, set[int]] = {}

    def __len__(self) -> int:
        return len(self._cards)

    def __contains__(self, user_id: int) -> bool:
        return user_id in self._cards

    def __iter__(self) -> Iterator[int]:
        return iter(self._cards)

    def card(self, user_id: int) -> Card:
        return self._cards[user_id]

    def members(self, most: int) -> list[dict[str, Any]]:
        """The first ``most`` members: ``{id, name, avatar}``."""
        return [described(card) for card in islice(self._cards.values(), most)]

    # what processes say

    def change(self, process: str, version: int, user_id: int, card: Card | None) -> Change:
        """``process`` says that a user has come, or gone when there is no card; what is known does not count again."""
        found = Change([], [])
        if self._asking:
            self._log.append((process, version, user_id, card))
        if version > self._versions.get(process, 0):
            self._versions[process] = version
            if card is not None:
                self._add(process, card, found)
            else:
                self._take(process, user_id, found)
        return found

    def ask(self) -> None:
        """Processes are being asked for all, from now until :meth:`asked`."""
        self._asking += 1

    def asked(self) -> None:
        self._asking -= 1
        if not self._asking:
            self._log.clear()
            self._buried.clear()

    def replace(self, process: str, version: int, cards: Iterable[Card]) -> Change:
        """``process``, being asked, says who takes part: these and nobody else, but for what it has said since.

        If it has gone since, its answer counts for nothing.
        """
        if process in self._buried:
            return Change([], [])
        now = {card[0]: card for card in cards}
        for other, later, user_id, said in self._log:
            if other != process or later <= version:
                continue
            if said is not None:
                now[user_id] = said
            else:
                now.pop(user_id, None)
        self._versions[process] = max(version, self._versions.get(process, 0))
        found = Change([], [])
        for card in now.values():
            self._add(process, card, found)
        for user_id in [each for each in self.held.get(process, ()) if each not in now]:
            self._take(process, user_id, found)
        return found

    def agrees(self, process: str, version: int, count: int) -> bool:
        """Is what is known of ``process`` as new as that, and as much?"""
        held = len(self.held.get(process, ()))
        return self._versions.get(process, 0) >= version and (held == count or len(self) >= MAX_MEMBERS)

    def _add(self, process: str, card: Card, found: Change) -> None:
        user_id = card[0]
        known = user_id in self._cards
        if not known and len(self._cards) >= MAX_MEMBERS:
            return
        held = self.held.setdefault(process, set())
        if user_id not in held:
            held.add(user_id)
            self._counts[user_id] = self._counts.get(user_id, 0) + 1
        self._cards[user_id] = card
        if not known:
            found.joined.append(user_id)

    def _take(self, process: str, user_id: int, found: Change) -> None:
        held = self.held.get(process)
        if held is None or user_id not in held:
            return
        held.remove(user_id)
        if not held:
            del self.held[process]
        self._one_less(user_id, found)

    def _one_less(self, user_id: int, found: Change) -> None:
        self._counts[user_id] -= 1
        if not self._counts[user_id]:
            del self._counts[user_id]
            found.left.append(self._cards.pop(user_id))

    # processes that are gone

    def bury(self, process: str, ghost: str) -> bool:
        """``process`` is gone: what it held is held by ``ghost`` from now on, until :meth:`forget`.

        :returns: did it hold anything?
        """
        if self._asking:
            self._buried.add(process)
        self._versions.pop(process, None)
        held = self.held.pop(process, None)
        if held is not None:
            self.held[ghost] = held
        return held is not None

    def forget(self, ghost: str) -> Change:
        """Nothing that ``ghost`` held counts any more."""
        found = Change([], [])
        for user_id in self.held.pop(ghost, ()):
            self._one_less(user_id, found)
        return found


def described(card: Card) -> dict[str, Any]:
    """A member as clients see it."""
    return {"id": card[0], "name": card[1], "avatar": card[2]}
