"""Who a connection belongs to, and what their role is worth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from mechamap_rt.settings.roles import RANKS

MEMBER: Final = 2
MODERATOR: Final = 5
ADMIN: Final = 6

#: The permission, in the token or in the user's row, of those whom others do not see coming and going.
INVISIBLE: Final = "invisible"

#: Ids are signed 64-bit integers in the site's database.
MAX_ID: Final = 2**63 - 1


class Member(NamedTuple):
    """How a user takes part in a presence channel, as far as the site says; ``None`` is as everywhere."""

    name: str | None = None
    avatar: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated user, as the token or the site's database has it.

    :ivar expires_at: seconds since the epoch when the token ends, or ``None``.
    :ivar token_id: the number of the Sanctum token; ``None`` for a JWT.
    :ivar digest: stands for the secret of the Sanctum token, where the database has it: a new one is noticed by it.
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
    digest: bytes | None = field(default=None, repr=False)
    bearer: str | None = field(default=None, repr=False, compare=False)

    @property
    def rank(self) -> int:
        return RANKS.get(self.role, 0)

    @property
    def invisible(self) -> bool:
        """Is this user's presence nobody's business?"""
        return INVISIBLE in self.permissions

    def card(self) -> dict[str, Any]:
        """What other members see."""
        return {"id": self.user_id, "name": self.name, "avatar": self.avatar}

    def profile(self) -> dict[str, Any]:
        """What the user's own client sees."""
        return {"id": self.user_id, "name": self.name, "email": self.email, "role": self.role}
