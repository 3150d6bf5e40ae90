"""Runs scenarios: a fresh server and a fresh load generator for every measurement, in turns.

The database that some of them ask stays for the whole scenario.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable

import msgspec

from mechamap_rt.bench.contenders import (
    API_KEY,
    GENERATOR_CPU,
    HOST,
    INSIDE,
    JWT_SECRET,
    REPOSITORY,
    SERVER_CPU,
    Server,
    mariadb,
    pinned,
    running,
)
from mechamap_rt.bench.generator import raise_descriptor_limit
from mechamap_rt.bench.job import BenchError, Job, Result, Site
from mechamap_rt.bench.shape import Contender, Scenario, Size

#: Of a crowd, where it is only to be seen that a scenario works.
MOST_QUICK = 50
_JOB_TIMEOUT = 120.0
_GRACE = 30.0

#: Told before each measurement: which scenario, which contender, and the number of the repeat from 1.
Progress = Callable[[Scenario, Contender, int], None]


class Row(msgspec.Struct, kw_only=True):
    """What was measured of one contender.

    :ivar runs: a result for each repeat; ``None`` stands for one that failed, so that the runs of all
        contenders stay side by side.
    :ivar faults: why measurements failed, once each.
    """

    contender: str
    server: str
    dialect: str
    runs: list[Result | None] = []
    faults: list[str] = []


def generate(job: Job, cpu: int | None = GENERATOR_CPU, program: str = "generator") -> Result:
    """Let a new load generator do the job.

    :param cpu: its core; ``None`` for any.
    :param program: the module of this package that it runs.

    :raises BenchError: if it could not.
    """
    with pinned(cpu):
        generator = subprocess.Popen(
            [sys.executable, "-m", f"mechamap_rt.bench.{program}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
    try:
        answer, noise = generator.communicate(msgspec.json.encode(job), timeout=job.timeout + _GRACE)
    except subprocess.TimeoutExpired as error:
        raise BenchError("the load generator did not end") from error
    finally:
        if generator.poll() is None:
            generator.kill()
            generator.wait()
    try:
        document = msgspec.json.decode(answer)
    except msgspec.DecodeError as error:
        raise BenchError(f"the load generator failed: {noise.decode(errors='replace')[-1500:]}") from error
    if "error" in document:
        raise BenchError(document["error"])
    return msgspec.convert(document, Result)


def job_for(server: Server, scenario: Scenario, contender: Contender, size: Size) -> Job:
    """The job that measures a contender."""
    return Job(
        load=scenario.load,
        dialect=contender.dialect,
        host=HOST,
        port=server.port,
        pid=server.pid,
        others=server.others,
        workers=contender.arrangement.workers or 1,
        subscriber_port=server.subscriber_port,
        control=server.control,
        jwt_secret=JWT_SECRET,
        api_key=API_KEY,
        connections=size.connections,
        operations=size.operations,
        warmup=size.warmup,
        in_flight=contender.in_flight or size.in_flight,
        rate=size.rate,
        settle=size.settle,
        drain=size.drain,
        timeout=_JOB_TIMEOUT,
        server=contender.server,
        site=server.site,
        credential=contender.credential,
        channel=contender.channel,
        priority=contender.priority,
        watchers=contender.watchers,
        crowd=min(contender.crowd, MOST_QUICK) if size is scenario.quick else contender.crowd,
    )


def run_scenario(
    scenario: Scenario, *, contenders: list[Contender], repeat: int, quick: bool, progress: Progress
) -> list[Row]:
    """Measure the contenders in turns (A B C A B C …), so that a noisy moment does not fall on one alone."""
    raise_descriptor_limit()
    size = scenario.quick if quick else scenario.size
    rows = [
        Row(contender=each.label, server=each.server, dialect=each.dialect, runs=[], faults=[]) for each in contenders
    ]
    with contextlib.ExitStack() as stack:
        database: Site | None = None
        for number in range(1, repeat + 1):
            for row, contender in zip(rows, contenders, strict=True):
                progress(scenario, contender, number)
                try:
                    if contender.arrangement.connections and database is None:
                        database = stack.enter_context(mariadb())
                    row.runs.append(_measure(scenario, contender, size, database))
                except BenchError as fault:
                    row.runs.append(None)
                    if str(fault) not in row.faults:
                        row.faults.append(str(fault))
    return rows


def _measure(scenario: Scenario, contender: Contender, size: Size, database: Site | None) -> Result:
    """One measurement of one contender.

    :raises BenchError: if it could not be made.
    """
    arrangement = contender.arrangement
    with running(contender.server, arrangement, database) as server:
        job = job_for(server, scenario, contender, size)
        if contender.server in INSIDE:
            return generate(job, SERVER_CPU, "inside")
        return generate(job, None if arrangement.free else GENERATOR_CPU)
