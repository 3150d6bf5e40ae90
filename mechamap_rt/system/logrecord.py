"""An event of the log as it is written: one line of text, or one JSON object.

.. code-block:: text

   2026-11-23T10:30:00+0000 [mechamap_rt.http.keys#warn] [worker 3] Wrong key from 203.0.113.7 (request=4f2a09c1)

.. code-block:: json

   {"time": "2026-11-23T10:30:00.000Z", "level": "warn", "logger": "mechamap_rt.http.keys", "worker": "a7z003",
    "message": "Wrong key from 203.0.113.7", "request": "4f2a09c1"}

``request``, ``connection``, ``user`` and ``traceback`` are there where they are known: give them to the log as fields,
``_log.info("It is refused", connection=connection.id)``.
"""

from __future__ import annotations

import time
from string import Formatter
from typing import Any, Final, NamedTuple

from twisted.logger import LogEvent, LogLevel, formatTime

from mechamap_rt.system.loglevels import NAMES
from mechamap_rt.system.logline import TRACEBACK, plain, texts, without_credentials
from mechamap_rt.wire import json

#: The field of an event that has its record already: another process has made it.
RECORD: Final = "log_record"
#: Characters of a message, and of a traceback, whose end is what says most.
MAX_MESSAGE: Final = 8_192
MAX_TRACEBACK: Final = 16_384
#: Characters of a request's or connection's id.
MAX_FIELD: Final = 128

_FIELDS: Final = ("request", "connection", "user")


class Record(NamedTuple):
    """One event; every text is plain.

    :ivar time: seconds since the epoch.
    :ivar worker: the name of the process, or ``master``.
    :ivar number: the worker's, as operators know it; 0 for a process that is none.
    :ivar suffix: what of the fields the message does not say.
    """

    time: float
    level: str
    logger: str
    worker: str
    number: int
    message: str
    suffix: str = ""
    traceback: str = ""
    request: int | str | None = None
    connection: int | str | None = None
    user: int | str | None = None


def record_of(event: LogEvent, worker: str) -> Record:
    """The record of an event of this process, or the one that another has made.

    :param worker: the name of this process.
    """
    made: Record | None = event.get(RECORD)
    if made is not None:
        return made
    message, traceback = texts(event)
    fields = {name: _field(event[name]) for name in _FIELDS if event.get(name) not in (None, "")}
    untold = [f"{name}={value}" for name, value in fields.items() if name not in _told(event.get("log_format"))]
    level: Any = event.get("log_level") or LogLevel.info
    return Record(
        event["log_time"],
        level.name,
        plain(str(event.get("log_namespace") or "-")),
        worker,
        0,
        message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "…",
        f" ({', '.join(untold)})" if untold else "",
        traceback if len(traceback) <= MAX_TRACEBACK else "…" + traceback[-MAX_TRACEBACK:],
        fields.get("request"),
        fields.get("connection"),
        fields.get("user"),
    )


def record_of_line(line: bytes, worker: str, number: int) -> Record:
    """The record of what a worker has written without its log: an interpreter's last words, where its threads are."""
    text = without_credentials(plain(line[:MAX_MESSAGE].decode("utf-8", "backslashreplace")))
    return Record(time.time(), "info", "worker", worker, number, text)


def event_of(record: Record) -> LogEvent:
    """A record of another process as an event of this one, for every observer."""
    return {
        "log_time": record.time,
        "log_level": LogLevel.lookupByName(record.level if record.level in NAMES else "info"),
        "log_namespace": record.logger,
        "log_format": "[worker {number}] {message}{suffix}",
        TRACEBACK: record.traceback,
        RECORD: record,
        **record._asdict(),
    }


def _field(value: Any) -> int | str:
    return value if isinstance(value, int) else plain(str(value)[:MAX_FIELD])


def _told(template: Any) -> set[str]:
    """The fields that a format says itself."""
    try:
        return {(name or "").partition(".")[0] for _, name, _, _ in Formatter().parse(str(template or ""))}
    except ValueError:
        return set()


def as_text(record: Record) -> str:
    """One line without its end; those of a traceback begin with a tab."""
    worker = f"[worker {record.number}] " if record.number else ""
    line = f"{formatTime(record.time)} [{record.logger}#{record.level}] {worker}{record.message}{record.suffix}"
    return "\n\t".join((line, *record.traceback.split("\n"))) if record.traceback else line


def as_json(record: Record) -> str:
    """One line without its end."""
    members: dict[str, Any] = {
        "time": json.timestamp(record.time),
        "level": record.level,
        "logger": record.logger,
        "worker": record.worker,
        "message": record.message,
    }
    for name in (*_FIELDS, "traceback"):
        value = getattr(record, name)
        if value not in (None, ""):
            members[name] = value
    return json.encode(members).decode()
