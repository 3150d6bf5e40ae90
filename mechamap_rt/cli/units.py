"""Figures in words, for people. ``None``, which is a figure that nobody knows (yet), is a dash."""

from __future__ import annotations

UNKNOWN = "-"


def count(number: int | None) -> str:
    """``12345`` -> ``12,345``."""
    return UNKNOWN if number is None else f"{number:,d}"


def size(number: int | None) -> str:
    """Bytes in MB or GB, of 1024 each, as in ``MEMORY_LIMIT``: ``87.4 MB``."""
    if number is None:
        return UNKNOWN
    megabytes = number / 2**20
    return f"{megabytes:.1f} MB" if megabytes < 1024 else f"{megabytes / 1024:.2f} GB"


def duration(seconds: float | None) -> str:
    """Seconds in the two largest units: ``42 s``, ``12 min``, ``3 h 12 min``, ``5 d 3 h``."""
    if seconds is None:
        return UNKNOWN
    whole = max(int(seconds), 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{whole} s"


def percent(share: float | None) -> str:
    """A percentage: ``3 %``."""
    return UNKNOWN if share is None else f"{share:.0f} %"


def milliseconds(number: float | None) -> str:
    """``1.2 ms``; without a decimal from 10 ms on."""
    return UNKNOWN if number is None else f"{number:.1f} ms" if number < 10 else f"{number:,.0f} ms"


def plural(number: int, one: str, many: str) -> str:
    """``1 worker``, ``1,200 workers``."""
    return f"{count(number)} {one if number == 1 else many}"
