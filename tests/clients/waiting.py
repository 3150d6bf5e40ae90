"""Waiting for what the server should come to."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.server import Server

LIMIT = 8.0


def until(holds: Callable[[], bool], complaint: Callable[[], str], limit: float = LIMIT) -> None:
    """Wait until something holds that nobody reports."""
    deadline = time.monotonic() + limit
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit:g} s: {complaint()}")
        time.sleep(0.01)


def subscribers(server: Server, channel: str) -> int:
    """How many connections the server holds in ``channel``, as the backend is told."""
    answer = server.get(f"/api/channels/{channel}", key=True)
    assert answer.status_code == 200, answer.text
    count: int = answer.json()["subscriberCount"]
    return count


def wait_for_subscribers(server: Server, channel: str, count: int) -> None:
    """Wait until ``channel`` has exactly that many."""
    until(
        lambda: subscribers(server, channel) == count,
        lambda: f"{count} subscribers of {channel}, still {subscribers(server, channel)}",
    )
