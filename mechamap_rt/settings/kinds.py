"""How a setting's text is read and written: one :class:`Kind` for each notation.

For every kind ``parse(format(value)) == value``, so settings can be handed to a worker process as an
environment, and a default is declared once, as a value, and documented as text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mechamap_rt.settings.faults import BadValue

T = TypeVar("T")

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
MONTH = 30 * 86400.0
YEAR = 365 * 86400.0

# The exponent and the length are bounded so that no text underflows to 0, which means "no limit".
_NUMBER = re.compile(r"-?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][+-]?[0-9]{1,2})?")
_LONGEST_MEASURE = 64
#: Secrets that are still accepted beside the current one: each costs every wrong one a comparison.
MOST_SECRETS = 8

_MEASURE = re.compile(r"(.*?) ?([A-Za-z]*)", re.DOTALL)
_BOOLEANS = {
    "true": True, "1": True, "yes": True, "on": True,
    "false": False, "0": False, "no": False, "off": False,
}  # fmt: skip
_SIZE_UNITS = {"b": 1, "k": KIB, "kb": KIB, "m": MIB, "mb": MIB, "g": GIB, "gb": GIB}
_TIME_UNITS = {
    "ms": 0.001,
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
    "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
    "y": YEAR, "year": YEAR, "years": YEAR,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A notation.

    :ivar parse: text (not empty) to value; raises :exc:`BadValue` and nothing else.
    :ivar format: value to a text that ``parse`` reads as the same value; "" for a value that means unset.
    :ivar notation: what to write, in words, with the unit; for :mod:`mechamap_rt.settings.envfile`.
    """

    parse: Callable[[str], T]
    format: Callable[[T], str]
    notation: str


def _parse_text(text: str) -> str:
    if not text.isprintable():
        raise BadValue("must not contain control or invisible characters")
    return text


