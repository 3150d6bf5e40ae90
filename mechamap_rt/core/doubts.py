"""Of whom a replica may still say what the writer does not say any more."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

#: Keys that are remembered.
MAX_DOUBTS: Final = 10_000
#: Seconds that replicas are given to hear of everything while it is not known of whom they must not be believed.
LAG: Final = 60.0


class Doubts:
    """Keys of what has been taken away: only the server where rows are written is believed about them.

    A key stays until as many newer ones have come: how far a replica lags behind is not known, and to ask the writer
    about a few costs nothing. For :data:`LAG` seconds everything is in doubt after the start, when what was taken away
    before is not known, and after one has had to be forgotten that was younger.

    :param clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float], bound: int = MAX_DOUBTS) -> None:
        self._clock = clock
        self._bound = bound
        self._noted: dict[Hashable, float] = {}
        self._general_until = clock() + LAG

    def __len__(self) -> int:
        return len(self._noted)

    def note(self, key: Hashable) -> None:
        """Something about ``key`` has just been taken away."""
        self._noted.pop(key, None)
        self._noted[key] = self._clock()
        if len(self._noted) > self._bound:
            self._general_until = max(self._general_until, self._noted.pop(next(iter(self._noted))) + LAG)

    def covers(self, *keys: Hashable) -> bool:
        """Must no replica be believed about any of these?"""
        return any(key in self._noted for key in keys)

    @property
    def general(self) -> bool:
        """Is the writer to be asked about everybody, if it answers?"""
        return self._clock() < self._general_until
