"""The loads that are about who people are: they come with tokens that the site's database is asked about."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from msgspec import structs

from mechamap_rt.bench import messages, site
from mechamap_rt.bench.job import Job, Result, Site
from mechamap_rt.bench.measuring import Window, close, processes, result
from mechamap_rt.bench.procfs import cpu_ns
from mechamap_rt.bench.pulse import Pulse
from mechamap_rt.bench.subscriber import Swarm, Tally
from mechamap_rt.cli.client import ask

_CALM = 0.5
_SILENCE = 10.0
#: The first clients, which are not measured, come so many at once.
_FIRST = 20


class _Asked:
    """What a database was asked, and the CPU time that it took for it; nothing without one."""

    def __init__(self, place: Site | None) -> None:
        self._place = place
        if place is not None:
            self._counters = site.Counters(place)
            self._cpu = cpu_ns([place.pid])

    def figures(self, units: int) -> dict[str, float]:
        """For each unit."""
        if self._place is None:
            return {"queries": 0.0}
        cpu = cpu_ns([self._place.pid]) - self._cpu
        counted = self._counters.since()
        return {"queries": counted["Com_select"] / units, "db_us": cpu / 1000 / units}


async def _crowd(job: Job) -> tuple[Tally, Swarm]:
    """The clients; some have come already. The database has rows for all."""
    if job.site is not None:
        site.fill(job.site, job.warmup + job.connections)
    tally = Tally()
    swarm = Swarm(job, tally, channel=job.channel or messages.CHANNEL)
    await swarm.connect(swarm.identities(job.warmup), min(_FIRST, job.in_flight))
    return tally, swarm


async def arrive(job: Job) -> Result:
    """Clients that connect, authenticate and subscribe, some at once, and stay; those who are known have been there."""
    tally, swarm = await _crowd(job)
    identities = swarm.identities(job.connections)
    if job.credential == "known":
        before = Swarm(job, Tally(), channel=job.channel or messages.CHANNEL)
        await before.connect(identities, _FIRST)
        await before.disconnect()
    del swarm.connect_us[:]
    await asyncio.sleep(0.3)
    asked = _Asked(job.site)
    with Window(processes(job)) as window:
        await swarm.connect(identities, job.in_flight)
    figures = asked.figures(job.connections)
    measured = result(job, tally, window, job.connections, tally.disconnected, swarm.connect_us.tolist())
    await close(swarm, [])
    return structs.replace(measured, figures=figures)


async def rush(job: Job) -> Result:
    """All clients connect at once, while somebody asks whether the server lives: seconds until all are in."""
    tally, swarm = await _crowd(job)
    identities = swarm.identities(job.connections)
    del swarm.connect_us[:]
    pulse = Pulse(job)
    await pulse.start()
    await asyncio.sleep(_CALM)
    _lag(job)
    asked = _Asked(job.site)
    with Window(processes(job)) as window:
        await swarm.connect(identities, job.connections)
    figures = asked.figures(job.connections)
    late = await pulse.stop()
    figures |= {
        "cpu_us": window.server_us / job.connections,
        "late_worst": max(late) / 1000,
        "lag": _lag(job),
    }
    measured = result(job, tally, window, job.connections, tally.disconnected, swarm.connect_us.tolist())
    await close(swarm, [])
    return structs.replace(measured, value=window.wall_s, figures=figures)


def _lag(job: Job) -> float:
    """Milliseconds of the reactor's worst delay that the server has noticed since it was last asked."""
    if job.server != "mechamap":
        return 0.0
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(job.control)
        answer: dict[str, Any] = ask(control, "status", {}, _SILENCE, lambda progress: None)
    return float(answer["workers"][0]["lag"])
