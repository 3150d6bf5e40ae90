"""May this user subscribe to this channel? What the rules of :mod:`mechamap_rt.core.rules` mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from mechamap_rt.core.channels import Channel
from mechamap_rt.core.identity import ADMIN, MEMBER, MODERATOR, Identity
from mechamap_rt.core.rules import Match, Rule, RuleTable
from mechamap_rt.interfaces import IPolicy, ISite

_log = Logger()


@implementer(IPolicy)
class Policy:
    """Decides by the table of rules, asking the site's rows where a rule needs them.

    :ivar unknown: requests for resources that no rule knows.
    """

    def __init__(self, site: ISite, table: RuleTable) -> None:
        self._site = site
        self._table = table
        self.unknown = 0
        self._asking: Mapping[Rule, Callable[[Identity, int], Awaitable[bool]]] = {
            Rule.THREAD: self._thread,
            Rule.FORUM: self._forum,
            Rule.CONVERSATION: self._conversation,
            Rule.GROUP: self._group,
            Rule.SELLER: self._seller,
        }

    def may_subscribe(self, identity: Identity, channel: Channel) -> Deferred[bool]:
        match = self._table.match(channel.resource)
        if match is None:
            self.unknown += 1
            _log.info(
                "User {user} asked for a channel no rule knows: {channel}", user=identity.user_id, channel=channel.name
            )
            return succeed(False)
        ask = self._asking.get(match.rule)
        if ask is None:
            return succeed(_decide(identity, match))
        return Deferred.fromCoroutine(_run(ask, identity, match.id))

    async def _thread(self, identity: Identity, thread_id: int) -> bool:
        thread = await self._site.thread(thread_id)
        if thread is None or thread.deleted:
            return False
        if not thread.visible and thread.user_id != identity.user_id and identity.rank < MODERATOR:
            return False
        return _may_enter(identity, thread.forum_private)

    async def _forum(self, identity: Identity, forum_id: int) -> bool:
        forum = await self._site.forum(forum_id)
        return forum is not None and _may_enter(identity, forum.private)

    async def _conversation(self, identity: Identity, conversation_id: int) -> bool:
        return await self._site.participates(conversation_id, identity.user_id)

    async def _group(self, identity: Identity, group_id: int) -> bool:
        return await self._site.belongs(group_id, identity.user_id)

    async def _seller(self, identity: Identity, seller_id: int) -> bool:
        return identity.rank >= ADMIN or await self._site.seller(seller_id) == identity.user_id


async def _run(ask: Callable[[Identity, int], Awaitable[bool]], identity: Identity, ident: int) -> bool:
    return await ask(identity, ident)


def _decide(identity: Identity, match: Match) -> bool:
    """The rules that need nothing but the user and the name."""
    if match.rule is Rule.EVERYONE:
        return True
    if match.rule is Rule.OWNER:
        return match.id == identity.user_id
    if match.rule is Rule.ROLE:
        return match.variables["role"] == identity.role or identity.rank >= ADMIN
    if match.rule is Rule.MODERATOR:
        return identity.rank >= MODERATOR
    return match.rule is Rule.ADMIN and identity.rank >= ADMIN


def _may_enter(identity: Identity, private: bool | None) -> bool:
    """The rule of a forum; ``None`` is a forum that does not exist."""
    if private is None or identity.rank < MEMBER:
        return False
    return not private or identity.rank >= MODERATOR