def _parse_secret(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise BadValue("must be UTF-8 text without line breaks or other control characters")
    return text


def _parse_timezone(text: str) -> str:
    try:
        return ZoneInfo(text).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadValue("must be the name of a time zone, such as UTC or Asia/Ho_Chi_Minh") from None


def _parse_boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise BadValue("must be true or false (or 1/0, yes/no, on/off)") from None


def _parse_integer(text: str, low: int, high: int, what: str = "a whole number") -> int:
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number.is_integer() and low <= number <= high:
            return int(number)
    raise BadValue(f"must be {what} from {low} to {high}")


def integer(low: int = 0, high: int = 10**9) -> Kind[int]:
    """A whole number from ``low`` to ``high``; ``2e6`` is legal."""
    return Kind(lambda text: _parse_integer(text, low, high), str, f"whole number from {low} to {high}")


def milliseconds(low: float = 0.001, high: float = MONTH) -> Kind[float]:
    """A whole number of milliseconds, held in seconds; ``low`` and ``high`` in seconds."""
    first, last = round(low * 1000), round(high * 1000)
    return Kind(
        lambda text: _parse_integer(text, first, last, "a whole number of milliseconds") / 1000,
        lambda seconds: str(round(seconds * 1000)),
        f"milliseconds, from {first} to {last}",
    )


def _measure(text: str) -> tuple[float, str] | None:
    """``10m`` -> ``(10.0, "m")``; None for what is not a number with an optional unit."""
    match = _MEASURE.fullmatch(text[:_LONGEST_MEASURE])
    if match is None or len(text) > _LONGEST_MEASURE:
        return None
    number, unit = match.group(1), match.group(2).lower()
    return (float(number), unit) if _NUMBER.fullmatch(number) else None


def _format_size(size: int) -> str:
    for suffix, unit in (("g", GIB), ("m", MIB), ("k", KIB)):
        if size and size % unit == 0:
            return f"{size // unit}{suffix}"
    return str(size)


def _size_parser(low: int, high: int, bare: int, zero: bool) -> Callable[[str], int]:
    note = " (a number without a unit is in MB)" if bare == MIB else ""
    reason = f"must be a size from {_format_size(low)} to {_format_size(high)}, such as 512k or 10m{note}"

    def parse(text: str) -> int:
        measure = _measure(text)
        if measure is not None:
            number, unit = measure
            size = number * (_SIZE_UNITS.get(unit, -1) if unit else bare)
            if size.is_integer() and (low <= size <= high or (zero and number == 0)):
                return int(size)
        raise BadValue(f"{reason}, or 0" if zero else reason)

    return parse


def size(low: int, high: int, *, zero: bool = False) -> Kind[int]:
    """A number of bytes, or of units of 1024 with the suffix ``k``, ``m`` or ``g``; bounds in bytes."""
    notation = f"bytes, or with k, m or g, from {_format_size(low)} to {_format_size(high)}{', or 0' if zero else ''}"
    return Kind(_size_parser(low, high, 1, zero), _format_size, notation)


def megabytes(low: int, high: int, *, zero: bool = False) -> Kind[int]:
    """As :func:`size` (held in bytes too), but a number without a unit is in MB (of 1024 kB)."""
    return Kind(
        _size_parser(low, high, MIB, zero),
        lambda value: f"{value}b" if value % MIB else str(value // MIB),
        f"MB, or with k, m or g, from {_format_size(low)} to {_format_size(high)}{', or 0' if zero else ''}",
    )


def _parse_duration(text: str) -> float:
    measure = _measure(text)
    if measure is not None:
        number, unit = measure
        seconds = number * (_TIME_UNITS.get(unit, -1.0) if unit else 1.0)
        if 1 <= seconds <= 10 * YEAR:
            return float(round(seconds))
    raise BadValue("must be a duration from 1s to 10y, such as 24h, 7d or 3600 (seconds)")


def _format_duration(seconds: float) -> str:
    for suffix, unit in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % unit == 0 and seconds > unit:
            return f"{seconds / unit:.0f}{suffix}"
    return f"{seconds:.0f}"


def choice(*words: str, synonyms: dict[str, str] | None = None) -> Kind[str]:
    """One of ``words``, in any case; ``synonyms`` maps other (lower-case) spellings to one of them."""
    known = {word.lower(): word for word in words} | (synonyms or {})

    def parse(text: str) -> str:
        try:
            return known[text.lower()]
        except KeyError:
            raise BadValue(f"must be one of {', '.join(words)}") from None

    return Kind(parse, str, " or ".join(words))


def comma_list(element: Kind[T]) -> Kind[tuple[T, ...]]:
    """A comma list of ``element``; blanks around elements, empty elements and repetitions are dropped."""

    def parse(text: str) -> tuple[T, ...]:
        values: dict[T, None] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            try:
                values[element.parse(part)] = None
            except BadValue as bad:
                raise BadValue(f"each element {bad.reason}", part) from None
        if not values:
            raise BadValue("must have at least one element between its commas")
        return tuple(values)

    return Kind(parse, lambda values: ",".join(map(element.format, values)), f"comma list of: {element.notation}")


_BETWEEN_SECRETS = re.compile(r"[,\r\n]+")


def secrets_in(text: str) -> list[str]:
    """The elements of a list of secrets, as they stand there: between commas or line breaks, without blanks around."""
    return [part for part in map(str.strip, _BETWEEN_SECRETS.split(text)) if part]


def _parse_secrets(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(map(_parse_secret, secrets_in(text))))
    if not found:
        raise BadValue("must have at least one element between its commas")
    if len(found) > MOST_SECRETS:
        raise BadValue(f"must be {MOST_SECRETS} secrets at most")
    return found


def optional(kind: Kind[T], word: str = "") -> Kind[T | None]:
    """``kind`` or None; ``word`` is the text for None, "" when only leaving it unset means None."""

    def parse(text: str) -> T | None:
        if word and text.lower() == word:
            return None
        try:
            return kind.parse(text)
        except BadValue as bad:
            raise BadValue(f"{bad.reason}, or {word}" if word else bad.reason, bad.culprit) from None

    notation = f"{kind.notation}, or {word}" if word else kind.notation
    return Kind(parse, lambda value: word if value is None else kind.format(value), notation)


def matching(pattern: str, reason: str) -> Kind[str]:
    """A text that matches ``pattern`` as a whole."""
    expression = re.compile(pattern)

    def parse(text: str) -> str:
        if not expression.fullmatch(text):
            raise BadValue(reason)
        return text

    return Kind(parse, str, reason.removeprefix("must be "))


text: Kind[str] = Kind(_parse_text, str, "text")
"""Any printable text."""

anything: Kind[str] = Kind(str, str, "anything")
"""Whatever is there; for what is not used."""

secret: Kind[str] = Kind(_parse_secret, str, "secret")
"""Any text on one line; blanks at its ends belong to it."""

secret_list: Kind[tuple[str, ...]] = Kind(_parse_secrets, ",".join, "comma list of: secret")
"""Secrets without commas, between commas or one on a line; blanks around them are dropped, and repetitions."""

boolean: Kind[bool] = Kind(_parse_boolean, lambda value: "true" if value else "false", "true or false")
"""``true``, ``false``, ``1``, ``0``, ``yes``, ``no``, ``on``, ``off``, in any case."""

timezone: Kind[str] = Kind(_parse_timezone, str, "name of a time zone")
"""A name of the tz database."""

duration: Kind[float] = Kind(_parse_duration, _format_duration, "duration, such as 24h or 7d, or seconds")
"""``24h``, ``7d``, or a number of seconds; held in seconds, rounded to whole ones."""
