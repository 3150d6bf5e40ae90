"""What goes on beside a test, in a thread of its own."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self


class Background(threading.Thread):
    """A thread that runs until :meth:`end`, or until its context ends. Subclasses start it when they are ready.

    :ivar _over: set when it shall end; :meth:`run` looks.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()

    def end(self) -> None:
        self._over.set()
        self.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
