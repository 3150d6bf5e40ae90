"""What is measured, on which servers, and what is aimed at."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mechamap_rt.bench.authscenarios import AUTH
from mechamap_rt.bench.contenders import Arrangement
from mechamap_rt.bench.job import LoadName
from mechamap_rt.bench.presencescenarios import PRESENCE
from mechamap_rt.bench.shape import Column, Contender, Scenario, Size, Target

MECHAMAP = Contender("mechamap", "mechamap", "socketio")
NATIVE = Contender("mechamap-native", "mechamap", "native")
POLLING = Contender("mechamap-polling", "mechamap", "polling")
NPM = Contender("npm", "npm", "socketio")
NPM_POLLING = Contender("npm-polling", "npm", "polling")
SENDLOOP = Contender("sendloop", "sendloop", "bare")

_QUICK = Size(connections=40, operations=20, warmup=5, in_flight=4, rate=50.0, settle=0.2)

_SINGLES: Final[tuple[Scenario, ...]] = (
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
        note="Keys are checked and requests counted, against a limit that is never reached.",
    ),
    Scenario(
        name="health",
        title="GET /api/health over a kept connection, one after the other",
        unit="µs CPU/request",
        load="health",
        contenders=(MECHAMAP, NPM),
        targets=(Target("mechamap", None, 120.0),),
        size=Size(connections=0, operations=5000, warmup=1000),
        quick=replace(_QUICK, connections=0),
    ),
    Scenario(
        name="visits",
        title="GET /api/health as ab -n 1000 -c 50 asks: HTTP/1.0, a connection for each request, 50 at once",
        unit="µs CPU/request",
        load="visits",
        contenders=(MECHAMAP, NPM),
        targets=(
            Target("mechamap", "npm", 1 / 1.5),
            Target("mechamap", None, 0.0, figure="uneven"),
        ),
        size=Size(connections=0, operations=10_000, warmup=3000, in_flight=50),
        quick=replace(_QUICK, connections=0),
        columns=(
            Column("rate", "per CPU s", "requests a CPU second"),
            Column("uneven", "uneven", "answers of another length than the first, which ab takes for failures"),
        ),
    ),
)


_SINGLE = Contender("single", "mechamap", "socketio", Arrangement(free=True))
_SINGLE_8 = replace(_SINGLE, label="single-8", in_flight=8)
_CLUSTER_1, _CLUSTER_2, _CLUSTER_3 = (
    Contender(f"cluster-{workers}", "mechamap", "socketio", Arrangement(workers=workers, free=True), 4 * workers)
    for workers in (1, 2, 3)
)
_REDIS = Contender("redis", "mechamap", "socketio", Arrangement(hosts=2, free=True))

_CLUSTERS: Final[tuple[Scenario, ...]] = (
    Scenario(
        name="cluster-fanout",
        title="200-byte message to 1,000 subscribers of one channel, 4 publications in flight for each worker",
        unit="µs CPU/delivery",
        load="spread",
        contenders=(_SINGLE, _SINGLE_8, _CLUSTER_1, _CLUSTER_2, _CLUSTER_3),
        targets=(
            Target("cluster-2", "single", 2 / 1.7),
            Target("cluster-2", "single", 1.7, relation="speedup", least=True),
            Target("cluster-2", "single", 1.7, figure="rate", least=True),
            Target("cluster-2", "single-8", 1.7, figure="rate", least=True),
        ),
        size=Size(connections=1000, operations=2000, warmup=200, in_flight=4),
        quick=_QUICK,
        references=("single", "single-8"),
        columns=(Column("rate", "per s", "deliveries/s"),),
        note="CPU is of all processes, master included. Every worker is posted to alike. single-8 is one process with "
        "as much under way as cluster-2: it writes larger pieces, less often. Servers and generator share all cores; "
        "98 % of the subscribers are read now and then only, which costs little, so that the cores are the servers': "
        "compare within this table alone, and deliveries/s only where nothing else runs.",
    ),
    Scenario(
        name="cluster-post",
        title="POST of one notification to one subscriber, one after the other, to each worker in turn, any core",
        unit="µs CPU/request",
        load="post",
        contenders=(_SINGLE, _CLUSTER_3),
        targets=(),
        size=Size(connections=1, operations=3000, warmup=999),
        quick=replace(_QUICK, connections=1),
        references=("single",),
        note="CPU is of all processes, master included; one POST in three meets the subscriber's own worker.",
    ),
    Scenario(
        name="redis-publish",
        title="POST of one notification to one subscriber, 1,000 a second; redis: the subscriber is on another host",
        unit="µs CPU/publication",
        load="notify",
        contenders=(_SINGLE, _REDIS),
        targets=(
            Target("redis", "single", 150.0, relation="difference"),
            Target("redis", None, 3.0, figure="p99"),
            Target("redis", None, 990.0, figure="rate", least=True),
        ),
        size=Size(connections=1, operations=5000, warmup=1000, rate=1000.0),
        quick=replace(_QUICK, connections=1, rate=200.0),
        references=("single",),
        columns=(Column("rate", "per s", "posts/s"),),
        note="CPU is of both hosts, a process each, and of redis-server. Posted at a fixed rate over 8 connections; "
        "latency is from the POST's sending to the message's arrival, in one process with one clock.",
    ),
    Scenario(
        name="reload",
        title="mechamapctl reload --drain 10s of 3 workers with 1,000 clients, half native, half Socket.IO",
        unit="s to the answer",
        load="reload",
        contenders=(_CLUSTER_3,),
        targets=(
            Target("cluster-3", None, 15.0),
            Target("cluster-3", None, 15.0, figure="back"),
            Target("cluster-3", None, 0.0, figure="http_failed"),
            Target("cluster-3", None, 0.0, figure="refused"),
        ),
        size=Size(connections=1000, operations=0, warmup=0, rate=50.0),
        quick=replace(_QUICK, drain=1.0),
        references=(),
        columns=(
            Column("back", "last back s", "s to the last client's return"),
            Column("gap_p99", "away p99 s", "s away"),
            Column("left", "left", "departures"),
            Column("refused", "refused", "refused connections"),
            Column("http", "GETs", "requests"),
            Column("http_failed", "failed", "failed requests"),
            Column("http_p99_ms", "GET p99 ms", "ms"),
        ),
        timed=False,
        note="Clients come back as socket.io-client does (after 0.5 to 1.5 s), native ones when the server says; GET "
        "/api/health is asked 50 times a second, over a fresh connection each.",
    ),
    Scenario(
        name="memory",
        title="the processes after their start, without a client; the largest worker",
        unit="worker RSS MiB",
        load="memory",
        contenders=(_SINGLE, _CLUSTER_3),
        targets=(Target("cluster-3", None, 60.0), Target("cluster-3", None, 45.0, figure="master_rss")),
        size=Size(connections=0, operations=0, warmup=0, settle=5.0),
        quick=replace(_QUICK, connections=0),
        references=(),
        columns=(
            Column("worker_pss", "worker Pss", "MiB"),
            Column("worker_anon", "worker anon", "MiB"),
            Column("master_rss", "master RSS", "MiB of the master's RSS"),
            Column("master_pss", "master Pss", "MiB"),
            Column("master_anon", "master anon", "MiB"),
            Column("total_pss", "all Pss", "MiB"),
        ),
        timed=False,
        note="MiB as ps has it: kB ÷ 1,024. RSS counts shared pages in each process, Pss shares them out; anon is "
        "RssAnon, of no file.",
    ),
)

_AT_ONCE = Contender("at-once", "mechamap", "socketio")
_MEDIUM, _LOW = replace(_AT_ONCE, label="medium", priority="medium"), replace(_AT_ONCE, label="low", priority="low")

_BATCHED: Final = Scenario(
    name="batched",
    title="a counter that changes 500 times a second, 100 subscribers of its channel",
    unit="µs CPU/publication",
    load="batched",
    contenders=(_AT_ONCE, _MEDIUM, _LOW),
    targets=(
        Target("medium", "at-once", 0.5),
        Target("low", "at-once", 0.5),
        Target("medium", None, 2.0, figure="longest"),
        Target("low", None, 10.0, figure="longest"),
    ),
    size=Size(connections=100, operations=10_000, warmup=500, rate=500.0),
    quick=replace(_QUICK, operations=100, warmup=0, rate=100.0),
    references=("at-once",),
    columns=(
        Column("rate", "per s", "publications/s"),
        Column("received", "messages each", "messages/client"),
        Column("longest", "gone by s", "s from the last publication to its arrival"),
    ),
    note="CPU of the server, the POSTs included, from the first publication to the arrival of the last value. Latency "
    "is of the values that were sent: the others were replaced by newer ones.",
)

#: What metrics, latencies and the memory of what became of publications cost, all together.
_WATCHED = Contender("watched", "mechamap", "socketio")
_UNWATCHED = replace(_WATCHED, label="unwatched", arrangement=Arrangement(unwatched=True))
_WATCHED_LOADS: Final[tuple[tuple[LoadName, str, str, Size], ...]] = (
    (
        "flat",
        "200-byte message to 1,000 subscribers, with what is measured and remembered, and without",
        "µs CPU/delivery",
        Size(connections=1000, operations=1000, warmup=100),
    ),
    (
        "post",
        "POST of one notification to one subscriber, with what is measured and remembered, and without",
        "µs CPU/request",
        Size(connections=1, operations=8000, warmup=1000),
    ),
)
_WATCHING: Final[tuple[Scenario, ...]] = tuple(
    Scenario(
        name=f"watching-{load}",
        title=title,
        unit=unit,
        load=load,
        contenders=(_WATCHED, _UNWATCHED),
        targets=(Target("watched", "unwatched", 1.03),),
        size=size,
        quick=replace(_QUICK, connections=min(size.connections, _QUICK.connections)),
        references=("unwatched",),
        note="unwatched: METRICS_ENABLED=false.",
    )
    for load, title, unit, size in _WATCHED_LOADS
)

SCENARIOS: Final[tuple[Scenario, ...]] = (*_SINGLES, _BATCHED, *_WATCHING, *PRESENCE, *_CLUSTERS, *AUTH)


def scenario(name: str) -> Scenario:
    """The scenario of that name.

    :raises KeyError: if there is none.
    """
    return {each.name: each for each in SCENARIOS}[name]
