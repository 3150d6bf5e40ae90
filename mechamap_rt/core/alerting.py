"""When a figure is a reason to tell somebody: over its threshold for a while, until it has been well for a while.

Looks at the figures of the processes of one host, and says of each threshold once, not once for each process, how it
stands. Telling is others' business (:class:`~mechamap_rt.process.alerts.Alerts`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from mechamap_rt.core.thresholds import THRESHOLDS

#: A figure is well when it is at most this part of its threshold; between the two an alert stays as it is.
WELL: Final = 0.9
#: Seconds for which it must be over, and then well, before anything is said; of the processor, which rushes keep busy.
SUSTAIN: Final = 5.0
SUSTAIN_CPU: Final = 30.0
CLEAR: Final = 10.0
#: Seconds over which averages and rates are taken, and the fewest requests, or messages, of which one means something.
WINDOW: Final = 60.0
FEWEST: Final = 20

#: Says how it stands with an alert: its name, what is the matter or ``None``, and the figure.
Tell = Callable[[str, "str | None", "float | None"], object]

_COUNTED: Final = ("requests", "seconds", "errors", "delivered", "dropped", "overflows")


#: What is a reason by itself: the alert's name, what is the matter, and whether a process's figures say so.
_SIGNS: Final[tuple[tuple[str, str, Callable[[Mapping[str, Any]], bool]], ...]] = (
    ("bus_degraded", "a part of the cluster is out of reach", lambda figures: bool(figures.get("degraded"))),
    ("canary_lost", "what is published does not come back", lambda figures: figures.get("canary") is False),
    ("database_down", "the database does not answer", lambda figures: figures.get("database") == "down"),
)


class _State(NamedTuple):
    """How it stands with one reason: between over and well, as it was."""

    over: bool
    well: bool
    sentence: str
    value: float | None


class _Level(NamedTuple):
    """One threshold's figure now, and at which processes it is over."""

    value: float
    where: tuple[str, ...]


class _Window:
    """What a process has counted lately."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, tuple[float, ...]]] = deque()

    def look(self, now: float, figures: Mapping[str, Any]) -> None:
        counted = tuple(float(figures.get(name, 0.0)) for name in _COUNTED)
        if self._seen and any(after < before for before, after in zip(self._seen[-1][1], counted, strict=True)):
            # it was told to count anew
            self._seen.clear()
        self._seen.append((now, counted))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()

    def passed(self) -> dict[str, float]:
        """What has been added in the window."""
        first, last = self._seen[0][1], self._seen[-1][1]
        return {name: after - before for name, before, after in zip(_COUNTED, first, last, strict=True)}


class Watch:
    """Compares figures with thresholds, once a second or so.

    :param tell: hears how it stands whenever that changes, and again while an alert is held.
    :param clock: seconds, monotonic.
    """

    def __init__(self, tell: Tell, clock: Callable[[], float]) -> None:
        self._tell = tell
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        self._over_since: dict[str, float] = {}
        self._well_since: dict[str, float] = {}
        self._raised: set[str] = set()

    def look(self, rows: Mapping[str, Mapping[str, Any]], values: Mapping[str, float]) -> None:
        """:param rows: the figures of each process, by its name; ``values``: the thresholds."""
        now = self._clock()
        for name in set(self._windows).difference(rows):
            del self._windows[name]
        for name, figures in rows.items():
            self._windows.setdefault(name, _Window()).look(now, figures)
        for name, level in self._levels(rows, values).items():
            most = values[name]
            sustain = SUSTAIN_CPU if name == "cpu" else SUSTAIN
            state = _State(level.value > most, level.value <= WELL * most, _sentence(name, level, most), level.value)
            self._judge(name, state, sustain)
        for name, text, is_so in _SIGNS:
            found = [worker for worker, figures in rows.items() if is_so(figures)]
            self._judge(name, _State(bool(found), not found, _at(text, found), None), SUSTAIN)

    def _judge(self, name: str, state: _State, sustain: float) -> None:
        now = self._clock()
        over_since = self._over_since.setdefault(name, now) if state.over else self._over_since.pop(name, now)
        well_since = self._well_since.setdefault(name, now) if state.well else self._well_since.pop(name, now)
        if name in self._raised:
            if state.well and now - well_since >= CLEAR:
                self._raised.discard(name)
                self._tell(name, None, state.value)
            elif state.over:
                self._tell(name, state.sentence, state.value)
        elif state.over and now - over_since >= sustain:
            self._raised.add(name)
            self._tell(name, state.sentence, state.value)

    def _levels(self, rows: Mapping[str, Mapping[str, Any]], values: Mapping[str, float]) -> dict[str, _Level]:
        levels = {
            "memoryPerWorker": _worst(rows, "rss", 1.0, values["memoryPerWorker"]),
            "cpu": _worst(rows, "cpu", 1.0, values["cpu"]),
            "databasePool": _worst(rows, "pool", 1.0, values["databasePool"]),
            "reactorLag": _worst(rows, "lag", 1000.0, values["reactorLag"]),
        }
        passed = {name: sum(each.passed()[name] for each in self._windows.values()) for name in _COUNTED}
        requests, messages = passed["requests"], passed["delivered"] + passed["dropped"]
        enough = requests >= FEWEST
        levels["responseTime"] = _Level(1000 * passed["seconds"] / requests if enough else 0.0, ())
        levels["errorRate"] = _Level(100 * passed["errors"] / requests if enough else 0.0, ())
        lost = passed["dropped"] + passed["overflows"]
        levels["dropRate"] = _Level(100 * lost / messages if messages >= FEWEST else 0.0, ())
        return levels


def _worst(rows: Mapping[str, Mapping[str, Any]], figure: str, factor: float, threshold: float) -> _Level:
    found = {name: factor * float(figures.get(figure, 0.0)) for name, figures in rows.items()}
    return _Level(max(found.values(), default=0.0), tuple(name for name, value in found.items() if value > threshold))


def _sentence(name: str, level: _Level, threshold: float) -> str:
    return _at(f"{level.value:g} is over {threshold:g} {THRESHOLDS[name].doc}", level.where)


def _at(text: str, where: Iterable[str]) -> str:
    found = ", ".join(where)
    return f"{text}, at {found}" if found else text
