"""The load generator's process: one job on standard input, one result on standard output.

``python -m mechamap_rt.bench.generator`` is started by the runner, away from the server's core. It prints
``{"error": …}`` and ends with 1 when the measurement could not be made.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys

import msgspec

from mechamap_rt.bench.job import BenchError, Job, Result, require_loopback
from mechamap_rt.bench.loads import LOADS


def event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's loop where it is installed: without it the generator is slower, as its share of CPU shows."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def raise_descriptor_limit() -> int:
    """Allow this process as many descriptors as the system lets it have; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def _measure(job: Job) -> Result:
    async with asyncio.timeout(job.timeout):
        return await LOADS[job.load](job)


def measure(job: Job) -> Result:
    """Do the job in this process.

    :raises BenchError: if it could not be measured, in time and without a fault of the server.
    """
    require_loopback(job.host)
    if job.load not in LOADS:
        raise BenchError(f"{job.load} is no load of a server")
    raise_descriptor_limit()
    gc.disable()  # a collection among thousands of clients would be a pause in every latency
    try:
        with asyncio.Runner(loop_factory=event_loop) as runner:
            return runner.run(_measure(job))
    except TimeoutError as error:
        raise BenchError(f"not done within {job.timeout:.0f} s") from error
    except ExceptionGroup as group:
        fault: BaseException = group
        while isinstance(fault, BaseExceptionGroup):
            fault = fault.exceptions[0]
        raise BenchError(str(fault) or type(fault).__name__) from group
    finally:
        gc.enable()


def main() -> int:
    """Read the job, do it, print the result."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        document = msgspec.json.encode(measure(job))
    except (BenchError, OSError) as error:
        print(msgspec.json.encode({"error": str(error)}).decode())
        return 1
    print(document.decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
