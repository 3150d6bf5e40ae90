"""Parts of statements: lists of parameters, and times as the site's rows have them, in its time zone, to the second."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any


def marks(count: int) -> str:
    """``%s, %s, …``"""
    return ", ".join(["%s"] * count)


def text(moment: float, zone: tzinfo) -> str:
    """``moment``, seconds since the epoch, as it is written."""
    return datetime.fromtimestamp(moment, zone).strftime("%Y-%m-%d %H:%M:%S")


def chosen(column: str, texts: Mapping[int, str]) -> tuple[str, list[Any]]:
    """An expression, and its arguments, that is for each row the text of what the row has in ``column``."""
    different = set(texts.values())
    if len(different) == 1:
        return "%s", [*different]
    arguments = [part for pair in texts.items() for part in pair]
    return f"CASE {column}{' WHEN %s THEN %s' * len(texts)} END", arguments
