"""Why a client was not let in, or lost its connection: in a few words each, so that they can be counted."""

from __future__ import annotations

import asyncio
import errno
import re
import ssl
from typing import Any, Final

import orjson
from picows import WSError, WSHandshakeError

from mechamap_rt.bench.dialects import Refused
from mechamap_rt.bench.job import BenchError
from mechamap_rt.errors import Disconnect

_BY_CODE: Final = {each.code: each.reason for each in Disconnect}
_LONGEST: Final = 100
#: What belongs to one client alone in a server's sentence, and would make a reason of its own of each.
_IDS: Final = re.compile(r"\d{3,}")
HANDSHAKE: Final = " at the handshake"
_ERRNO: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset by the server",
    errno.EMFILE: "no descriptors left here",
    errno.ENFILE: "no descriptors left here",
    errno.EADDRNOTAVAIL: "no local ports left here",
    errno.ETIMEDOUT: "not connected in time",
}


def words(text: str) -> str:
    """One line of printable characters, not too long: what a server says is chosen by others."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return printable[:_LONGEST].strip() or "no reason given"


def of(fault: BaseException) -> str:
    """The reason of what ended an attempt."""
    if isinstance(fault, Refused) and fault.said:
        return said(fault.said)
    if isinstance(fault, WSHandshakeError):
        return status(int(fault.response.status)) + HANDSHAKE if fault.response is not None else "no WebSocket there"
    if isinstance(fault, TimeoutError | asyncio.CancelledError):
        return "not ready in time"
    if isinstance(fault, ssl.SSLError):
        return words(f"TLS: {getattr(fault, 'verify_message', '') or fault.reason or fault}")
    if isinstance(fault, OSError):
        return _ERRNO.get(fault.errno or 0, words(str(fault)))
    if isinstance(fault, BenchError | WSError):
        return words(str(fault))
    return type(fault).__name__


def status(code: int) -> str:
    """Of an HTTP answer that is not what was asked for."""
    return f"HTTP {code} (a redirect, not followed)" if 300 <= code < 400 and code != 304 else f"HTTP {code}"


def closed(code: int | None, reason: str = "") -> str:
    """Of a WebSocket that has been closed; ``None`` without a close frame."""
    if code is None:
        return "connection lost"
    return f"closed with {code}" + (f" {found}" if (found := words(reason) if reason else _BY_CODE.get(code)) else "")


def said(message: bytes) -> str:
    """Of a message of one of our protocols: its reason for programs, or else its sentence."""
    try:
        content: Any = orjson.loads(message.lstrip(b"0123456789"))
    except orjson.JSONDecodeError:
        return "disconnected" if message == b"41" else words(message[:_LONGEST].decode(errors="replace"))
    if isinstance(content, list):
        content = content[-1]
    if not isinstance(content, dict):
        return "refused"
    details = content.get("details")
    inner = details.get("reason") if isinstance(details, dict) else None
    if inner == Disconnect.AUTH_FAILED.reason:
        inner = None  # the sentence says more
    sentence = str(inner or content.get("reason") or content.get("message") or content.get("error") or "refused")
    return words(_IDS.sub("…", sentence))
