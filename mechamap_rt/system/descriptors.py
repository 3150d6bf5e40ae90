"""Descriptors: how many this process may have, and from which number on there are too many.

The kernel gives each new descriptor the lowest free number. So a connection whose number is at the ceiling or above
says, without anybody counting, that all below it are taken: by clients, database, Redis, log and other processes.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

#: Descriptors that clients do not get: for everything else, and for those that are accepted in one turn.
RESERVED: Final = 256
#: Where the limit is low the reserve is this part of it.
PART: Final = 8
#: Taken for the limit where there is none.
_UNLIMITED: Final = 1 << 30


def raise_limit() -> int:
    """Raise the soft limit of descriptors to the hard one (``setrlimit(2)``); the limit that holds then.

    The soft limit is low for programs that use ``select(2)``, which this one does not. Child processes inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # a hard limit above fs.nr_open, or none, cannot be had without privileges
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return limit()


def limit() -> int:
    """The soft limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def reserve() -> int:
    """Descriptors that clients do not get."""
    return min(RESERVED, limit() // PART)


def ceiling() -> int:
    """The number from which on a client's descriptor is one too many."""
    return limit() - reserve()
