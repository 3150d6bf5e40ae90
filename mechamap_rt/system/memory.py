"""Giving back the memory that only the start needed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from typing import Final

from twisted.internet.interfaces import IReactorTime

_MADV_DONTNEED: Final = 4
#: Seconds after the start at which code is let go: as soon as clients are served, and when the first have been.
SETTLED: Final = (0.5, 5.0)


def settle(reactor: IReactorTime) -> None:
    """Let go of code twice: see :func:`release_code`. Fewer than a hundred system calls each."""
    for seconds in SETTLED:
        reactor.callLater(seconds, release_code)


def release_code() -> int:
    """Let go of the machine code that was used so far; what is used again comes back from the page cache, unread.

    Loading some sixty shared objects touches most of their code once. It is mapped from files and never written to, so
    dropping it costs a page fault where it is needed again, and shrinks an idle process by some 10 MB.

    :returns: bytes of the mappings.
    """
    with open("/proc/self/maps") as maps:
        ranges = list(code_ranges(maps))
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for start, end in ranges:
        madvise(start, end - start, _MADV_DONTNEED)
    return sum(end - start for start, end in ranges)


def code_ranges(maps: Iterable[str]) -> Iterator[tuple[int, int]]:
    """The mappings of ``/proc/self/maps`` (proc(5)) that are code from files: readable, executable, never writable.

    Only these: a private mapping that was written to, as relocated data is, would lose what was written.
    """
    for line in maps:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[1] == "r-xp" and fields[5].startswith("/"):
            start, _, end = fields[0].partition("-")
            yield int(start, 16), int(end, 16)
