"""What people are shown of the server's answers; pure functions from a ``result`` to blocks of text.

They raise ``LookupError``, ``TypeError``, ``ValueError`` or ``AttributeError`` for a result of another shape.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from mechamap_rt.cli import units
from mechamap_rt.cli.terminal import Block, Cell, Column, Pairs, Table

Result = dict[str, Any]

_STYLES: Final = {
    "running": "green",
    "reloading": "yellow",
    "stopping": "yellow",
    "starting": "yellow",
    "ready": "green",
    "draining": "yellow",
    "hung": "bold red",
    "ended": "dim",
}

_WORKER_COLUMNS: Final = (
    Column("worker", right=True),
    Column("node", spare=2),
    Column("pid", right=True, spare=1),
    Column("state"),
    Column("uptime", right=True),
    Column("connections", right=True),
    Column("users", right=True, spare=3),
    Column("subscriptions", right=True, spare=6),
    Column("published", right=True, spare=5),
    Column("delivered", right=True, spare=4),
    Column("memory", right=True),
    Column("cpu", right=True),
    Column("lag", right=True),
)
_CONNECTION_COLUMNS: Final = (
    Column("connection", spare=4),
    Column("user", right=True),
    Column("name"),
    Column("role", spare=2),
    Column("worker", right=True, spare=3),
    Column("protocol", spare=5),
    Column("transport"),
    Column("address", spare=1),
    Column("for", right=True),
    Column("channels", right=True),
)
_CHANNEL_COLUMNS: Final = (Column("channel"), Column("subscribers", right=True))


def status(result: Result) -> list[Block]:
    """The server as a whole, what is the matter with it, and its workers."""
    workers: list[Result] = result["workers"]
    pairs = [
        ("server", Cell(_kind(result, workers))),
        ("state", _state(result["state"])),
        ("uptime", Cell(units.duration(result["uptime"]))),
        ("host", Cell(f"{result['host']}, process {result['pid']}, {units.size(result['memory']['rss'])}")),
    ]
    for place, address in enumerate(result["listening"]):
        pairs.append(("" if place else "listening", Cell(address)))
    if result.get("certificate"):
        pairs.append(("certificate", _certificate(result["certificate"], time.time())))
    pairs += [
        ("connections", Cell(f"{units.count(result['connections'])} of {_users(result['users'])}")),
        ("subscriptions", Cell(units.count(result["subscriptions"]))),
        ("published", Cell(f"{units.count(result['published'])}, delivered {units.count(result['delivered'])}")),
    ]
    if result.get("reloads") or result.get("restarts"):
        restarts = units.plural(result["restarts"], "worker ended by itself", "workers ended by themselves")
        pairs.append(("since start", Cell(f"{units.plural(result['reloads'], 'reload', 'reloads')}, {restarts}")))
    if result["degraded"]:
        pairs.append(("degraded", Cell("yes", "bold red")))
    for alert in result["alerts"]:
        since = units.duration(time.time() - alert["since"])
        pairs.append(("alert", Cell(f"{alert['name']}: {alert['message']} (for {since})", "bold red")))
    blocks: list[Block] = [Pairs(pairs)]
    if workers:
        blocks += ["", worker_table(workers)]
    return blocks


def _kind(result: Result, workers: Sequence[Result]) -> str:
    extent = "a single process"
    if result["mode"] == "cluster":
        ready = sum(worker.get("state") == "ready" for worker in workers)
        extent = f"a cluster, {ready} of {units.plural(len(workers), 'worker', 'workers')} ready"
    return f"mechamap_rt {result['version']}, {extent}"


def _certificate(certificate: Result, now: float) -> Cell:
    """Whose it is and until when; what is the matter with it stands in the alerts."""
    left = certificate["expires"] - now
    day = time.strftime("%Y-%m-%d", time.gmtime(certificate["expires"]))
    if left <= 0:
        return Cell(f"{certificate['subject']}, expired on {day}", "bold red")
    return Cell(f"{certificate['subject']}, until {day} ({units.duration(left)})")


def _users(number: int) -> str:
    return units.plural(number, "user", "users")


def _state(state: str) -> Cell:
    return Cell(state, _STYLES.get(state, ""))


def workers(result: Result) -> list[Block]:
    """One row a worker."""
    return [worker_table(result["workers"])] if result["workers"] else ["There are no workers."]


def worker_table(workers: Sequence[Result]) -> Table:
    """One row a worker; figures that a worker has not sent yet are dashes."""
    return Table(_WORKER_COLUMNS, [_worker_row(worker) for worker in workers])


def _worker_row(worker: Result) -> list[Cell]:
    return [
        Cell(str(worker["worker"]), "bold"),
        Cell(_text(worker.get("node"))),
        Cell(_text(worker.get("pid"))),
        _state(worker["state"]),
        Cell(units.duration(worker.get("uptime"))),
        *(
            Cell(units.count(worker.get(name)))
            for name in ("connections", "users", "subscriptions", "published", "delivered")
        ),
        Cell(units.size(worker.get("rss"))),
        Cell(units.percent(worker.get("cpu"))),
        Cell(units.milliseconds(worker.get("lag"))),
    ]


def connections(result: Result) -> list[Block]:
    """One row a connection, and how many there are besides."""
    rows: list[Result] = result["connections"]
    shown = f"{units.count(len(rows))} shown of " if len(rows) < result["total"] else ""
    total = units.plural(result["total"], "connection", "connections")
    summary = f"{shown}{total} of {_users(result['users'])}"
    table = Table(_CONNECTION_COLUMNS, [_connection_row(row, time.time()) for row in rows])
    return [table, summary] if rows else [summary]


def _connection_row(connection: Result, now: float) -> list[Cell]:
    since = connection.get("since")
    return [
        Cell(_text(connection["id"]), "dim"),
        Cell(_text(connection["user"]), "bold"),
        *(Cell(_text(connection.get(name))) for name in ("name", "role", "worker", "protocol", "transport", "address")),
        Cell(units.duration(None if since is None else now - since)),
        Cell(units.count(connection.get("channels"))),
    ]


def _text(value: object) -> str:
    return units.UNKNOWN if value is None else str(value)


def channels(result: Result) -> list[Block]:
    """One row a channel, and how many there are besides."""
    rows: list[Result] = result["channels"]
    shown = f"{units.count(len(rows))} shown of " if len(rows) < result["total"] else ""
    total = units.plural(result["total"], "channel", "channels")
    summary = f"{shown}{total}, {units.plural(result['subscriptions'], 'subscription', 'subscriptions')}"
    cells = [[Cell(row["channel"]), Cell(units.count(row["subscribers"]))] for row in rows]
    return [Table(_CHANNEL_COLUMNS, cells), summary] if rows else [summary]


def reload(result: Result) -> list[Block]:
    """How long it took, and which workers are new."""
    old, new = (", ".join(map(str, result[which])) or "none" for which in ("old", "new"))
    return [f"Reloaded in {result['seconds']:.1f} s. Workers before: {old}; now: {new}."]


def scale(result: Result) -> list[Block]:
    """How many workers there were and are to be."""
    if result["from"] == result["to"]:
        return [f"There are {units.plural(result['to'], 'worker', 'workers')} already."]
    return [f"From {units.plural(result['from'], 'worker', 'workers')} to {units.count(result['to'])}."]


def restart(result: Result) -> list[Block]:
    """Who came in whose place."""
    return [f"Worker {result['new']} has taken the place of worker {result['old']}."]


def drain(result: Result) -> list[Block]:
    """Who is drained."""
    return [f"Worker {result['worker']} is drained."]


def log_level(result: Result) -> list[Block]:
    """From which level on the server logs, and some of its loggers."""
    pairs = [("level", Cell(result["level"], "bold"))]
    pairs += [(name, Cell(level)) for name, level in sorted(result["loggers"].items())]
    told = result.get("workers")
    return [Pairs(pairs)] if told is None else [Pairs(pairs), f"{units.plural(told, 'worker', 'workers')} told."]


def disconnect(result: Result) -> list[Block]:
    """How many connections a user had."""
    if not result["disconnected"]:
        return [f"User {result['user']} has no connections."]
    ended = units.plural(result["disconnected"], "connection", "connections")
    return [f"Disconnected user {result['user']}: {ended}."]


def publish(result: Result) -> list[Block]:
    """What was published, and to how many."""
    subscribers = units.plural(result["subscribers"], "subscriber", "subscribers")
    return [f"Published {result['id']} to {result['channel']}: {subscribers}."]


def top(result: Result) -> list[Block]:
    """One row for each, the greatest first."""
    heading = {
        "channels": ("channel", "subscribers"),
        "users": ("user", "connections"),
        "events": ("event", "published"),
    }
    name, count = heading[result["of"]]
    rows = [[Cell(row["name"]), Cell(units.count(row["count"]))] for row in result["top"]]
    return [Table((Column(name), Column(count, right=True)), rows)] if rows else [f"There are no {result['of']} yet."]


def trace(result: Result) -> list[Block]:
    """What became of a publication, and of it for one user."""
    publication = result["publication"]
    pairs = [("message", Cell(result["id"], "bold"))]
    if publication is not None:
        pairs += [
            ("event", Cell(publication["event"])),
            ("channel", Cell(publication["channel"])),
            (
                "accepted",
                Cell(f"{_moment(publication['at'])} by {publication['worker']}, from {publication['source']}"),
            ),
            (
                "delivery",
                Cell(f"{publication['class']}, priority {publication['priority']}, {publication['bytes']} bytes"),
            ),
        ]
        if publication["request"]:
            pairs.append(("request", Cell(publication["request"])))
    pairs.append(("recipients", Cell(units.count(result["recipients"]))))
    pairs.append(("lost", Cell(units.count(result["lost"]), "bold red" if result["lost"] else "")))
    blocks: list[Block] = [Pairs(pairs)]
    if result["workers"]:
        blocks += ["", Table(_TRACE_COLUMNS, [_trace_row(worker) for worker in result["workers"]])]
    user = result.get("user")
    if user is not None:
        blocks += ["", f"User {user['id']}: {user['explanation']}"]
        if user["connections"]:
            blocks.append(Table(_DEVICE_COLUMNS, [_device_row(each) for each in user["connections"]]))
    return blocks


_TRACE_COLUMNS: Final = (
    Column("worker"),
    Column("at"),
    Column("recipients", right=True),
    Column("lost", right=True),
    Column("why", spare=1),
    Column("users", spare=2),
)
_DEVICE_COLUMNS: Final = (
    Column("connection", spare=1),
    Column("worker", spare=3),
    Column("protocol"),
    Column("since"),
    Column("until"),
    Column("outcome"),
)


def _trace_row(worker: Result) -> list[Cell]:
    return [
        Cell(worker["worker"]),
        Cell(_moment(worker["at"])),
        Cell(units.count(worker["recipients"])),
        Cell(units.count(worker["lost"])),
        Cell(", ".join(f"{reason} {count}" for reason, count in worker["byReason"].items())),
        Cell(", ".join(map(str, worker["users"]))),
    ]


def _device_row(each: Result) -> list[Cell]:
    until = f"{_moment(each['until'])} ({each['reason']})" if each["until"] else ""
    return [
        Cell(each["connection"], "dim"),
        Cell(each["worker"]),
        Cell(f"{each['protocol']} {each['transport']}"),
        Cell(_moment(each["since"])),
        Cell(until),
        Cell(each["outcome"].replace("_", " "), "bold"),
    ]


def _moment(seconds: float | None) -> str:
    return units.UNKNOWN if not seconds else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
