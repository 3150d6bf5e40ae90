"""Figures in Prometheus' text format, names and units by its conventions (https://prometheus.io/docs/practices/naming/)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

#: Name, help, and the figure it comes from.
_GAUGES: Final = (
    ("mechamap_connections", "Authenticated connections.", "connections"),
    ("mechamap_users", "Users with a connection to the process.", "users"),
    ("mechamap_subscriptions", "Subscriptions of connections to channels.", "subscriptions"),
    ("mechamap_resident_memory_bytes", "Resident memory.", "rss"),
    ("mechamap_open_descriptors", "Open file descriptors.", "descriptors"),
    ("mechamap_reactor_lag_seconds", "The longest that the event loop was late in the last second.", "lag"),
    ("mechamap_uptime_seconds", "Seconds since the process started.", "uptime"),
    ("mechamap_degraded", "1 while a part of the cluster is out of reach.", "degraded"),
)
_COUNTERS: Final = (
    ("mechamap_publications", "Publications made by the process.", "published"),
    ("mechamap_deliveries", "Messages given to connections.", "delivered"),
    ("mechamap_dropped", "Volatile messages dropped for slow connections.", "dropped"),
    ("mechamap_coalesced", "State messages replaced by newer ones for slow connections.", "coalesced"),
    ("mechamap_sent_bytes", "Bytes written to connections.", "bytes"),
    ("mechamap_cpu_seconds", "Processor time.", "cpuSeconds"),
    ("mechamap_http_request_duration_seconds", "Time spent on HTTP requests.", "seconds"),
    ("mechamap_http_rate_limited", "HTTP requests over the limit.", "limited"),
    ("mechamap_http_wrong_keys", "HTTP requests with a key or token that was not valid.", "wrongKeys"),
)


class _Figures(Collector):
    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._rows = rows

    def collect(self) -> Iterable[Metric]:
        for name, text, figure in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["worker"])
            for row in self._rows:
                gauge.add_metric([row["worker"]], float(row[figure]))
            yield gauge
        for name, text, figure in _COUNTERS:
            counter = CounterMetricFamily(name, text, labels=["worker"])
            for row in self._rows:
                counter.add_metric([row["worker"]], float(row[figure]))
            yield counter
        requests = CounterMetricFamily(
            "mechamap_http_requests", "HTTP requests answered.", labels=["worker", "route", "status"]
        )
        for row in self._rows:
            for route, status, count in row["answers"]:
                requests.add_metric([row["worker"], route, str(status)], float(count))
        yield requests


def exposition(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The text for these processes.

    :param rows: the figures of each.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(rows))
    return generate_latest(registry)
