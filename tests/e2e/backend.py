"""What the tests of the HTTP API share: sound requests, and what an error must look like."""

from __future__ import annotations

from typing import Any

BROADCAST = {"channel": "public.news", "event": "news.created", "data": {"id": 1}}
#: Every POST of the backend, with a sound body.
POSTS: dict[str, Any] = {
    "/api/laravel-broadcast": {"channels": ["public.news"], "event": "news.created", "data": {"id": 1}},
    "/api/broadcast": BROADCAST,
    "/api/broadcast/multi": {"broadcasts": [BROADCAST]},
    "/api/broadcast/user/5": {"event": "news.created", "data": {"id": 1}},
    "/api/notify": {"action": "send_to_user", "user_id": 5, "data": {"id": 1}},
}
GETS = ("/api/channels/public.news", "/api/channels/stats")
OPEN = ("/", "/health", "/api/health", "/status", "/api/status")


def check_error(response: Any, status: int) -> dict[str, Any]:
    """An error is the contract's JSON."""
    assert response.status_code == status, (response.status_code, response.text)
    assert response.headers["Content-Type"].startswith("application/json")
    error: dict[str, Any] = response.json()
    assert error["success"] is False
    assert isinstance(error["error"], str)
    assert isinstance(error["message"], str)
    assert error["error"]
    assert error["message"]
    return error
