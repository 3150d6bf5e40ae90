"""What the server says of itself when it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from mechamap_rt import demo
from mechamap_rt.settings import Settings


def announce(settings: Settings, urls: Sequence[str], say: Callable[[str], object] | None) -> None:
    """Say on the terminal where the server listens, and what there is to try."""
    if say is None:
        return
    for url in urls:
        say(f"Listening on {url}")
    pages = [url for url in urls if url.startswith("http")]
    if settings.server.demo and pages:
        say(demo.banner(settings, pages[0], time.time()))


def features(settings: Settings) -> dict[str, Any]:
    """What is in effect, for ``/api/status``; a setting of a later version is not, whatever it says."""
    return {
        "socketio": True,
        "websocket": True,
        "transports": list(settings.ws.transports),
        "cluster": settings.cluster.enabled,
        "redis": settings.redis.configured and settings.redis.adapter_enabled,
        "database": "embedded",
        "tls": False,
        "compression": settings.http.compression_enabled,
        "metrics": False,
        "demo": settings.server.demo,
    }


def cautions(settings: Settings) -> list[str]:
    """What an operator could believe of these settings, and should not."""
    later = {
        "SSL_ENABLED (this port speaks plain HTTP: end TLS in nginx)": settings.tls.enabled,
        "DB_HOST": bool(settings.database.host),
    }
    lines = [f"{name} has no effect in this version" for name, given in later.items() if given]
    if settings.server.production:
        lines.append("threads, forums, conversations and groups are decided by built-in demo rows, not by the site's")
    if settings.development.disable_auth:
        lines.append("DISABLE_AUTH is on: who brings no token is let in")
    return lines
