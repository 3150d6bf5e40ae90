"""The endpoints by which the site takes rights away, and the one that says what a token is worth."""

from __future__ import annotations

from typing import Final

from mechamap_rt.http.openapi.operation import Body, Group, Operation, Who
from mechamap_rt.http.openapi.schemas import (
    COUNT,
    FLAG,
    IDENT,
    TEXT,
    Schema,
    answer,
    const,
    listed,
    members,
    message,
    ref,
    said,
)

_DEGRADED: Final[dict[str, Schema]] = {
    "degraded": said(
        const(True), "Only while other hosts are out of reach: they follow as soon as they can be reached."
    )
}
_NOTHING: Final[Schema] = {"type": "null"}
_ENDED: Final = said(COUNT, "Connections that ended, in the whole cluster.")

_TOKEN: Final = Operation(
    "POST",
    "/api/auth/revoke",
    "revokeTokens",
    "End a user's or a token's connections",
    "For when somebody has logged out, was banned or has changed the password: the connections end at once, on every "
    "process and host, and what was remembered of the token is forgotten. The clients stay away.",
    {
        "anyOf": [
            answer({"message": message("Revoked"), "user_id": IDENT, "disconnected": _ENDED}, _DEGRADED),
            answer({"message": message("Revoked"), "token_id": IDENT, "disconnected": _ENDED}, _DEGRADED),
        ]
    },
    who=Who.BACKEND,
    body=Body(
        {
            "oneOf": [
                members({"user_id": ref("Id")}, {"token_id": _NOTHING}, description="All tokens of a user."),
                members(
                    {"token_id": ref("Id")},
                    {"user_id": _NOTHING},
                    description="One token of Laravel Sanctum, by its number: what stands before the `|`.",
                ),
            ]
        },
        {"a user": {"user_id": 5}, "a token": {"token_id": 7}},
    ),
)

_CHANNEL: Final = Operation(
    "POST",
    "/api/channels/revoke",
    "revokeSubscriptions",
    "End subscriptions to a channel",
    "For when somebody has left a group, or a thread was hidden. Whoever may still subscribe can do so again.",
    answer(
        {
            "message": message("Revoked"),
            "channel": ref("ChannelName"),
            "user_id": {"anyOf": [IDENT, _NOTHING]},
            "unsubscribed": said(COUNT, "Subscriptions that ended, in the whole cluster."),
        },
        _DEGRADED,
    ),
    who=Who.BACKEND,
    body=Body(
        members(
            {"channel": ref("Channel")},
            {"user_id": {"anyOf": [ref("Id"), _NOTHING], "description": "Only this user's; without it, everybody's."}},
        ),
        {"of one user": {"channel": "conversation.9", "user_id": 5}, "of everybody": {"channel": "thread.7"}},
    ),
)

_TEST: Final = Operation(
    "POST",
    "/api/test-auth",
    "testToken",
    "What is a token worth?",
    "Nothing is told that the token's owner does not know. A key is no token.",
    answer(
        {
            "message": message("The token is valid"),
            "user": members(
                {
                    "id": IDENT,
                    "name": TEXT,
                    "email": {"type": ["string", "null"]},
                    "role": TEXT,
                }
            ),
            "permissions": listed(TEXT),
            "mayConnect": said(FLAG, "May its owner connect?"),
            "tokenType": {"enum": ["jwt", "sanctum"]},
            "expiresAt": {"anyOf": [ref("Timestamp"), _NOTHING]},
        }
    ),
    who=Who.TOKEN,
)

GROUP: Final = Group("Tokens and rights", "Rights that end, end at once.", (_TOKEN, _CHANNEL, _TEST))
