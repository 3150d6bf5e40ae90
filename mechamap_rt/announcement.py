"""What the server says of itself when it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from mechamap_rt import demo
from mechamap_rt.core.rules import RESOURCES
from mechamap_rt.settings import Settings

_log = Logger()


def announce(settings: Settings, urls: Sequence[str], say: Callable[[str], object]) -> None:
    """The server has started: say where it listens, to the log and on the terminal, and what there is to try.

    :param say: prints to the terminal.
    """
    for caution in cautions(settings):
        _log.warn("Warning: {caution}", caution=caution)
    for url in urls:
        _log.info("Listening on {url}", url=url)
    for url in urls:
        say(f"Listening on {url}")
    pages = [url for url in urls if url.startswith("http")]
    if settings.demo and pages:
        say(demo.banner(settings, pages[0], time.time()))


def announce_failure(reason: Failure, say: Callable[[str], object]) -> None:
    """The start failed: say why, every fault by itself where ``reason`` has several.

    :param say: prints to the terminal.
    """
    for fault in getattr(reason.value, "faults", None) or (reason.getErrorMessage(),):
        _log.critical("The server cannot start: {reason}", reason=fault)
        say(f"The server cannot start: {fault}")


def features(settings: Settings) -> dict[str, Any]:
    """What is in effect, for ``/api/status``; a setting of a later version is not, whatever it says."""
    return {
        "socketio": True,
        "websocket": True,
        "transports": list(settings.ws.transports),
        "cluster": settings.cluster.enabled,
        "redis": settings.redis.configured and settings.redis.adapter_enabled,
        "database": "embedded" if settings.database.embedded else "mysql",
        "tls": settings.tls.enabled,
        "compression": settings.http.compression_enabled,
        "metrics": settings.monitoring.metrics_enabled,
        "demo": settings.demo,
    }


def cautions(settings: Settings) -> list[str]:
    """What an operator could believe of these settings, and should not."""
    lines: list[str] = []
    if settings.server.production and settings.database.embedded and settings.auth.channel_auth == "rules":
        lines.append("threads, forums, conversations and groups are decided by built-in demo rows, not by the site's")
    known = {resource.pattern for resource in RESOURCES}
    lines += [
        f"{rule.pattern} in CHANNEL_RULES has no effect: the site's own rule counts"
        for rule in settings.auth.channel_rules
        if rule.pattern in known
    ]
    if settings.demo and not _loopback(settings.server.host):
        lines.append("the console gives keys and tokens to everybody who can reach HOST; DEMO_ENABLED=false ends that")
    if settings.development.disable_auth:
        lines.append("DISABLE_AUTH is on: who brings no token is let in")
    return lines


def _loopback(host: str) -> bool:
    """Can only this host reach it?"""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
