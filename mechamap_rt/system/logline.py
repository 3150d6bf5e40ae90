"""One event of the log is one line: what strangers send in cannot end it, begin another, or move a terminal's cursor.

Names, paths, addresses and reasons come from outside. They are not cleaned at every call that logs them, but here,
once, before anybody formats the event: :func:`make_plain` is the first observer of each process.
"""

from __future__ import annotations

import re
from typing import Any, Final

from twisted.logger import LogEvent, formatEvent, globalLogPublisher

#: C0 and C1 controls, DEL; what other programs take for line ends; marks that reorder the text after them, which can
#: make a line read as what it is not (Unicode Standard Annex 9); halves of characters, which no file takes.
_UNPLAIN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\x1b"}

#: The field of a traceback that is text already, for events that another process has sent.
TRACEBACK: Final = "log_traceback"
_PLAIN: Final = "log_plain"


def plain(text: str) -> str:
    """``text`` in one line of printable characters, with escapes such as Python's for all others."""
    return _UNPLAIN.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    number = ord(character)
    return _NAMED.get(character) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def make_plain(event: LogEvent) -> None:
    """A log observer that changes the event: its text is made now, and is plain; observers after it only copy it.

    A traceback keeps its lines, each of them plain.
    """
    if _PLAIN in event or "log_format" not in event:
        return
    line, trace = texts(event)
    event.pop("log_failure", None)
    event[_PLAIN] = f"{line}\n{trace}" if trace else line
    event["log_format"] = "{" + _PLAIN + "}"


def texts(event: LogEvent) -> tuple[str, str]:
    """The line of an event, and its traceback or ``""``, both plain."""
    failure = event.get("log_failure")
    trace: str = event.get(TRACEBACK, "") if failure is None else failure.getTraceback()
    return plain(formatEvent(event)), "\n".join(map(plain, trace.rstrip().split("\n")))


def install() -> None:
    """Make every event plain before any observer that is added later sees it."""
    publisher: Any = globalLogPublisher
    publisher.addObserver(make_plain)
