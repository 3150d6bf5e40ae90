"""Rights that are taken away at once, in every process: of users, of tokens, to channels."""

from __future__ import annotations

from typing import Final

from mechamap_rt.access.subscriptions import Subscriptions
from mechamap_rt.bus.node import Node
from mechamap_rt.errors import Disconnect
from mechamap_rt.interfaces import IAuthenticator, IPolicy

#: The reason that clients are told when a subscription has been taken away.
REASON: Final = "Revoked"


class Revocation:
    """Answers for this process, and asks all of them."""

    def __init__(
        self, node: Node, authenticator: IAuthenticator, policy: IPolicy, subscriptions: Subscriptions
    ) -> None:
        self._node = node
        self._authenticator = authenticator
        self._policy = policy
        self._subscriptions = subscriptions
        node.answer("revoke_token", self._revoke_token)
        node.answer("revoke_channel", self._revoke_channel)

    async def user(self, user_id: int) -> int:
        """Every token of the user; how many connections have ended."""
        return sum(await self._node.ask("revoke_token", (user_id, None)))

    async def token(self, token_id: int) -> int:
        """One Sanctum token; how many connections have ended."""
        return sum(await self._node.ask("revoke_token", (None, token_id)))

    async def channel(self, resource: str, user_id: int | None) -> int:
        """The subscriptions to a resource, of one user or of everybody; how many have ended."""
        return sum(await self._node.ask("revoke_channel", (resource, user_id)))

    def _revoke_token(self, asked: tuple[int | None, int | None]) -> int:
        user_id, token_id = asked
        self._authenticator.forget(user_id, token_id)
        if user_id is not None:
            self._policy.forget(user_id=user_id)
            found = list(self._node.connections_of(user_id))
        else:
            found = [each for each in self._node.connections() if each.identity.token_id == token_id]
        for connection in found:
            connection.close(Disconnect.REVOKED)
        return len(found)

    def _revoke_channel(self, asked: tuple[str, int | None]) -> int:
        resource, user_id = asked
        self._policy.forget(user_id, resource)
        found = [
            connection
            for connection in self._node.hub.subscribers(resource)
            if user_id is None or connection.identity.user_id == user_id
        ]
        for connection in found:
            self._subscriptions.end(connection, resource, REASON)
        return len(found)
