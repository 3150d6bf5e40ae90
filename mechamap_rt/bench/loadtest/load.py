"""What all load tests are, and how one is run: bounded in time, stopped by Ctrl-C, judged by what it did until then."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, Protocol

from mechamap_rt.bench.generator import event_loop
from mechamap_rt.bench.job import BenchError
from mechamap_rt.bench.loadtest.outcome import VERSION, CommandName, Failure, Generator, Limits, Measured, Report
from mechamap_rt.bench.loadtest.serverside import Meter
from mechamap_rt.bench.loadtest.target import Target
from mechamap_rt.bench.report import timestamp

#: Told what is being done, how much of it, and how much there is: after each step, so it must be cheap.
Tell = Callable[[str, float, float], None]
Ended = Literal["done", "interrupted", "time is up"]

_CLOSING = 10.0


class Load(Protocol):
    """One load on one server.

    :ivar command: its name.
    :ivar options: what was asked for, without secrets.
    :ivar bound: seconds after which it is ended.
    :ivar late: seconds that it was late at worst with what was due.
    """

    command: CommandName
    options: dict[str, Any]
    bound: float
    late: float

    async def run(self, target: Target, tell: Tell, meter: Meter) -> None:
        """Do it; may be cancelled at any time.

        :raises BenchError: it cannot be done.
        """

    async def close(self) -> None:
        """End what is still open."""

    def measured(self) -> Measured:
        """What was measured so far."""

    def figures(self) -> dict[str, float]:
        """What limits are held against, by their names."""


def perform(load: Load, aiming: Callable[[], Any], limits: Limits, tell: Tell, pid: int | None) -> Report:
    """Run a load in this process.

    :param aiming: makes the coroutine whose result is the target.
    :raises BenchError: it could not be run.
    """
    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(_perform(load, aiming, limits, tell, pid))


async def _perform(load: Load, aiming: Callable[[], Any], limits: Limits, tell: Tell, pid: int | None) -> Report:
    target: Target = await aiming()
    meter = Meter.of(target, pid)
    started, began, used = timestamp(), time.monotonic(), time.process_time()
    meter.start()
    ended = await _until_end(load, target, tell, meter)
    seconds = time.monotonic() - began
    cpu = (time.process_time() - used) / max(seconds, 1e-3) * 100
    server = meter.stop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSING):
            await load.close()
    measured = load.measured()
    if not measured.latency_ms.count and not measured.failures:
        raise BenchError("ended before anything was measured")
    checks = limits.checks(load.figures(), bool(measured.latency_ms.count))
    return Report(
        version=VERSION,
        command=load.command,
        target=target.url,
        started=started,
        seconds=seconds,
        ended=ended,
        options=load.options,
        measured=measured,
        generator=Generator(cpu, load.late * 1000),
        server=server,
        checks=checks,
        passed=all(each.met for each in checks),
    )


async def _until_end(load: Load, target: Target, tell: Tell, meter: Meter) -> Ended:
    """Run it until it is done, its time is up, or SIGINT or SIGTERM comes.

    :raises BenchError: it cannot be done.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(load.run(target, tell, meter))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)  # until the loop is closed: a second one must not lose the results
    stopped = loop.create_task(stop.wait())
    done, _ = await asyncio.wait({task, stopped}, timeout=load.bound, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task not in done:
        task.cancel()
        await asyncio.wait({task})
    if task.cancelled():
        return "interrupted" if stopped in done else "time is up"
    if fault := task.exception():
        raise _first(fault)
    return "done"


def _first(fault: BaseException) -> BaseException:
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return BenchError(str(fault)) if isinstance(fault, OSError) else fault


async def until(due: float) -> float:
    """Sleep until ``due`` (monotonic); returns how late it is then."""
    wait = due - time.monotonic()
    # asyncio.sleep(0) when late, so that what is late does not keep the others from running
    await asyncio.sleep(max(wait, 0.0))
    return max(time.monotonic() - due, 0.0)


def failures(**kinds: Counter[str]) -> list[Failure]:
    """The reasons of each kind, the most frequent first."""
    found = [Failure(kind, reason, count) for kind, reasons in kinds.items() for reason, count in reasons.items()]
    return sorted(found, key=lambda failure: -failure.count)
