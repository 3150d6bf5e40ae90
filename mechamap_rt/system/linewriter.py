"""Lines that are written by a thread of their own, so that no disk and no pipe holds the reactor up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Thread
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred

from mechamap_rt.core.deferreds import within

#: Lines that are written at once: others of the host may wait for a lock meanwhile.
BATCH: Final = 100
#: Seconds between two tries to write.
RETRY: Final = 1.0
#: Seconds that the last lines may take when the server stops.
FLUSH_LIMIT: Final = 0.5


class Target(Protocol):
    """Where lines go; its methods block."""

    def append(self, lines: deque[bytes]) -> None:
        """Write the lines, and take away from ``lines`` what is written.

        :raises OSError: what is left over cannot be.
        """

    def close(self) -> None: ...


class LineWriter:
    """Takes lines on any thread, and writes them on one of its own.

    :param target: ``None`` for nowhere.
    :param name: the thread's.
    :param said: told on the reactor's thread why it cannot be written any more, and ``None`` when it can be again.
    :param most: lines that may wait.
    :param most_bytes: of them all.
    """

    def __init__(
        self,
        reactor: Any,
        target: Target | None,
        name: str,
        said: Callable[[str | None], object],
        most: int,
        most_bytes: int,
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._name = name
        self._say = said
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: deque[bytes] = deque()
        self._batch: deque[bytes] = deque()
        self._bytes = 0
        #: Guards everything that the thread looks at: what waits, the target, and the end.
        self._changed = Condition()
        self._ending = False
        self._failing = False
        self._thread: Thread | None = None
        self.ended: Deferred[None] = Deferred()

    @property
    def waiting(self) -> int:
        """Lines that the thread has not taken yet."""
        return len(self._waiting)

    def put(self, line: bytes) -> bool:
        """Have a line written; ``False`` if too many wait. After the end it is written here, or not at all."""
        with self._changed:
            if len(self._waiting) >= self._most or self._bytes + len(line) > self._most_bytes:
                return False
            self._waiting.append(line)
            self._bytes += len(line)
            self._changed.notify()
        if self.ended.called:
            self.finish()
        return True

    def start(self) -> None:
        """Begin to write; after a daemon's forks, which threads do not survive."""
        if self._thread is None and self._target is not None:
            self._thread = Thread(target=self._write, name=self._name, daemon=True)
            self._thread.start()

    def move(self, target: Target | None) -> None:
        """Write to another target from now on; the thread closes the one that it has had."""
        self._target = target
        self.start()

    async def stop(self) -> int:
        """Wait until what was put is written, for half a second at most; how many lines are not."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread is not None:
            with suppress(TimeoutError):
                await within(self._reactor, FLUSH_LIMIT, self.ended)
        return len(self._waiting) + len(self._batch)

    def finish(self) -> None:
        """Write what waits here and now, where there is no thread that does; what cannot be written is lost."""
        target = self._target
        if target is None or (self._thread is not None and not self.ended.called):
            return
        while self._take(wait=False):
            with suppress(OSError):
                target.append(self._batch)
            self._batch.clear()

    def tell(self, fault: str | None) -> None:
        """The target cannot be written, for this reason, or can be again: it is said once."""
        if (fault is None) == self._failing:
            self._failing = fault is not None
            self._say(fault)

    # the thread

    def _write(self) -> None:
        current: Target | None = None
        while self._take():
            target = self._target
            if current is not None and current is not target:
                current.close()
            current = target
            if target is None:
                self._batch.clear()
                continue
            try:
                target.append(self._batch)
            except OSError as error:
                self._reactor.callFromThread(self.tell, cannot(error))
                with self._changed:
                    if self._ending:
                        break
                    # what is put meanwhile need not wake it; the end does
                    self._changed.wait_for(lambda: self._ending, RETRY)
            else:
                if self._failing:
                    self._reactor.callFromThread(self.tell, None)
        if current is not None:
            current.close()
        self._reactor.callFromThread(self.ended.callback, None)

    def _take(self, wait: bool = True) -> bool:
        """Wait for lines, and have them in the batch; there are none any more after the end."""
        batch = self._batch
        with self._changed:
            if wait and not batch:
                self._changed.wait_for(lambda: self._waiting or self._ending)
            while self._waiting and len(batch) < BATCH:
                batch.append(self._waiting.popleft())
                self._bytes -= len(batch[-1])
        return bool(batch)


def cannot(error: OSError) -> str:
    """What is the matter, behind the name of the file."""
    return f"cannot be written: {error.strerror or type(error).__name__}"
