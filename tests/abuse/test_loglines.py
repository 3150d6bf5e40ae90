"""One event of the log is one line, whatever is in it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from twisted.logger import Logger, LogLevel, LogPublisher, formatEventAsClassicLogText
from twisted.python.failure import Failure

from mechamap_rt.process.logpipe import LogPipe
from mechamap_rt.system.logline import make_plain, plain
from mechamap_rt.system.logrecord import as_text, record_of
from tests.abuse.attack import handshake
from tests.abuse.raw import exchange
from tests.clients.waiting import until
from tests.conftest import CLUSTER, StartServer
from tests.server import Server

#: Ends lines, moves cursors, turns text around, or is half a character.
ODD = {
    "line feed": "\n",
    "carriage return": "\r",
    "NUL": "\0",
    "tab": "\t",
    "backspace": "\b",
    "escape": "\x1b[2J\x1b[31m",
    "CSI": "\x9b2J",
    "NEL": "\x85",
    "DEL": "\x7f",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "right to left": "\u202e",
    "isolate": "\u2067",
    "mark": "\u200f",
    "half": "\ud800",
}
FORGED = "2026-01-01T00:00:00+0000 [mechamap_rt.process.control#info] An operator asks for everything"
_RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\u200e\u200f\ud800-\udfff]")


def written(log: Callable[[Logger], Any], foreign: bool = False) -> str:
    """What a file gets of an event.

    :param foreign: as an observer of twistd's own writes it.
    """
    lines: list[str] = []
    if foreign:
        publisher = LogPublisher(make_plain, lambda event: lines.append(formatEventAsClassicLogText(event) or ""))
    else:
        publisher = LogPublisher(lambda event: lines.append(as_text(record_of(event, "a7z001")) + "\n"))
    log(Logger("test", observer=publisher))
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
@pytest.mark.parametrize("wrap", [str, lambda text: {"reason": text}, ValueError], ids=["text", "dict", "exception"])
@pytest.mark.parametrize("foreign", [False, True], ids=["ours", "twistd's"])
def test_an_event_is_one_line(text: str, wrap: Callable[[str], object], foreign: bool) -> None:
    value = wrap(f"a{text}{FORGED}")
    line = written(lambda log: log.info("From {value} and {text}", value=value, text=f"b{text}c"), foreign)
    assert line.count("\n") == 1
    assert not _RAW.search(line[:-1])
    assert "\\" in line
    line.encode()


def test_what_is_readable_stays() -> None:
    text = "Nguyễn Văn An (§ 5) — cơ cấu bánh răng ⚙️ \\n 'x' 🙂"
    assert plain(text) == text
    assert plain("a\nb\x1b[0m\u202e") == "a\\nb\\x1b[0m\\u202e"


def test_a_traceback_keeps_its_lines_and_nothing_else() -> None:
    def fail(log: Logger) -> None:
        try:
            raise ValueError(f"a\x1b[31m\r\u202e\n{FORGED}")
        except ValueError:
            log.failure("It failed for {user}", user="x\ny")

    text = written(fail)
    first, *rest = text.rstrip("\n").split("\n")
    assert first.endswith("It failed for x\\ny")
    # none of them can be taken for the beginning of an event
    assert all(line.startswith("\t") for line in rest)
    assert not _RAW.search("".join(rest).replace("\t", ""))
    assert "ValueError: a\\x1b[31m\\r\\u202e" in text


def test_workers_send_it_so_too() -> None:
    out, into = os.pipe()
    try:
        pipe = LogPipe(into)
        for text in ODD.values():
            event: dict[str, Any] = {
                "log_level": LogLevel.warn,
                "log_format": "From {text}",
                "text": f"a{text}{FORGED}",
                "log_time": 0.0,
            }
            try:
                raise ValueError(text)
            except ValueError:
                event["log_failure"] = Failure()
            pipe(record_of(event, "a7z001"))
        lines = os.read(out, 1 << 20).split(b"\n")
        assert len(lines) == len(ODD) + 1
        for line in lines[:-1]:
            assert not _RAW.search(line.decode())
            assert b"\\u00" not in line.partition(b"Traceback")[0]
    finally:
        os.close(out)
        os.close(into)


def lines_of(server: Server) -> list[str]:
    return server.output().split("\n")


@pytest.mark.parametrize("settings", [{}, CLUSTER | {"CLUSTER_WORKERS": "1"}], ids=["single", "cluster"])
def test_a_running_server(start_server: StartServer, settings: dict[str, str]) -> None:
    """Operators' words, paths of requests, forwarded addresses, names of channels and events."""
    server = start_server(TRUST_PROXY="1", MAX_CONNECTIONS_PER_USER="1", **settings)
    for odd in ODD.values():
        if "\0" not in odd and "\ud800" not in odd:
            server.mechamapctl("disconnect", "5", "--reason", f"a{odd}{FORGED}")
            server.mechamapctl("publish", "public.x", f"e{odd}{FORGED}", "{}")
    high = bytes(range(0x80, 0xB0))
    for _ in range(3):
        exchange(
            server.port,
            b"POST /api/broadcast?"
            + high
            + b" HTTP/1.1\r\nHost: x\r\nX-WebSocket-API-Key: wrong\r\nContent-Length: 0\r\n"
            b"X-Forwarded-For: 1.2.3.4\x1b[31m\x85, a" + high + b"\r\nX-Request-ID: \x1b[2J\r\n\r\n",
        )
        exchange(
            server.port,
            b"POST /api/" + high + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX-Admin-Key: wrong\r\n\r\n",
        )
        exchange(server.port, handshake(f"/ws?token={server.token(5)}", "X-Forwarded-For: 9.9.9.9\x1b[31m"), quiet=0.3)
    until(lambda: "Wrong" in server.output(), server.output)
    until(lambda: "operator asks" in server.output(), server.output)
    for line in lines_of(server):
        assert not _RAW.search(line), repr(line)
        assert not line.startswith(FORGED[:40]), line
    assert "Traceback" not in server.output()
    server.stop()
