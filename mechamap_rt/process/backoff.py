"""How long to wait before a worker that died is started again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final


class CrashLoop:
    """The deaths of one worker and of those that came in its place.

    The first few are replaced at once. A worker that keeps dying is started less and less often, so that a fault that
    every start has (a database that is down, say) costs neither the host's processors nor a full disk of logs.

    :param clock: seconds, monotonic.
    :param shortest: seconds of the first delay, and ``longest`` of the longest; each is twice the one before.
    """

    #: Seconds after which a worker counts as healthy.
    healthy: Final = 60.0
    #: Early deaths within :attr:`healthy` seconds that are forgiven.
    forgiven: Final = 3

    def __init__(self, clock: Callable[[], float], shortest: float = 1.0, longest: float = 30.0) -> None:
        self._clock = clock
        self.shortest, self.longest = shortest, longest
        self._deaths: deque[float] = deque(maxlen=self.forgiven)
        self._delay = 0.0

    @property
    def looping(self) -> bool:
        """Whether replacements are held back; an operator should know."""
        return self._delay > 0

    def died(self, ran_for: float) -> float:
        """A worker has ended that nobody told to.

        :param ran_for: seconds since its start.
        :returns: seconds until the next one may be started.
        """
        if ran_for >= self.healthy:
            self._recover()
            return 0.0
        now = self._clock()
        crowded = len(self._deaths) == self.forgiven and now - self._deaths[0] < self.healthy
        self._deaths.append(now)
        if self.looping or crowded:
            self._delay = min(max(self.shortest, 2 * self._delay), self.longest)
        return self._delay

    def alive_for(self, seconds: float) -> None:
        """The worker that was started last is alive, ``seconds`` after its start."""
        if seconds >= self.healthy:
            self._recover()

    def _recover(self) -> None:
        self._deaths.clear()
        self._delay = 0.0
