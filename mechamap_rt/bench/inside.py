"""What the server is made of, without the server: authenticator and policy on a reactor of their own, and their peers.

``python -m mechamap_rt.bench.inside`` takes a job and gives a result as the load generator does; what is measured is
its own CPU time, threads included.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, cast

import msgspec
from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.python.failure import Failure

from mechamap_rt.auth.authenticator import Authenticator
from mechamap_rt.auth.backends import DatabaseBackend
from mechamap_rt.auth.cache import TokenCache
from mechamap_rt.auth.decisions import Decisions
from mechamap_rt.auth.jwt import JWTVerifier
from mechamap_rt.auth.policy import Policy
from mechamap_rt.bench import site
from mechamap_rt.bench.contenders import CONNECTIONS
from mechamap_rt.bench.job import BenchError, Job, Result, Site
from mechamap_rt.bench.measuring import percentile
from mechamap_rt.bench.procfs import cpu_ns
from mechamap_rt.core.channels import parse
from mechamap_rt.core.identity import Identity
from mechamap_rt.core.rules import RuleTable
from mechamap_rt.interfaces import IDatabase, IReactor
from mechamap_rt.settings.backing import Database as DatabaseSettings
from mechamap_rt.storage.accounts import Accounts
from mechamap_rt.storage.opening import open_database
from mechamap_rt.storage.site import Site as Rows

#: Users whom a process knows already, when it is about those.
_KNOWN = 1000
#: So many times as many answers are measured then: none takes long.
_MORE = 25
_CHANNEL = "private-conversation.{user}"

#: Finds out about a user, by number.
Task = Callable[[int], Deferred[Any]]


class _Recorder:
    """Takes the place of a database, to see what it would be asked."""

    separate = False

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def query(self, statement: str, arguments: Sequence[Any], *, fresh: bool = False) -> Deferred[list[Any]]:
        self.asked.append((statement, tuple(arguments)))
        return succeed([])


def _asks(job: Job, database: IDatabase, reactor: IReactor) -> tuple[Task, Callable[[int, Any], bool]]:
    """What the server does about a user, and what the answer must be."""
    if job.load == "identify":
        backend = DatabaseBackend(Accounts(database), JWTVerifier(job.jwt_secret, "HS256"), strict=True)
        authenticator = Authenticator(backend, TokenCache(300.0, 50_000, time.time), time.time)
        return lambda user: authenticator.authenticate(site.token(user)), lambda user, found: found.user_id == user
    policy = Policy(Rows(database), RuleTable(), Decisions(reactor.seconds))
    name = job.channel or _CHANNEL

    def decide(user: int) -> Deferred[bool]:
        who = Identity(user, "", "member")
        return policy.may_subscribe(who, parse(name.replace("{user}", str(user))))

    return decide, lambda user, found: found is True


def _statement(job: Job, reactor: IReactor) -> tuple[str, int]:
    """The ``SELECT`` that the server makes about one user, and how many arguments it has; all are the user's number."""
    recorder = _Recorder()
    task, _ = _asks(job, cast(IDatabase, recorder), reactor)
    task(1).addErrback(lambda refused: None)
    ((statement, arguments),) = recorder.asked
    if set(arguments) != {1}:
        raise BenchError(f"a query with other arguments: {statement}")
    return statement, len(arguments)


@contextlib.asynccontextmanager
async def _task(job: Job, place: Site, reactor: IReactor) -> AsyncIterator[tuple[Task, Callable[[int, Any], bool]]]:
    """What is measured, and the check of its answers."""
    if job.server == "adbapi":
        statement, count = _statement(job, reactor)
        pool = adbapi.ConnectionPool(
            "pymysql", cp_reactor=reactor, cp_min=CONNECTIONS, cp_max=CONNECTIONS, host=job.host, port=place.port,
            user=site.ACCOUNT, password=site.PASSWORD, database=site.DATABASE, charset="utf8mb4",
        )  # fmt: skip
        pool.start()
        try:
            yield lambda user: pool.runQuery(statement, (user,) * count), lambda user, rows: rows[0][0] == user
        finally:
            pool.close()
        return
    where = DatabaseSettings(
        host=f"{job.host}:{place.port}", name=site.DATABASE, user=site.ACCOUNT, password=site.PASSWORD
    )
    database = open_database(reactor, where, CONNECTIONS)
    await database.start()
    try:
        if job.server == "pool":
            statement, count = _statement(job, reactor)
            yield lambda user: database.query(statement, (user,) * count), lambda user, rows: rows[0][0] == user
        else:
            yield _asks(job, database, reactor)
    finally:
        await database.stop()


