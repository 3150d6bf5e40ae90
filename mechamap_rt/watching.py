"""What is measured of a process that serves clients, put together; and what became of its publications."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet.task import LoopingCall

from mechamap_rt.bus.canary import Canary
from mechamap_rt.bus.node import Node
from mechamap_rt.bus.stories import Stories
from mechamap_rt.core.connection import Connection
from mechamap_rt.core.outbox import Turn
from mechamap_rt.core.publication import Publication
from mechamap_rt.core.tracing import Tracing, sampled
from mechamap_rt.http.traffic import Traffic
from mechamap_rt.interfaces import IArchive, IReactor
from mechamap_rt.place import Place, archive
from mechamap_rt.settings import Settings
from mechamap_rt.system.collector import Collector
from mechamap_rt.system.meter import Meter, Sample

#: Seconds between two readings of the meter.
MEASURED_EVERY: Final = 1.0
#: Publications whose way to the sockets is measured in one turn; of more, the first.
MAX_BORN: Final = 10_000

#: More figures, by name, of parts that are made elsewhere.
Figures = Callable[[], dict[str, Any]]


class Watching:
    """Reads what other parts count, once a second and when somebody asks.

    :ivar traffic: of HTTP.
    :ivar stories: tells what became of a publication.
    :ivar more: figures of parts that are not known here.
    """

    def __init__(self, reactor: IReactor, settings: Settings, place: Place, node: Node, turn: Turn) -> None:
        self._node = node
        self._turn = turn
        self._bus = place.bus
        self.traffic = Traffic()
        self.canary = Canary(reactor, place.bus)
        self._collector = Collector(reactor, settings.cluster.gc_interval)
        self._meter = Meter(reactor, reactor.seconds)
        self._sample = self._meter.sample()
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._began = time.monotonic()
        self.more: list[Figures] = []
        self._born: list[float] = []
        self._archive: IArchive | None = None
        tracing = settings.monitoring
        if tracing.trace_publications and tracing.metrics_enabled:
            node.tracing = Tracing(tracing.trace_publications, tracing.trace_hours * 3600)
            turn.lost = node.tracing.lost
            self._archive = archive(reactor, settings, place.bus, place.name)
            if self._archive is not None:
                node.tracing.on_chunk = self._archive.keep
        self.stories = Stories(node, self._archive)
        if tracing.metrics_enabled:
            node.hub.on_delivered = self._delivered
            turn.flushed = self._flushed

    # life

    def start(self) -> None:
        self._meter.start()
        self._looking.start(MEASURED_EVERY)
        self._collector.start()
        self.canary.start()

    async def stop(self) -> None:
        self._collector.stop()
        self._meter.stop()
        self.canary.stop()
        if self._looking.running:
            self._looking.stop()
        if self._node.tracing is not None:
            self._node.tracing.flush()
        if self._archive is not None:
            await self._archive.settle()

    def _look(self) -> None:
        self._sample = self._meter.sample()
        if self._node.tracing is not None:
            self._node.tracing.tick()

    @property
    def sample(self) -> Sample:
        """What the process used in the last second or so."""
        return self._sample

    # publications

    def _delivered(self, publication: Publication, count: int, groups: Iterable[Iterable[Connection]]) -> None:
        if not publication.priority and len(self._born) < MAX_BORN:
            self._born.append(publication.born)
        tracing = self._node.tracing
        if tracing is not None and sampled(publication):
            sender = publication.sender
            users = (each.identity.user_id for group in groups for each in group if each.id != sender)
            tracing.delivered(publication, count, users)

    def _flushed(self) -> None:
        """What was delivered in this turn has been written, as far as clients take it."""
        born = self._born
        if born:
            self._born = []
            now, observe = time.monotonic(), self._node.counts.latency.observe
            for moment in born:
                observe(now - moment)

    # figures

    def figures(self) -> dict[str, Any]:
        """What an operator, and the master, see of the process."""
        node, stats, traffic = self._node, self._turn.stats, self.traffic
        return {
            "degraded": node.degraded,
            "connections": node.connection_count(),
            "users": node.user_count(),
            "subscriptions": node.hub.subscriptions,
            "published": node.published,
            "delivered": node.hub.delivered,
            "dropped": stats.dropped,
            "overflows": stats.overflows,
            "canary": self.canary.well,
            **traffic.figures(),
            **self._sample,
        }

    def measure(self) -> dict[str, Any]:
        """All figures, for :class:`~mechamap_rt.http.monitoring.Monitoring`; times in seconds."""
        node, stats = self._node, self._turn.stats
        collector = self._collector
        found = {
            "worker": node.name,
            "uptime": time.monotonic() - self._began,
            **self.figures(),
            "cpuSeconds": time.process_time(),
            "coalesced": stats.coalesced,
            "stalls": stats.stalls,
            "writes": stats.writes,
            "bytes": stats.bytes,
            "queued": self._turn.queued(),
            "stalled": len(self._turn.waiting),
            "answers": [(route, status, count) for (route, status), count in self.traffic.answers.items()],
            "durations": [(route, *each.figures()) for route, each in self.traffic.durations.items()],
            "kinds": [(*kind, count) for kind, count in node.kinds.counts.items() if count],
            "counts": node.counts.figures(),
            "bus": self._bus.figures() | {"lag": self.canary.lag, "canariesLost": self.canary.lost},
            "collections": collector.collections,
            "pauseSeconds": collector.paused,
            "worstPause": collector.worst_pause,
            "traced": {} if node.tracing is None else node.tracing.figures(),
        }
        for more in self.more:
            found |= more()
        return found
