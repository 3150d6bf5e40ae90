"""Strict and bounded JSON.

Decoding gives Python objects or :class:`BadJSON`, never anything else. Bodies that are passed through without
being decoded are held to the same rules by :func:`check_relayable`, because a body that one browser
cannot parse would cost every subscriber its connection.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson

#: Arrays and objects nested deeper than this are refused (decoders of other languages recurse).
MAX_DEPTH: Final = 128

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class BadJSON(ValueError):
    """Not JSON as this server accepts it; ``str()`` says why, in words fit for a client."""


class UnpairedSurrogate(BadJSON):
    """Well-formed JSON whose text cannot be UTF-8: half of a surrogate pair (JavaScript can send it)."""


def encode(value: Any) -> bytes:
    """Encode ``value`` (plain data) as compact UTF-8 JSON."""
    return orjson.dumps(value)


def decode(raw: bytes) -> Any:
    """Decode one JSON text.

    :raises UnpairedSurrogate: a string holds half of a surrogate pair.
    :raises BadJSON: anything else that is not JSON, is not UTF-8 or is nested deeper than :data:`MAX_DEPTH`.
    """
    try:
        value = orjson.loads(raw)
    except ValueError:
        raise _explain(raw) from None
    if too_deep(raw):
        raise BadJSON(f"nested deeper than {MAX_DEPTH} levels")
    return value


def _explain(raw: bytes) -> BadJSON:
    """Say what is wrong with ``raw``, which orjson refused."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return BadJSON("not valid UTF-8")
    if too_deep(raw):
        return BadJSON(f"nested deeper than {MAX_DEPTH} levels")
    if _SURROGATE_ESCAPE.search(raw):
        try:
            orjson.loads(_without_surrogates(raw))
        except ValueError:
            return BadJSON("not valid JSON")
        return UnpairedSurrogate("a string holds an unpaired surrogate")
    return BadJSON("not valid JSON")


def _without_surrogates(raw: bytes) -> bytes:
    """``raw`` with every surrogate escape made an ordinary character; escaped backslashes stay escaped."""
    return re.sub(rb"\\(?:u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", _plain_escape, raw, flags=re.DOTALL)


def _plain_escape(match: re.Match[bytes]) -> bytes:
    escape = match.group()
    return rb"\ufffd" if len(escape) == 6 else escape


def too_deep(raw: bytes) -> bool:
    """Is ``raw`` nested deeper than :data:`MAX_DEPTH`? Counts brackets first, which settles nearly every body."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for byte in re.findall(rb"[\[{\]}]", _STRING.sub(b"", raw)):
        if byte in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        else:
            depth -= 1
    return False


@lru_cache(maxsize=4096)
def string(text: str) -> bytes:
    """``text`` as a JSON string with its quotes; cached, for names that recur."""
    return orjson.dumps(text)


_stamp_of: tuple[int, str] = (-1, "")


def timestamp(seconds: float) -> str:
    """``seconds`` since the epoch as ISO-8601 UTC with milliseconds and ``Z``."""
    global _stamp_of
    millis = int(seconds * 1000)
    whole, part = divmod(millis, 1000)
    if _stamp_of[0] != whole:
        _stamp_of = (whole, datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    return f"{_stamp_of[1]}.{part:03d}Z"