async def _all(users: Iterable[int], task: Task, right: Callable[[int, Any], bool], in_flight: int) -> list[int]:
    """Find out about all users, so many at once.

    :returns: microseconds of each.
    :raises BenchError: at a wrong answer.
    """
    left, took = iter(users), []

    async def several() -> None:
        for user in left:
            began = time.monotonic_ns()
            found = await task(user)
            took.append((time.monotonic_ns() - began) // 1000)
            if not right(user, found):
                raise BenchError(f"user {user}: {found!r}")

    await gatherResults([Deferred.fromCoroutine(several()) for _ in range(in_flight)], consumeErrors=True)
    return took


def _again(users: Sequence[int], count: int, task: Task, right: Callable[[int, Any], bool]) -> None:
    """Ask again about users who are known: nobody is waited for.

    :raises BenchError: when the answer is not there at once, or wrong.
    """
    for turn in range(count):
        user = users[turn % len(users)]
        if not right(user, getattr(task(user), "result", None)):
            raise BenchError(f"user {user} is not known")


async def _measure(job: Job, reactor: IReactor) -> Result:
    place = job.site
    if place is None:
        raise BenchError("nothing can be found out without a database")
    known = job.credential == "known"
    count = job.operations * (_MORE if known else 1)
    fresh = range(job.warmup + 1, job.warmup + 1 + (_KNOWN if known else job.operations))
    site.fill(place, fresh[-1])
    async with _task(job, place, reactor) as (task, right):
        await _all(range(1, job.warmup + 1), task, right, job.in_flight)
        took: list[int] = []
        if known:
            await _all(fresh, task, right, job.in_flight)
        asked, database = site.Counters(place), cpu_ns([place.pid])
        wall, cpu = time.monotonic_ns(), time.process_time_ns()
        if known:
            _again(fresh, count, task, right)
        else:
            took = await _all(fresh, task, right, job.in_flight)
        cpu, wall = time.process_time_ns() - cpu, time.monotonic_ns() - wall
        spent = cpu_ns([place.pid]) - database
        counted = asked.since()
    figures = {
        "rate": count / wall * 1e9,
        "queries": counted["Com_select"] / count,
        "commits": counted["Com_commit"] / count,
        "db_us": spent / 1000 / count,
        "p50_ms": percentile(took, 0.50),
        "p99_ms": percentile(took, 0.99),
    }
    return Result(
        units=count,
        lost=0,
        message_size=0,
        wall_s=wall / 1e9,
        server_cpu_us=cpu / 1000,
        value=cpu / 1000 / count,
        p50_ms=figures["p50_ms"],
        p99_ms=figures["p99_ms"],
        generator_share=0.0,
        figures=figures,
    )


def main() -> int:
    """Read the job, do it, print the result."""
    from twisted.internet import reactor as installed

    reactor = cast(IReactor, installed)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    outcome: list[Result | Failure] = [Failure(BenchError(f"not done within {job.timeout:.0f} s"))]

    def run() -> None:
        measuring = Deferred.fromCoroutine(_measure(job, reactor)).addTimeout(job.timeout, reactor)
        measuring.addBoth(outcome.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(run)
    reactor.run()
    found = outcome[-1]
    if isinstance(found, Failure):
        print(found.getTraceback(), file=sys.stderr)
        print(msgspec.json.encode({"error": f"{found.type}: {found.getErrorMessage()}"}).decode())
        return 1
    print(msgspec.json.encode(found).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
