"""Where a process is, when it does not say so by itself."""

from __future__ import annotations

import faulthandler
import signal
import sys
from typing import Final

#: The signal at which a process writes where each of its threads is.
DUMP_SIGNAL: Final = signal.SIGUSR2


def dump_on_signal() -> None:
    """From now on :data:`DUMP_SIGNAL` writes the stacks of all threads to standard error, even of a hung process."""
    # the interpreter's own: twistd puts its log in the place of sys.stderr
    if sys.__stderr__ is not None:
        faulthandler.register(DUMP_SIGNAL, file=sys.__stderr__, all_threads=True)
