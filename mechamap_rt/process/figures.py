"""The figures of a process, as an operator sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_SHOWN: Final = (
    "connections",
    "users",
    "subscriptions",
    "published",
    "delivered",
    "rss",
    "cpu",
    "descriptors",
    "tunnels",
)


def shown(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a worker's row that is figures, from what the process and its meter say; ``lag`` in milliseconds.

    :param figures: may be empty: a worker that has just been started has said nothing yet.
    """
    return {
        "degraded": bool(figures.get("degraded")),
        **{name: figures.get(name, 0) for name in _SHOWN},
        "lag": round(figures.get("lag", 0.0) * 1000, 1),
    }
