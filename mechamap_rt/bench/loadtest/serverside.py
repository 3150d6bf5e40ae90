"""The server's processes, when it is on this host: which they are, and what they use (Linux)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec

from mechamap_rt.bench.job import BenchError
from mechamap_rt.bench.loadtest.target import Target
from mechamap_rt.bench.procfs import cpu_ns, memory_of, process_tree

_LISTENING: Final = "0A"


class Usage(msgspec.Struct, frozen=True):
    """What the server used while the load was on it.

    :ivar command: what the process says of itself, so that nobody takes nginx's figures for the server's.
    :ivar processes: it and its descendants.
    :ivar memory_before_mb: resident, shared pages counted once (``Pss``); before the first connection.
    :ivar memory_after_mb: the same when all were there, or at the end.
    :ivar cpu_percent: mean over the load; 100 is one core.
    """

    pid: int
    command: str
    processes: int
    memory_before_mb: float
    memory_after_mb: float
    cpu_percent: float


class Meter:
    """Looks at one server twice. Without a process that may be looked at, both times in vain."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._cpu = self._before = self._after = 0.0
        self._pids: list[int] = []
        self._began = 0.0
        #: Why there are no figures; "" as long as there are.
        self.missing = "" if pid else "the server's process was not found (--pid names it)"

    @classmethod
    def of(cls, target: Target, pid: int | None) -> Meter:
        """:param pid: as the operator says; ``None`` to look for who listens."""
        return cls(pid or (listener(target.port) if target.loopback else None))

    def start(self) -> None:
        self._began = time.monotonic()
        if self._pid:
            try:
                self._pids = process_tree(self._pid)
                self._before, self._cpu = self._memory(), float(cpu_ns(self._pids))
            except BenchError as error:
                self.missing = str(error)

    def full(self, *, anew: bool = False) -> None:
        """All that will be there is there.

        :param anew: what matters begins only now: CPU is counted from here.
        """
        if not self.missing:
            try:
                self._after = self._memory()
                if anew:
                    self._began, self._cpu = time.monotonic(), float(cpu_ns(self._pids))
            except BenchError as error:
                self.missing = str(error)

    def stop(self) -> Usage | None:
        """The figures, or ``None`` and :attr:`missing`."""
        if not self._after:
            self.full()
        if self.missing or self._pid is None:
            return None
        try:
            used = cpu_ns(self._pids) - self._cpu
        except BenchError as error:
            self.missing = str(error)
            return None
        return Usage(
            pid=self._pid,
            command=_command(self._pid),
            processes=len(self._pids),
            memory_before_mb=self._before,
            memory_after_mb=self._after,
            cpu_percent=used / 1e9 / max(time.monotonic() - self._began, 1e-3) * 100,
        )

    def _memory(self) -> float:
        return sum(memory_of(pid)["pss"] for pid in self._pids) / 2**20


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def listener(port: int) -> int | None:
    """The process that listens on a TCP port: of several the ancestor of the others (a master); ``None`` if unseen.

    Another account's sockets are seen by root only.
    """
    inodes = _inodes(port)
    if not inodes:
        return None
    holders = {int(each.name) for each in Path("/proc").glob("[0-9]*") if _holds(each, inodes)}
    for pid in sorted(holders):
        if holders <= set(process_tree(pid)):
            return pid
    return min(holders, default=None)


def _inodes(port: int) -> set[str]:
    """Of the sockets that listen on the port, as links in ``/proc/<pid>/fd`` have them (proc(5), ``/proc/net/tcp``)."""
    found: set[str] = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        return any(str(link.readlink()) in inodes for link in (process / "fd").iterdir())
    except OSError:
        return False
