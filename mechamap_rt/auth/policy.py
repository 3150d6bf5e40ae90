"""May this user subscribe to this channel? What the rules of :mod:`mechamap_rt.core.rules` mean."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from mechamap_rt.auth.decisions import Decisions
from mechamap_rt.core.channels import Channel
from mechamap_rt.core.doubts import Doubts
from mechamap_rt.core.identity import ADMIN, MEMBER, MODERATOR, Identity
from mechamap_rt.core.limits import Buckets
from mechamap_rt.core.rules import Match, Rule, RuleTable
from mechamap_rt.errors import Unavailable
from mechamap_rt.interfaces import IPolicy, ISite

_log = Logger()

#: Finds out by rows whether a user may subscribe.
Ask = Callable[[ISite, Identity, Match], Awaitable[bool]]

#: How often a question is asked while rights are taken away.
MAX_ATTEMPTS: Final = 3
#: Lines about channels that no rule knows, which the log gets a minute.
LINES_PER_MINUTE: Final = 60


@implementer(IPolicy)
class Policy:
    """Decides by the table of rules, asking the site's rows where a rule needs them: one query at most.

    :param decisions: what has been decided lately.
    :param written: answers from the server where rows are written, if reads go to others, which are not believed about
        what has been taken away.

    :ivar unknown: requests for resources that no rule knows.
    """

    def __init__(self, site: ISite, table: RuleTable, decisions: Decisions, written: ISite | None = None) -> None:
        self._site = site
        self._written = written
        self._doubts = Doubts(decisions.clock)
        self._table = table
        self._decisions = decisions
        self.unknown = 0
        self._lines = Buckets(LINES_PER_MINUTE, time.monotonic)
        self._asking: Mapping[Rule, Ask] = {
            Rule.THREAD: self._thread,
            Rule.FORUM: self._forum,
            Rule.CONVERSATION: self._member,
            Rule.GROUP: self._member,
            Rule.MEMBER: self._member,
            Rule.SELLER: self._seller,
        }

    def may_subscribe(
        self, identity: Identity, channel: Channel, fresh: bool = False, socket: str = ""
    ) -> Deferred[bool]:
        match = self._table.match(channel.resource)
        if match is None:
            self.unknown += 1
            if not self._lines.take("unknown"):
                _log.info(
                    "User {user} asked for a channel no rule knows: {channel}",
                    user=identity.user_id,
                    channel=channel.name,
                )
            return succeed(False)
        ask = self._asking.get(match.rule)
        if ask is None:
            return succeed(_decide(identity, match))
        known = None if fresh else self._decisions.known(identity, channel.resource)
        if known is not None:
            return succeed(known)
        return Deferred.fromCoroutine(self._find_out(ask, identity, channel.resource, match))

    @property
    def era(self) -> int:
        return self._decisions.era

    def member(self, identity: Identity, channel: Channel) -> tuple[str, str | None]:
        return identity.name, identity.avatar

    def changes(self, channel: Channel) -> bool:
        match = self._table.match(channel.resource)
        return match is not None and match.rule in self._asking

    def forget(self, user_id: int | None = None, resource: str | None = None) -> None:
        self._decisions.forget(user_id, resource)
        self._doubts.note((user_id, resource))

    def _rows(self, user_id: int, resource: str) -> ISite:
        """Where the rows are that count for this user and resource."""
        if self._written is None or not self._doubts.covers((user_id, resource), (user_id, None), (None, resource)):
            return self._site
        return self._written

    async def _find_out(self, ask: Ask, identity: Identity, resource: str, match: Match) -> bool:
        for _ in range(MAX_ATTEMPTS):
            era = self._decisions.era
            allowed = await ask(self._rows(identity.user_id, resource), identity, match)
            if era == self._decisions.era:
                self._decisions.remember(identity, resource, allowed, era)
                return allowed
            # somebody's right was taken away meanwhile, perhaps this one: what was found may be older
        raise Unavailable("rights are being taken away")

    async def _thread(self, site: ISite, identity: Identity, match: Match) -> bool:
        thread = await site.thread(match.id)
        if thread is None or thread.deleted:
            return False
        if not thread.visible and thread.user_id != identity.user_id and identity.rank < MODERATOR:
            return False
        return _may_enter(identity, thread.forum_private)

    async def _forum(self, site: ISite, identity: Identity, match: Match) -> bool:
        forum = await site.forum(match.id)
        return forum is not None and _may_enter(identity, forum.private)

    async def _member(self, site: ISite, identity: Identity, match: Match) -> bool:
        members = match.members
        if members is None:
            return False
        return await site.member(
            members.table, (members.of, members.user), members.active, (match.id, identity.user_id)
        )

    async def _seller(self, site: ISite, identity: Identity, match: Match) -> bool:
        return identity.rank >= ADMIN or await self._member(site, identity, match)


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
    if match.rule is Rule.RANK:
        return identity.rank >= match.rank
    return match.rule is Rule.ADMIN and identity.rank >= ADMIN


def _may_enter(identity: Identity, private: bool | None) -> bool:
    """The rule of a forum; ``None`` is a forum that does not exist."""
    if private is None or identity.rank < MEMBER:
        return False
    return not private or identity.rank >= MODERATOR
