"""The scenarios about presence."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mechamap_rt.bench.contenders import Arrangement
from mechamap_rt.bench.presenceloads import TENS
from mechamap_rt.bench.shape import Column, Contender, Scenario, Size, Target

_FEW: Final = Contender("10-of-100", "mechamap", "socketio", watchers=10, crowd=100)
_MANY: Final = replace(_FEW, label="10-of-5000", crowd=5_000)
_WATCHED: Final = replace(_MANY, label="100-of-5000", watchers=100)
_BEATING: Final = Arrangement(heartbeat=30.0)
_PRESENT: Final = Contender("presence", "mechamap", "socketio", _BEATING, channel=TENS)
_PLAIN: Final = replace(_PRESENT, label="plain", channel=TENS.removeprefix("presence-"))
_SINGLE: Final = Contender("single", "mechamap", "socketio")
_CLUSTER: Final = Contender("cluster-3", "mechamap", "socketio", Arrangement(workers=3, free=True))

_QUICK: Final = Size(connections=40, operations=20, warmup=5, settle=0.5)

PRESENCE: Final[tuple[Scenario, ...]] = (
    Scenario(
        name="presence-change",
        title="a user comes to a presence channel or leaves it, before 10 or 100 watchers; 100 or 5,000 others online",
        unit="µs CPU/change",
        load="come-and-go",
        contenders=(_FEW, _MANY, _WATCHED),
        targets=(Target("10-of-5000", "10-of-100", 1.2),),
        size=Size(connections=0, operations=1_000, warmup=100),
        quick=_QUICK,
        references=("10-of-100",),
        columns=(Column("per_watcher", "µs each watcher", "µs CPU/watcher"),),
        timed=False,
        note="10-of-100: ten watchers, a hundred others online in presence channels of ten. A change is a subscribe or "
        "an unsubscribe with its answer and the event to each watcher. Latency is the answer's.",
    ),
    Scenario(
        name="presence-idle",
        title="10,000 users online, in channels of ten, who say nothing for 30 s",
        unit="% of a core",
        load="stay",
        contenders=(_PRESENT, _PLAIN),
        targets=(Target("presence", "plain", 2.0, relation="difference"),),
        size=Size(connections=10_000, operations=0, warmup=0, settle=30.0),
        quick=_QUICK,
        references=("plain",),
        columns=(Column("memory", "kB each", "kB/connection"),),
        timed=False,
        note="plain: the same channels without presence. Every connection has one heartbeat in the 30 s.",
    ),
    Scenario(
        name="presence-bulk",
        title="who of 1,000 users is online? POST over a kept connection, one after the other; 500 are",
        unit="µs CPU/question",
        load="ask-online",
        contenders=(_SINGLE, _CLUSTER),
        targets=(
            Target("single", None, 5.0, figure="p99"),
            Target("cluster-3", None, 5.0, figure="p99"),
            Target("single", None, 5.0, figure="socket_p99"),
            Target("cluster-3", None, 5.0, figure="socket_p99"),
        ),
        size=Size(connections=500, operations=1_000, warmup=100),
        quick=_QUICK,
        references=("single",),
        columns=(
            Column("worst", "worst ms", "ms"),
            Column("socket_us", "µs by WebSocket", "µs CPU/question by WebSocket"),
            Column("socket_p99", "its p99 ms", "ms p99 by WebSocket"),
        ),
        note="cluster-3: three workers on any core, CPU of all processes; each is posted to in turn. By WebSocket: "
        "who_is_online, one after the other.",
    ),
)
