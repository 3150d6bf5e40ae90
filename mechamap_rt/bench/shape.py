"""What a scenario is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mechamap_rt.bench.contenders import ALONE, Arrangement
from mechamap_rt.bench.job import Credential, DialectName, LoadName, ServerName


@dataclass(frozen=True, slots=True)
class Contender:
    """A server and the wire it is spoken to over; one row of a scenario.

    :ivar in_flight: publications under way at once; 0 for the scenario's.
    :ivar credential: what its clients come with.
    :ivar channel: what they subscribe to; ``{user}`` is the client's user. Empty for the load's own.
    :ivar priority: of what is published; empty for none.
    :ivar watchers: of those who come and go, and the ``crowd`` that is online elsewhere.
    """

    label: str
    server: ServerName
    dialect: DialectName
    arrangement: Arrangement = ALONE
    in_flight: int = 0
    credential: Credential = "jwt"
    channel: str = ""
    priority: str = ""
    watchers: int = 0
    crowd: int = 0


#: What of two rows is judged: ``ratio``, ours ÷ the other's; ``difference``, ours − the other's; ``speedup``, how many
#: times as much the row's workers do together, each with a core, when only CPU time counts.
Relation = Literal["ratio", "difference", "speedup"]


@dataclass(frozen=True, slots=True)
class Target:
    """An aim: a row's figure, or its relation to another row's, is at most ``limit``.

    :ivar against: the other row's label; ``None`` when the figure itself is limited.
    :ivar figure: the name of the figure; empty for the row's main one.
    :ivar least: at least ``limit`` instead.
    """

    subject: str
    against: str | None
    limit: float
    figure: str = ""
    relation: Relation = "ratio"
    least: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A further figure of a scenario: its name, its heading, and what it is counted in."""

    figure: str
    heading: str
    unit: str


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a load: see :class:`~mechamap_rt.bench.job.Job`."""

    connections: int
    operations: int
    warmup: int
    in_flight: int = 4
    rate: float = 20.0
    settle: float = 5.0
    drain: float = 10.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One table of the report.

    :ivar unit: of a row's figure.
    :ivar quick: the size that only shows that it works.
    :ivar references: rows that the others are divided by.
    :ivar columns: further figures.
    :ivar timed: it has latencies, and the CPU of server and generator; columns show them.
    :ivar note: what must be known to read the figures.
    """

    name: str
    title: str
    unit: str
    load: LoadName
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...]
    size: Size
    quick: Size
    references: tuple[str, ...] = ("npm", "sendloop")
    columns: tuple[Column, ...] = ()
    timed: bool = True
    note: str = ""
