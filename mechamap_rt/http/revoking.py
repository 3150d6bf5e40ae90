"""The endpoints by which the site takes rights away at once, and the one that says what a token is worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mechamap_rt.access.revocation import Revocation
from mechamap_rt.auth.jwt import CONNECT, bare
from mechamap_rt.core.identity import Identity
from mechamap_rt.errors import AuthRefused, Unavailable
from mechamap_rt.http.audit import Acts
from mechamap_rt.http.bodies import Fields
from mechamap_rt.http.call import Call
from mechamap_rt.http.keys import CHALLENGE, Keys, Right
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.routing import Route, read_json
from mechamap_rt.interfaces import IAuthenticator
from mechamap_rt.wire import json


class Revoking:
    """Takes rights away, in the whole cluster."""

    def __init__(
        self,
        revocation: Revocation,
        authenticator: IAuthenticator,
        keys: Keys,
        acts: Acts,
        clock: Callable[[], float],
    ) -> None:
        self._revocation = revocation
        self._authenticator = authenticator
        self._keys = keys
        self._acts = acts
        self._clock = clock

    def routes(self) -> list[Route]:
        return [
            Route("/api/auth/revoke", {"POST": self.revoke_token}),
            Route("/api/channels/revoke", {"POST": self.revoke_channel}),
            Route("/api/test-auth", {"POST": self.test}),
        ]

    async def revoke_token(self, call: Call) -> Reply:
        """``{user_id}`` or ``{token_id}``: the connections end, and what was remembered is forgotten."""
        with self._acts.act(call, "rights.revoke") as act:
            act.caller = await self._keys.require(call, Right.PUBLISH)
            fields = Fields(read_json(call))
            by_user, by_token = fields.has("user_id"), fields.has("token_id")
            if by_user == by_token:
                fields.fault("user_id", "one of user_id and token_id is required")
            name = "token_id" if by_token else "user_id"
            ident = fields.ident(name)
            fields.check()
            act.target[name] = ident
            revoke = self._revocation.token if by_token else self._revocation.user
            return self._revoked({name: ident, "disconnected": await revoke(ident)})

    async def revoke_channel(self, call: Call) -> Reply:
        """``{channel, user_id?}``: the subscriptions end, of that user or of everybody."""
        with self._acts.act(call, "subscriptions.revoke") as act:
            act.caller = await self._keys.require(call, Right.PUBLISH)
            fields = Fields(read_json(call))
            channel = fields.channel("channel")
            user_id = fields.ident("user_id") if fields.has("user_id") else None
            fields.check()
            if channel is None:
                raise HTTPFault(Error.VALIDATION, "The request is not valid", [("channel", "required")])
            act.target |= {"channel": channel.name, "user_id": user_id}
            ended = await self._revocation.channel(channel.resource, user_id)
            return self._revoked({"channel": channel.name, "user_id": user_id, "unsubscribed": ended})

    async def test(self, call: Call) -> Reply:
        """What a Bearer token is worth: no key is needed to ask, and nothing is told that its owner does not know."""
        self._keys.single(call)
        given = call.header(b"authorization")
        token = bare(given) if given is not None and given[:7].lower() == "bearer " else None
        self._keys.guard(call)
        try:
            identity = await self._authenticator.identify(token)
        except AuthRefused as refused:
            if token is not None:
                self._keys.refused(call, "token")
            raise HTTPFault(Error.UNAUTHORIZED, str(refused), headers=CHALLENGE) from None
        except Unavailable:
            message = "Authentication failed: Temporarily unavailable"
            raise HTTPFault(Error.UNAVAILABLE, message, headers={"Retry-After": "2"}) from None
        return self._answer("The token is valid", _worth(identity))

    def _revoked(self, members: dict[str, Any]) -> Reply:
        if not self._revocation.degraded:
            return self._answer("Revoked", members)
        message = "Revoked here; other hosts follow as soon as they can be reached"
        return self._answer(message, members | {"degraded": True})

    def _answer(self, message: str, members: dict[str, Any]) -> Reply:
        stamp = {"timestamp": json.timestamp(self._clock())}
        return Reply.of({"success": True, "message": message} | members | stamp)


def _worth(identity: Identity) -> dict[str, Any]:
    return {
        "user": identity.profile(),
        "permissions": list(identity.permissions),
        "mayConnect": not CONNECT.isdisjoint(identity.permissions),
        "tokenType": "jwt" if identity.token_id is None else "sanctum",
        "expiresAt": None if identity.expires_at is None else json.timestamp(identity.expires_at),
    }
