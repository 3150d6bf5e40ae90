"""The backend's question who is online."""

from __future__ import annotations

from typing import Final

from mechamap_rt.http.openapi.operation import Body, Group, Operation, Who
from mechamap_rt.http.openapi.schemas import COUNT, IDENT, answer, listed, members, said
from mechamap_rt.presence.presence import MAX_ASKED

GROUP: Final = Group(
    "Presence",
    "Who is here now, over all devices, processes and hosts.",
    (
        Operation(
            "POST",
            "/api/presence/online",
            "usersOnline",
            "Which of these users are online?",
            "Users with a connection anywhere in the cluster, or whose last one ended less than `PRESENCE_GRACE` ago.",
            answer(
                {
                    "online": said(listed(IDENT), "Those who are, in the order asked."),
                    "count": said(COUNT, "How many they are."),
                }
            ),
            who=Who.BACKEND,
            body=Body(
                members({"user_ids": listed(IDENT, minItems=1, maxItems=MAX_ASKED)}),
                {"three users": {"user_ids": [1, 2, 3]}},
            ),
        ),
    ),
)
