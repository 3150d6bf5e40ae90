"""Which resources exist, and by which rule one may subscribe to them: data, in one place.

A pattern is a resource name whose ``<…>`` segments are variables: ``<id>`` is a database id, ``<rest>`` is one or more
segments, any other name is one segment. What the rules mean is decided in :mod:`mechamap_rt.auth.policy`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from mechamap_rt.core.identity import MAX_ID


class Rule(Enum):
    """How to decide whether a user may subscribe."""

    EVERYONE = "every authenticated user"
    OWNER = "the user with the id in the name"
    THREAD = "who may read the thread, and its forum"
    FORUM = "who may read the forum"
    CONVERSATION = "a participant of the conversation"
    GROUP = "an active member of the group"
    SELLER = "the seller's own user, or an admin"
    ROLE = "users of exactly the role in the name, or an admin"
    MODERATOR = "moderators and above"
    ADMIN = "admins"
    RANK = "users of a role that is worth at least as much as the configured one"
    MEMBER = "users with a row in the configured table"


class Members(NamedTuple):
    """Where it is written who belongs to what.

    :ivar table: one row for each pair of what and whom.
    :ivar of: the column with the id of what; ``user`` the column with the user's id.
    :ivar active: a column that must be 1; empty for none.
    """

    table: str
    of: str
    user: str
    active: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """One row of the table."""

    pattern: str
    rule: Rule
    members: Members | None = None
    rank: int = 0
    regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "regex", _compile(self.pattern))


def _compile(pattern: str) -> re.Pattern[str]:
    shapes = {"id": "[1-9][0-9]{0,18}", "rest": ".+"}
    parts = re.split(r"<(\w+)>", pattern)
    text = "".join(
        f"(?P<{part}>{shapes.get(part, '[^.]+')})" if at % 2 else re.escape(part) for at, part in enumerate(parts)
    )
    return re.compile(text)


_SELLERS: Final = Members("marketplace_sellers", "id", "user_id")

RESOURCES: Final = (
    Resource("public.<rest>", Rule.EVERYONE),
    Resource("notifications", Rule.EVERYONE),
    Resource("marketplace.global", Rule.EVERYONE),
    Resource("product.<id>", Rule.EVERYONE),
    Resource("showcase.<id>", Rule.EVERYONE),
    Resource("user.<id>", Rule.OWNER),
    Resource("user.<id>.<rest>", Rule.OWNER),
    Resource("following.<id>", Rule.OWNER),
    Resource("marketplace.orders.<id>", Rule.OWNER),
    Resource("thread.<id>", Rule.THREAD),
    Resource("forum.<id>", Rule.FORUM),
    Resource(
        "conversation.<id>", Rule.CONVERSATION, Members("conversation_participants", "conversation_id", "user_id")
    ),
    Resource("group.<id>", Rule.GROUP, Members("group_members", "conversation_id", "user_id", "is_active")),
    Resource("seller.<id>", Rule.SELLER, _SELLERS),
    Resource("marketplace.seller.<id>", Rule.SELLER, _SELLERS),
    Resource("notifications.role.<role>", Rule.ROLE),
    Resource("moderator.<rest>", Rule.MODERATOR),
    Resource("admin.<rest>", Rule.ADMIN),
)


@dataclass(frozen=True, slots=True)
class Match:
    """The rule for one resource, and the variables of its name."""

    rule: Rule
    variables: Mapping[str, str]
    members: Members | None = None
    rank: int = 0

    @property
    def id(self) -> int:
        """The database id in the name."""
        return int(self.variables["id"])


class RuleTable:
    """Finds the rule for a resource's name; the first row that fits decides.

    :param more: rows after those of the site's contract, which therefore stay as they are.
    """

    def __init__(self, more: Sequence[Resource] = ()) -> None:
        self._resources = (*RESOURCES, *more)
        self.match = lru_cache(maxsize=16384)(self._match)

    def _match(self, name: str) -> Match | None:
        for resource in self._resources:
            found = resource.regex.fullmatch(name)
            if found is not None:
                if "id" in found.groupdict() and int(found["id"]) > MAX_ID:
                    return None
                return Match(resource.rule, found.groupdict(), resource.members, resource.rank)
        return None
