"""How much HTTP there is: plain numbers, counted with every answer."""

from __future__ import annotations

from collections import Counter

from mechamap_rt.core.metrics import Histogram


class Traffic:
    """The answers of one process since its start, or since they were last reset.

    :ivar answers: by route and status; routes are those of the API, so there are few.
    :ivar seconds: spent from the head of a request to its answer, in all.
    :ivar slowest: of one answer, in seconds.
    :ivar durations: how long answers took, by route.
    """

    __slots__ = ("answers", "durations", "seconds", "slowest")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.answers: Counter[tuple[str, int]] = Counter()
        self.seconds = 0.0
        self.slowest = 0.0
        self.durations: dict[str, Histogram] = {}

    def note(self, route: str, status: int, seconds: float) -> None:
        """One answer."""
        self.answers[route, status] += 1
        self.seconds += seconds
        if seconds > self.slowest:
            self.slowest = seconds
        duration = self.durations.get(route)
        if duration is None:
            duration = self.durations[route] = Histogram()
        duration.observe(seconds)

    def figures(self) -> dict[str, float]:
        """``requests``, ``errors`` (status 500 and over), ``refused`` (400 to 499), ``seconds``, ``slowest``."""
        total = errors = refused = 0
        for (_, status), count in self.answers.items():
            total += count
            if status >= 500:
                errors += count
            elif status >= 400:
                refused += count
        return {
            "requests": total,
            "errors": errors,
            "refused": refused,
            "seconds": self.seconds,
            "slowest": self.slowest,
        }
