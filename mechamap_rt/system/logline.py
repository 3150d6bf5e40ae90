"""One event of the log is one line: what strangers send in cannot end it, begin another, or move a terminal's cursor.

Names, paths, addresses and reasons come from outside. They are not cleaned at every call that logs them, but here,
once, by :func:`texts`, before anybody writes the event. What looks like somebody's credential is taken out there too.
"""

from __future__ import annotations

import re
from typing import Final

from twisted.logger import LogEvent, formatEvent

#: C0 and C1 controls, DEL; what other programs take for line ends; marks that reorder the text after them, which can
#: make a line read as what it is not (Unicode Standard Annex 9); halves of characters, which no file takes.
_UNPLAIN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\x1b"}

#: What lets somebody in, wherever it stands: parameters of URLs, headers, JWTs and the site's own tokens.
_CREDENTIALS: Final = (
    (re.compile(r"(?i)\b((?:access_|api_?)?(?:token|key)|password|secret)=[^&\s\"'<>,;)]+"), r"\1=***"),
    (re.compile(r"(?i)\bBearer\s+[\w.~+/|=-]+"), "Bearer ***"),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)?"), "***"),
    (re.compile(r"\b[0-9]{1,20}(?:\||%7[Cc])\w{40,}"), "***"),
)

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


def without_credentials(text: str) -> str:
    """``text`` with stars for what may be a token or a key."""
    for pattern, stars in _CREDENTIALS:
        text = pattern.sub(stars, text)
    return text


def make_plain(event: LogEvent) -> None:
    """A log observer that changes the event for those after it, where they are not ours (``twistd --logger``).

    Its text is made now, and is plain. A traceback keeps its lines, each of them plain.
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
    line, trace = without_credentials(plain(formatEvent(event))), without_credentials(trace)
    return line, "\n".join(map(plain, trace.rstrip().split("\n")))
