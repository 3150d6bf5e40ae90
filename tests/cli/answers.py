"""Answers as the control protocol has them."""

from __future__ import annotations

import time
from typing import Any


def worker(number: int, **members: object) -> dict[str, Any]:
    """One worker of ``status`` and ``workers``."""
    usual = {
        "worker": number,
        "node": f"abc{number:03}",
        "pid": 1000 + number,
        "state": "ready",
        "uptime": 11_530,
        "connections": 12_345,
        "users": 9_876,
        "subscriptions": 45_678,
        "published": 1_234_567,
        "delivered": 98_765_432,
        "rss": 91_645_542,
        "cpu": 12.4,
        "lag": 0.83,
    }
    return usual | members


def status(*workers: dict[str, Any], **members: object) -> dict[str, Any]:
    """The result of ``status``."""
    usual = {
        "mode": "cluster",
        "version": "0.1.0",
        "pid": 999,
        "host": "abc",
        "uptime": 11_530.2,
        "state": "running",
        "listening": ["http://127.0.0.1:3000", "unix:/run/x"],
        "degraded": False,
        "connections": 24_690,
        "users": 1,
        "subscriptions": 91_356,
        "published": 7,
        "delivered": 8_000,
        "memory": {"rss": 45 * 2**20},
        "workers": list(workers),
        "alerts": [],
        "reloads": 0,
        "restarts": 0,
    }
    return usual | members


def connection(user: int, **members: object) -> dict[str, Any]:
    """One connection of ``connections``."""
    usual = {
        "id": "abc004xyz",
        "user": user,
        "name": "Nguyễn An",
        "role": "member",
        "worker": 4,
        "protocol": "socket.io",
        "transport": "websocket",
        "address": "[::1]",
        "since": time.time() - 3661,
        "channels": 3,
    }
    return usual | members
