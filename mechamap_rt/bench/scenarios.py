"""What is measured, on which servers, and what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from mechamap_rt.bench.contenders import ServerName
from mechamap_rt.bench.job import DialectName, LoadName


@dataclass(frozen=True, slots=True)
class Contender:
    """A server and the wire it is spoken to over; one row of a scenario."""

    label: str
    server: ServerName
    dialect: DialectName


@dataclass(frozen=True, slots=True)
class Target:
    """An aim: a row's figure, or its ratio to another row's, is at most ``limit``.

    :ivar against: the other row's label; ``None`` when the figure itself is limited.
    """

    subject: str
    against: str | None
    limit: float


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a load: see :class:`~mechamap_rt.bench.job.Job`."""

    connections: int
    operations: int
    warmup: int
    in_flight: int = 4
    rate: float = 20.0
    settle: float = 5.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One table of the report.

    :ivar unit: of a row's figure.
    :ivar quick: the size that only shows that it works.
    """

    name: str
    title: str
    unit: str
    load: LoadName
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...]
    size: Size
    quick: Size


MECHAMAP = Contender("mechamap", "mechamap", "socketio")
NATIVE = Contender("mechamap-native", "mechamap", "native")
POLLING = Contender("mechamap-polling", "mechamap", "polling")
NPM = Contender("npm", "npm", "socketio")
NPM_POLLING = Contender("npm-polling", "npm", "polling")
SENDLOOP = Contender("sendloop", "sendloop", "bare")

_QUICK = Size(connections=40, operations=20, warmup=5, in_flight=4, rate=50.0, settle=0.2)

SCENARIOS: Final[tuple[Scenario, ...]] = (
    Scenario(
        name="fanout-flat",
        title="200-byte message to 1,000 subscribers of one channel, 4 publications in flight",
        unit="µs CPU/delivery",
        load="flat",
        contenders=(MECHAMAP, NATIVE, POLLING, NPM, NPM_POLLING, SENDLOOP),
        targets=(
            Target("mechamap", "npm", 0.5),
            Target("mechamap", "sendloop", 1.0),
            Target("mechamap-native", "mechamap", 1.0),
            Target("mechamap-polling", "mechamap", 4.0),
        ),
        size=Size(connections=1000, operations=400, warmup=60),
        quick=_QUICK,
    ),
    Scenario(
        name="fanout-paced",
        title="200-byte message to 250 subscribers of one channel, 20 publications a second",
        unit="µs CPU/delivery",
        load="paced",
        contenders=(MECHAMAP, NATIVE, POLLING, NPM, NPM_POLLING, SENDLOOP),
        targets=(
            Target("mechamap", "npm", 0.7),
            Target("mechamap-native", "mechamap", 1.0),
            Target("mechamap-polling", "mechamap", 4.0),
        ),
        size=Size(connections=250, operations=400, warmup=100),
        quick=_QUICK,
    ),
    Scenario(
        name="idle",
        title="5,000 authenticated connections that say nothing",
        unit="kB/connection",
        load="idle",
        contenders=(MECHAMAP, NATIVE, POLLING, NPM),
        targets=(
            Target("mechamap", None, 16.0),
            Target("mechamap-native", None, 12.0),
            Target("mechamap-polling", None, 25.0),
        ),
        size=Size(connections=5000, operations=0, warmup=500),
        quick=replace(_QUICK, connections=100),
    ),
    Scenario(
        name="connect",
        title="connect, authenticate with a JWT, subscribe; 20 at once, each another user",
        unit="µs CPU/connection",
        load="connect",
        contenders=(MECHAMAP, NATIVE, NPM),
        targets=(Target("mechamap", None, 500.0), Target("mechamap-native", None, 500.0)),
        size=Size(connections=2000, operations=0, warmup=300, in_flight=20),
        quick=replace(_QUICK, in_flight=20),
    ),
    Scenario(
        name="post",
        title="POST of one notification to one subscriber over a kept connection, one after the other",
        unit="µs CPU/request",
        load="post",
        contenders=(MECHAMAP, NATIVE, NPM),
        targets=(Target("mechamap", None, 220.0), Target("mechamap-native", None, 220.0)),
        size=Size(connections=1, operations=3000, warmup=1000),
        quick=replace(_QUICK, connections=1),
    ),
)


def scenario(name: str) -> Scenario:
    """The scenario of that name.

    :raises KeyError: if there is none.
    """
    return {each.name: each for each in SCENARIOS}[name]
