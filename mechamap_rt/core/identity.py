"""Who a connection belongs to, and what their role is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

#: Ranks of the site's roles, weakest first; a role that is not here ranks as 0.
RANKS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "guest": 1,
        "member": 2,
        "student": 2,
        "senior_member": 3,
        "senior": 3,
        "verified_partner": 4,
        "manufacturer": 4,
        "supplier": 4,
        "brand": 4,
        "moderator": 5,
        "content_moderator": 5,
        "marketplace_moderator": 5,
        "community_moderator": 5,
        "admin": 6,
        "content_admin": 6,
        "system_admin": 6,
        "super_admin": 7,
    }
)
MEMBER: Final = 2
MODERATOR: Final = 5
ADMIN: Final = 6

#: Ids are signed 64-bit integers in the site's database.
MAX_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated user, as the token or the site's database has it.

    :ivar expires_at: seconds since the epoch when the token ends, or ``None``.
    :ivar token_id: the number of the Sanctum token; ``None`` for a JWT.
    :ivar bearer: the token itself, kept only where the site is asked about each channel.
    """

    user_id: int
    name: str
    role: str = "guest"
    email: str | None = None
    permissions: tuple[str, ...] = ()
    avatar: str | None = None
    expires_at: float | None = None
    token_id: int | None = None
    bearer: str | None = field(default=None, repr=False, compare=False)

    @property
    def rank(self) -> int:
        return RANKS.get(self.role, 0)

    def card(self) -> dict[str, Any]:
        """What other members see."""
        return {"id": self.user_id, "name": self.name, "avatar": self.avatar}

    def profile(self) -> dict[str, Any]:
        """What the user's own client sees."""
        return {"id": self.user_id, "name": self.name, "email": self.email, "role": self.role}
