"""Figures in Prometheus' text format, names and units by its conventions (https://prometheus.io/docs/practices/naming/).

Every series has the label ``worker``; those of the master, which looks after the workers, have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from mechamap_rt.core.metrics import SECONDS

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

Row = Mapping[str, Any]

#: Name, help, and where the figure is.
_GAUGES: Final[tuple[tuple[str, str, str], ...]] = (
    ("users", "Users with a connection to the process.", "users"),
    ("subscriptions", "Subscriptions of connections to channels.", "subscriptions"),
    ("outbox_bytes", "Bytes that wait for clients who do not take them.", "queued"),
    ("outbox_stalled_connections", "Connections whose clients do not take what is for them.", "stalled"),
    ("resident_memory_bytes", "Resident memory.", "rss"),
    ("open_descriptors", "Open file descriptors.", "descriptors"),
    ("reactor_lag_seconds", "The longest that the event loop was late in the last second.", "lag"),
    ("gc_longest_pause_seconds", "The longest pause for garbage collection since the start.", "worstPause"),
    ("uptime_seconds", "Seconds since the process started.", "uptime"),
    ("degraded", "1 while a part of the cluster is out of reach.", "degraded"),
    ("canary_well", "1 while what is published comes back in time.", "canary"),
    ("tunnels", "WebSockets under TLS whose sessions are in another process.", "tunnels"),
)
_COUNTERS: Final[tuple[tuple[str, str, str], ...]] = (
    ("deliveries", "Publications given to connections, each to each.", "delivered"),
    ("sent_bytes", "Bytes written to connections.", "bytes"),
    ("writes", "System calls that wrote to connections.", "writes"),
    ("outbox_stalls", "Times that a client did not take all at once.", "stalls"),
    ("cpu_seconds", "Processor time.", "cpuSeconds"),
    ("gc_pause_seconds", "Time spent on garbage collection.", "pauseSeconds"),
    ("gc_full_collections", "Full garbage collections.", "collections"),
    ("http_rate_limited", "HTTP requests over the limit.", "limited"),
    ("http_wrong_keys", "HTTP requests with a key or token that was not valid.", "wrongKeys"),
)
#: Name, help, labels, and where the table is, whose rows are the labels' values and a number.
_GAUGE_TABLES: Final[tuple[tuple[str, str, tuple[str, ...], str], ...]] = (
    ("connections", "Authenticated connections.", ("protocol", "transport", "role"), "kinds"),
)
_COUNTER_TABLES: Final[tuple[tuple[str, str, tuple[str, ...], str], ...]] = (
    ("http_requests", "HTTP requests answered.", ("route", "status"), "answers"),
    ("events", "Events that clients have sent; unknown names are other.", ("event",), "requests_by_name"),
    ("connects", "Connections that were let in.", ("protocol", "transport"), "connects"),
    ("disconnects", "Connections that have ended.", ("reason",), "ends"),
    ("refusals", "Clients that were not let in.", ("reason",), "refusals"),
    ("authentications", "Tokens that clients have come with.", ("method", "result"), "authentications"),
    ("publications", "Publications accepted by the process.", ("source",), "sources"),
)
#: Reason, class of the publication, and the figure.
_DROPS: Final[tuple[tuple[str, str, str], ...]] = (
    ("slow_client", "volatile", "dropped"),
    ("newer_value", "state", "coalesced"),
    ("slow_consumer_closed", "any", "overflows"),
)
#: Of each server of the database.
_POOL_GAUGES: Final[tuple[tuple[str, str, str], ...]] = (
    ("database_pool_connections", "Connections to the database that may be open.", "size"),
    ("database_pool_in_use", "Connections to the database that have a query.", "inUse"),
    ("database_queries_waiting", "Queries that wait for a connection.", "waiting"),
)
_POOL_COUNTERS: Final[tuple[tuple[str, str, str], ...]] = (
    ("database_queries", "Queries made.", "queries"),
    ("database_failures", "Queries that have failed.", "failures"),
    ("database_refused", "Queries that were refused because the database is away, or too many wait.", "refused"),
    ("database_query_seconds", "Time spent on queries.", "querySeconds"),
)
#: Of the bus, where it has them.
_BUS_GAUGES: Final[tuple[tuple[str, str, str], ...]] = (
    ("bus_connected", "1 while the bus is connected.", "connected"),
    ("bus_lag_seconds", "What the last canary took that came back.", "lag"),
    ("bus_buffered", "Publications that wait for Redis.", "buffered"),
    ("bus_buffered_bytes", "Their bytes.", "buffered_bytes"),
    ("bus_hosts", "Other hosts that are heard of.", "hosts"),
)
_BUS_COUNTERS: Final[tuple[tuple[str, str, str], ...]] = (
    ("bus_lost", "Publications that other hosts never got.", "lost"),
    ("bus_skipped", "Volatile publications that came while Redis was away.", "skipped"),
    ("bus_reconnects", "Times that Redis was connected again.", "reconnects"),
    ("bus_canaries_lost", "Canaries that have not come back.", "canariesLost"),
)
#: Of the master.
_MASTER_GAUGES: Final[tuple[tuple[str, str, str], ...]] = (
    ("workers", "Workers that serve clients.", "ready"),
    ("workers_wanted", "Workers that there should be.", "wanted"),
    ("alerts", "Alerts that are raised now.", "alerts"),
)
_MASTER_COUNTERS: Final[tuple[tuple[str, str, str], ...]] = (
    ("worker_restarts", "Workers that ended by themselves.", "restarts"),
    ("reloads", "Reloads.", "reloads"),
)


class _Figures(Collector):
    def __init__(self, rows: Sequence[Row], master: Row) -> None:
        self._rows = rows
        self._master = master

    def collect(self) -> Iterable[Metric]:
        yield from self._plain()
        yield from self._tables()
        yield from self._nested()
        yield self._histogram(
            "publish_latency_seconds",
            "From the acceptance of a publication on this host to its being written to its subscribers here.",
            (),
            [((row["worker"],), row["counts"]["latency"]) for row in self._rows],
        )
        yield self._histogram(
            "http_request_duration_seconds",
            "From the head of an HTTP request to its answer.",
            ("route",),
            [
                ((row["worker"], route), (counts, total))
                for row in self._rows
                for route, counts, total in row["durations"]
            ],
        )
        for name, text, figure in _MASTER_GAUGES:
            if figure in self._master:
                yield GaugeMetricFamily(f"mechamap_{name}", text, value=float(self._master[figure]))
        for name, text, figure in _MASTER_COUNTERS:
            if figure in self._master:
                yield CounterMetricFamily(f"mechamap_{name}", text, value=float(self._master[figure]))

    def _plain(self) -> Iterable[Metric]:
        for gauges, table in ((True, _GAUGES), (False, _COUNTERS)):
            for name, text, figure in table:
                yield _family(gauges, name, text, (), [((row["worker"],), row[figure]) for row in self._rows])

    def _tables(self) -> Iterable[Metric]:
        for gauges, tables in ((True, _GAUGE_TABLES), (False, _COUNTER_TABLES)):
            for name, text, labels, figure in tables:
                samples = []
                for row in self._rows:
                    found = row[figure] if figure in row else row["counts"][figure]
                    samples += [((row["worker"], *map(str, values)), count) for *values, count in found]
                yield _family(gauges, name, text, labels, samples)
        drops = [((row["worker"], reason, kind), row[figure]) for row in self._rows for reason, kind, figure in _DROPS]
        yield _family(
            False, "drops", "Messages that clients did not get, or connections for it.", ("reason", "class"), drops
        )

    def _nested(self) -> Iterable[Metric]:
        for gauges, table in ((True, _POOL_GAUGES), (False, _POOL_COUNTERS)):
            for name, text, figure in table:
                samples = [
                    ((row["worker"], pool["role"], str(number)), pool[figure])
                    for row in self._rows
                    for number, pool in enumerate(row["pools"])
                ]
                yield _family(gauges, name, text, ("role", "number"), samples)
        for gauges, table in ((True, _BUS_GAUGES), (False, _BUS_COUNTERS)):
            for name, text, figure in table:
                found = [((row["worker"],), row["bus"][figure]) for row in self._rows if figure in row["bus"]]
                yield _family(gauges, name, text, (), found)

    def _histogram(
        self, name: str, text: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], Any]]
    ) -> Metric:
        family = HistogramMetricFamily(f"mechamap_{name}", text, labels=["worker", *labels])
        bounds = [*map(str, SECONDS), "+Inf"]
        for values, (counts, total) in samples:
            family.add_metric(values, list(zip(bounds, map(float, accumulate(counts)), strict=True)), total)
        return family


def _family(
    gauge: bool, name: str, text: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], Any]]
) -> Metric:
    make = GaugeMetricFamily if gauge else CounterMetricFamily
    family = make(f"mechamap_{name}", text, labels=["worker", *labels])
    for values, value in samples:
        family.add_metric(values, float(value))
    return family


def exposition(rows: Sequence[Row], master: Row) -> bytes:
    """The text for these processes.

    :param rows: the figures of each.
    :param master: those of the process that looks after them; empty where there is none.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(rows, master))
    return generate_latest(registry)
