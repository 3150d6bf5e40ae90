"""CPU time and memory of other processes, read from the kernel (Linux only)."""

from __future__ import annotations

import time
from pathlib import Path

from mechamap_rt.bench.job import BenchError

# clock_getcpuclockid(3) by hand: bits 0-1 choose the scheduler's own sum, bit 2 is clear for a whole process.
_CPUCLOCK_SCHED = 2


def process_tree(pid: int) -> list[int]:
    """The process and all its living descendants."""
    tree, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        tree.append(parent)
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                waiting.extend(int(child) for child in children.read_text().split())
            except OSError:
                continue
    return tree


def cpu_ns(pids: list[int]) -> int:
    """CPU nanoseconds, user and system, that the processes have used, threads that ended included.

    The process CPU clock of the scheduler, not the ticks of ``/proc/<pid>/stat``: those are 10 ms.

    :raises BenchError: if a process is gone.
    """
    total = 0
    for pid in pids:
        try:
            total += time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
        except OSError as error:
            raise BenchError(f"process {pid} of the server is gone") from error
    return total


def memory_bytes(pids: list[int]) -> int:
    """Anonymous memory of the processes, pages shared among them counted once (``Pss_Anon``).

    Pages of files are left out: they are not a connection's, and the share of a process in them changes whenever
    another Python starts or ends anywhere on the machine.

    :raises BenchError: if a process is gone.
    """
    return sum(_kilobytes(pid, "smaps_rollup", "Pss_Anon") * 1024 for pid in pids)


def memory_of(pid: int) -> dict[str, int]:
    """Bytes of memory of one process.

    ``rss``: resident, as ``ps`` says. ``pss``: the same with each shared page divided among those who share it.
    ``anon``: resident and of no file.

    :raises BenchError: if it is gone.
    """
    names = {"rss": ("status", "VmRSS"), "pss": ("smaps_rollup", "Pss"), "anon": ("status", "RssAnon")}
    return {kind: _kilobytes(pid, *where) * 1024 for kind, where in names.items()}


def _kilobytes(pid: int, file: str, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError as error:
        raise BenchError(f"process {pid} of the server is gone") from error
    for line in lines:
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise BenchError(f"no {name} in /proc/{pid}/{file}")
