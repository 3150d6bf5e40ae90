"""The scenarios about who people are and what they may hear, with a MariaDB behind the server."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mechamap_rt.bench.contenders import CONNECTIONS, Arrangement
from mechamap_rt.bench.shape import Column, Contender, Scenario, Size, Target

_ASKING: Final = Arrangement(connections=CONNECTIONS)
_QUICK: Final = Size(connections=60, operations=100, warmup=10, in_flight=20)

_JWT = Contender("jwt", "mechamap", "socketio")
_USER = Contender("jwt-user", "mechamap", "socketio", _ASKING)
_NEW = Contender("sanctum", "mechamap", "socketio", _ASKING, credential="sanctum")
_SINGLY = replace(_NEW, label="sanctum-singly", in_flight=1)
_MEMBER = replace(_NEW, label="sanctum-member", channel="private-conversation.{user}")
_KNOWN = replace(_NEW, label="known", credential="known")
_NPM = Contender("npm", "npm", "socketio")

_INSIDE = Contender("at-once", "inside", "bare", _ASKING, credential="sanctum")
_ADBAPI = Contender("adbapi", "adbapi", "bare", _ASKING, credential="sanctum")
_POOL = replace(_ADBAPI, label="pool", server="pool")
_INSIDES: Final = (
    replace(_INSIDE, label="cached", credential="known"),
    replace(_INSIDE, label="singly", in_flight=1),
    replace(_POOL, label="pool-singly", in_flight=1),
    replace(_ADBAPI, label="adbapi-singly", in_flight=1),
    _INSIDE,
    _POOL,
    _ADBAPI,
)

_QUERIES: Final = Column("queries", "queries each", "queries each")
_DATABASE: Final = Column("db_us", "mariadbd µs", "µs CPU of mariadbd")
_INSIDE_COLUMNS: Final = (
    Column("rate", "per s", "per s"),
    _QUERIES,
    Column("commits", "commits each", "commits each"),
    _DATABASE,
    Column("p50_ms", "p50 ms", "ms"),
    Column("p99_ms", "p99 ms", "ms"),
)
_INSIDE_NOTE: Final = (
    "In one process without sockets to clients; CPU is its own, threads included; at most 5 connections. singly: one "
    "after the other; cached: a loop of calls; otherwise 1,000 at once. pool and adbapi make the same SELECT for each "
    "over our connections, and over a bare adbapi.ConnectionPool, and do nothing with the row. mariadbd has the other "
    "core."
)

AUTH: Final[tuple[Scenario, ...]] = (
    Scenario(
        name="auth-connect",
        title="connect, authenticate, subscribe; 20 at once, each another user, whom a MariaDB knows",
        unit="µs CPU/connection",
        load="arrive",
        contenders=(_JWT, _KNOWN, _USER, _NEW, _SINGLY),
        targets=(
            Target("known", None, 1.0, figure="queries"),
            Target("jwt-user", None, 2.0, figure="queries"),
            Target("sanctum", None, 2.0, figure="queries"),
            Target("sanctum-singly", None, 2.0, figure="queries"),
        ),
        size=Size(connections=1000, operations=0, warmup=300, in_flight=20),
        quick=_QUICK,
        references=("jwt",),
        columns=(_QUERIES, _DATABASE),
        note="jwt: without a database, as in the scenario connect. jwt-user: a JWT, whose user is looked up. sanctum: "
        "tokens that the server has not seen; known: that it has; singly: one after the other. Who comes with a "
        "database behind the server is told how many notifications are unread: those queries are counted too, and "
        "known has no others. CPU is the server process's; mariadbd has the load generator's core.",
    ),
    Scenario(
        name="auth-rush",
        title="1,000 new users connect, authenticate and subscribe at the same moment; 5 connections to a MariaDB",
        unit="s until all are in",
        load="rush",
        contenders=(_JWT, _NEW, _MEMBER, _NPM),
        targets=(
            Target("sanctum", None, 5.0),
            Target("sanctum-member", None, 5.0),
            Target("sanctum", None, 100.0, figure="late_worst"),
            Target("sanctum-member", None, 100.0, figure="late_worst"),
        ),
        size=Size(connections=1000, operations=0, warmup=50),
        quick=_QUICK,
        references=("npm",),
        columns=(
            _QUERIES,
            Column("cpu_us", "µs CPU each", "µs CPU/connection"),
            Column("late_worst", "late max ms", "ms late at most"),
            Column("lag", "lag ms", "ms of reactor lag"),
        ),
        timed=False,
        note="late: how long after its time GET /live was answered, which was due every 10 ms (npm: /api/health). lag: "
        "as mechamapctl status has it, a look twice a second. sanctum-member subscribes to a conversation of its own, "
        "about which the database is asked too. Unread notifications are counted too, of some only when all are in. "
        "jwt and npm ask no database.",
    ),
    Scenario(
        name="auth-identify",
        title="whose a Sanctum token is, each another one, in process",
        unit="µs CPU/token",
        load="identify",
        contenders=_INSIDES,
        targets=(
            Target("cached", None, 0.0, figure="queries"),
            Target("singly", None, 2.0, figure="queries"),
            Target("at-once", "adbapi", 1.0),
            Target("pool-singly", "adbapi-singly", 1.0),
        ),
        size=Size(connections=0, operations=4000, warmup=1000, in_flight=1000),
        quick=_QUICK,
        references=("adbapi",),
        columns=_INSIDE_COLUMNS,
        timed=False,
        note=_INSIDE_NOTE,
    ),
    Scenario(
        name="auth-decide",
        title="may a user hear a conversation, each another pair, in process; thread-…: a thread",
        unit="µs CPU/decision",
        load="decide",
        contenders=(*_INSIDES, replace(_INSIDE, label="thread-at-once", channel="private-thread.{user}")),
        targets=(
            Target("cached", None, 5.0),
            Target("cached", None, 0.0, figure="queries"),
            Target("singly", None, 1.0, figure="queries"),
            Target("at-once", "adbapi", 1.0),
        ),
        size=Size(connections=0, operations=4000, warmup=1000, in_flight=1000),
        quick=_QUICK,
        references=("adbapi",),
        columns=_INSIDE_COLUMNS,
        timed=False,
        note=_INSIDE_NOTE,
    ),
)
