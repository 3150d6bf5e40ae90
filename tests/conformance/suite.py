"""Runs the cases against a target, many at a time: most of their time is waiting for heartbeats."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.conformance import (
    binary,
    close,
    connect,
    disconnect,
    handshake,
    heartbeat,
    malformed,
    message,
    upgrade,
)
from tests.conformance.registry import CASES, Case
from tests.conformance.target import Skip, Target, Violation, request
from tests.conformance.wires import Closed, decode, opening

#: The modules whose cases are the suite.
GROUPS = (handshake, heartbeat, close, upgrade, connect, disconnect, message, binary, malformed)
AT_ONCE = 8


@dataclass(frozen=True)
class Result:
    """What came of one case; ``why`` it failed or was skipped, else ``""``."""

    case: Case
    outcome: str
    why: str
    seconds: float


async def discovered(target: Target) -> Target:
    """The target, with what its handshake says of its timings and limits.

    :raises Violation: there is no Engine.IO 4 handshake.
    """
    try:
        answer = await request(target, "GET")
    except (OSError, TimeoutError) as error:
        raise Violation(f"{target.url} does not answer: {error or type(error).__name__}") from None
    if answer is None or answer.status != 200:
        raise Violation(f"no handshake at {target.url}{target.query()}: {answer}")
    return target.discovered(opening(decode(answer.body)[0]))


async def run(
    target: Target,
    names: Iterable[str] = CASES,
    at_once: int = AT_ONCE,
    report: Callable[[Result], object] = lambda result: None,
) -> dict[str, Result]:
    """Run the cases with these names.

    :param report: called with every result, as soon as it is there.
    """
    places = asyncio.Semaphore(at_once)
    results: dict[str, Result] = {}

    async def one(name: str) -> None:
        async with places:
            result = results[name] = await attempt(CASES[name], target)
        report(result)

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(one(name))
    return results


async def attempt(case: Case, target: Target) -> Result:
    """Run one case; whatever happens in it is its result."""
    began = time.monotonic()
    outcome, why = "passed", ""
    try:
        async with asyncio.timeout(target.longest):
            await case.run(target)
    except Skip as skip:
        outcome, why = "skipped", str(skip)
    except Violation as violation:
        outcome, why = "failed", str(violation)
    except Closed as closed:
        outcome, why = "failed", f"the session was closed: {closed}"
    except TimeoutError:
        outcome, why = "failed", f"nothing came in time\n{traceback.format_exc(limit=-4)}"
    except Exception:
        outcome, why = "failed", traceback.format_exc()
    return Result(case, outcome, why, time.monotonic() - began)
