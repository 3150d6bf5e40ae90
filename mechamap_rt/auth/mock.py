"""Development only (``MOCK_LARAVEL_API``): answers in the site's place, so that pages can be tried without it."""

from __future__ import annotations

from typing import Any

from mechamap_rt.core.identity import Member


class MockSite:
    """Says that every Sanctum token is the configured user's, and that everybody may hear everything."""

    def __init__(self, user_id: int, role: str) -> None:
        self._user_id = user_id
        self._role = role

    async def verify(self, token: str) -> dict[str, Any]:
        return {
            "id": self._user_id,
            "name": f"User {self._user_id}",
            "role": self._role,
            "permissions": ["receive_notifications"],
        }

    async def authorize(self, token: str, socket: str, channel: str) -> Member:
        return Member()

    async def close(self) -> None:
        """There is nothing to close."""
