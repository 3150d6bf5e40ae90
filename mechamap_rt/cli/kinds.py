"""Notations of the settings as kinds of options."""

from __future__ import annotations

from typing import Any, Final

import click


class Duration(click.ParamType[float]):
    """Seconds, from the settings' notation: ``24h``, ``7d``, ``20s``, ``3600``.

    :param zero: whether ``0`` is one too.
    """

    name = "duration"

    def __init__(self, zero: bool = False) -> None:
        self._zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from mechamap_rt.settings import BadValue, kinds

        if isinstance(value, float):
            return value
        if self._zero and value in ("0", "0s"):
            return 0.0
        try:
            return kinds.duration.parse(str(value))
        except BadValue as bad:
            self.fail(bad.reason, param, ctx)


DURATION: Final = Duration(zero=True)
