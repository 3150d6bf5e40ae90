"""What has been done already, by the key under which it was asked for: what is asked for twice is done once."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

#: Seconds for which an answer is kept.
KEPT: Final = 600.0
#: Seconds for which something may be under way; a process that took longer, or died, does not hold it up for ever.
UNDER_WAY: Final = 30.0
#: Entries, and bytes of their answers; over that the oldest are forgotten.
MOST: Final = 50_000
MOST_BYTES: Final = 32 * 1024 * 1024
#: Bytes that an entry costs besides its answer.
_ENTRY: Final = 300


class State(StrEnum):
    """How it stands with a key."""

    NEW = "new"  #: Nobody has asked before: who has asked now does it.
    BUSY = "busy"  #: Somebody is doing it.
    DONE = "done"  #: It has been done, with the answer that is there.
    OTHER = "other"  #: Something else was asked for under this key.


class Claim(NamedTuple):
    """The answer to who asks."""

    state: State
    answer: bytes = b""


class _Entry:
    __slots__ = ("answer", "digest", "owner", "until")

    def __init__(self, owner: str, digest: bytes, until: float) -> None:
        self.owner = owner
        self.digest = digest
        self.until = until
        self.answer: bytes | None = None


class Ledger:
    """Keeps it in memory.

    Who claims is a process: what it has under way when it dies is anybody's.

    :param clock: seconds, monotonic.
    """

    def __init__(
        self, clock: Callable[[], float], kept: float = KEPT, most: int = MOST, most_bytes: int = MOST_BYTES
    ) -> None:
        self._clock = clock
        self._kept = kept
        self._most = most
        self._most_bytes = most_bytes
        self._entries: dict[str, _Entry] = {}
        self._bytes = 0

    def claim(self, owner: str, key: str, digest: bytes) -> Claim:
        """Ask to do something.

        :param digest: of what is asked for.
        """
        now = self._clock()
        entry = self._entries.get(key)
        if entry is not None and entry.until > now:
            if entry.digest != digest:
                return Claim(State.OTHER)
            return Claim(State.BUSY) if entry.answer is None else Claim(State.DONE, entry.answer)
        self._drop(key)
        self._entries[key] = _Entry(owner, digest, now + UNDER_WAY)
        self._bytes += _ENTRY
        self._trim(now)
        return Claim(State.NEW)

    def settle(self, key: str, digest: bytes, answer: bytes) -> None:
        """It is done, with this answer."""
        entry = self._drop(key) or _Entry("", digest, 0.0)
        now = self._clock()
        entry.answer, entry.until, entry.owner = answer, now + self._kept, ""
        self._entries[key] = entry
        self._bytes += _ENTRY + len(answer)
        self._trim(now)

    def release(self, key: str) -> None:
        """It was not done: who asks again does it."""
        entry = self._entries.get(key)
        if entry is not None and entry.answer is None:
            self._drop(key)

    def forget(self, owner: str) -> None:
        """A process is gone, and what it had under way is not done by it."""
        for key in [key for key, entry in self._entries.items() if entry.owner == owner and entry.answer is None]:
            self._drop(key)

    def __len__(self) -> int:
        return len(self._entries)

    def _drop(self, key: str) -> _Entry | None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _ENTRY + len(entry.answer or b"")
        return entry

    def _trim(self, now: float) -> None:
        """Entries come in the order of their age."""
        while self._entries:
            key = next(iter(self._entries))
            over = len(self._entries) > self._most or self._bytes > self._most_bytes
            if not over and self._entries[key].until > now:
                return
            self._drop(key)
