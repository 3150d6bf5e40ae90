"""The site's roles, and what each is worth."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

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
