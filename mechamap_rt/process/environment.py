"""The environment of a worker."""

from __future__ import annotations

import os
import sys
from typing import Final

from mechamap_rt.settings import Settings, environ_of
from mechamap_rt.settings.names import KNOWN, is_foreign

#: What the service manager tells the master, and not its children.
_OURS: Final = frozenset(("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))


def environ_for_workers(settings: Settings) -> dict[str, str]:
    """The settings as they are in effect, and nothing else that could be one. Holds secrets."""
    kept = {name: text for name, text in os.environ.items() if not _is_setting(name) and name not in _OURS}
    # the worker finds what this process finds, wherever that was started from
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    # what a worker is told is no default to it: whether there is a demo has been decided here
    return kept | environ_of(settings) | {"DEMO_ENABLED": str(settings.demo).lower()}


def _is_setting(name: str) -> bool:
    return name in KNOWN or name.removesuffix("_FILE") in KNOWN or is_foreign(name)
