"""How many workers there should be. Only the decision; nothing here starts or stops one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final


class _Stretch:
    """A time during which something has held without a break, and what the load was in it."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._count = 0
        self._sums = (0.0, 0.0)

    def see(self, now: float, holds: bool, cpu: float, lag: float) -> None:
        if not holds:
            return self.reset()
        if self._since is None:
            self._since = now
        self._count += 1
        self._sums = self._sums[0] + cpu, self._sums[1] + lag

    def reset(self) -> None:
        self._since, self._count, self._sums = None, 0, (0.0, 0.0)

    def lasted(self, now: float) -> float:
        return -1.0 if self._since is None else now - self._since

    def averages(self) -> tuple[float, float]:
        return self._sums[0] / self._count, self._sums[1] / self._count


class Scaler:
    """Adds a worker when all of them have been busy for a while, takes one away when one fewer would do for long.

    Adding needs ``sustain`` seconds without a break above a limit; taking away ten times as many below
    :attr:`comfort` of both limits, as they would be with one worker fewer. Between the two nothing happens, and
    neither comes sooner than ``cooldown`` seconds after a change.

    :param low: the fewest workers, 1 or more; ``high``: the most; ``start``: how many there are, None for ``low``.
    :param cpu_limit: per cent of a core; ``lag_limit``: seconds that a reactor is late. Of a worker, on average.
    :param clock: seconds, monotonic.
    """

    #: The part of a limit under which the load of fewer workers must stay.
    comfort: Final = 0.6
    #: How many times as long a lull must last as a rush.
    patience: Final = 10

    def __init__(
        self,
        low: int,
        high: int,
        cpu_limit: float,
        lag_limit: float,
        clock: Callable[[], float],
        *,
        start: int | None = None,
        sustain: float = 30.0,
        cooldown: float = 120.0,
    ) -> None:
        self._low, self._high = low, high
        self._cpu_limit, self._lag_limit = cpu_limit, lag_limit
        self._clock = clock
        self._sustain, self._cooldown = sustain, cooldown
        self._rush, self._lull = _Stretch(), _Stretch()
        self._changed: float | None = None
        self._seen: float | None = None
        #: Workers wanted.
        self.wanted = min(max(low if start is None else start, low), high)
        #: Why that many, since the last change; "" before one.
        self.reason = ""

    def observe(self, samples: Sequence[tuple[float, float]]) -> int:
        """Take notice of the load, every few seconds.

        :param samples: (per cent of a core, seconds of reactor lag) of each worker that works.
        :returns: :attr:`wanted`.
        """
        now = self._clock()
        if self._seen is not None and now - self._seen > self._sustain:
            self._forget()  # nobody looked for so long that nothing can be said to have lasted
        self._seen = now
        if not samples:
            self._forget()
            return self.wanted
        cpu = sum(sample[0] for sample in samples) / len(samples)
        lag = sum(sample[1] for sample in samples) / len(samples)
        self._rush.see(now, cpu > self._cpu_limit or lag > self._lag_limit, cpu, lag)
        more = len(samples) / max(1, self.wanted - 1)
        eased = cpu * more < self.comfort * self._cpu_limit and lag * more < self.comfort * self._lag_limit
        self._lull.see(now, eased, cpu * more, lag * more)
        if self._changed is None or now - self._changed >= self._cooldown:
            self._decide(now)
        return self.wanted

    def _decide(self, now: float) -> None:
        if self.wanted < self._high and self._rush.lasted(now) >= self._sustain:
            self._change(1, now, self._why_more(self._rush.lasted(now)))
        elif self.wanted > self._low and self._lull.lasted(now) >= self.patience * self._sustain:
            cpu, _ = self._lull.averages()
            seconds = self._lull.lasted(now)
            self._change(-1, now, f"CPU {cpu:.0f} % with one worker fewer, for {seconds:.0f} s{self._limit()}")

    def _why_more(self, seconds: float) -> str:
        cpu, lag = self._rush.averages()
        if cpu > self._cpu_limit:
            return f"CPU {cpu:.0f} % on average for {seconds:.0f} s{self._limit()}"
        return f"reactor lag {lag * 1000:.0f} ms on average for {seconds:.0f} s (limit {self._lag_limit * 1000:.0f} ms)"

    def _limit(self) -> str:
        return f" (limit {self._cpu_limit:.0f} %)"

    def _change(self, by: int, now: float, reason: str) -> None:
        self.wanted += by
        self.reason = reason
        self._changed = now
        self._forget()

    def _forget(self) -> None:
        self._rush.reset()
        self._lull.reset()
