"""Processes of a cluster on one clock that take clients' requests: real dispatchers, limits, permissions and buses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mechamap_rt.access.subscriptions import Subscriptions
from mechamap_rt.auth.decisions import Decisions
from mechamap_rt.auth.policy import Policy
from mechamap_rt.bus.census import Census
from mechamap_rt.commands.debug import Debugging
from mechamap_rt.commands.dispatch import Dispatcher
from mechamap_rt.commands.groups import GroupCommands
from mechamap_rt.commands.outcome import Outcome
from mechamap_rt.commands.table import ClientCommands
from mechamap_rt.commands.typing import Typing
from mechamap_rt.core.identity import Identity
from mechamap_rt.core.limits import Quota, Tally
from mechamap_rt.core.outbox import OutboxStats
from mechamap_rt.core.rules import RuleTable
from mechamap_rt.errors import Disconnect, Unavailable
from mechamap_rt.interfaces import IAuthenticator, ISite
from mechamap_rt.sessions.local import LocalStore
from mechamap_rt.storage.site import Group
from mechamap_rt.transport.lobby import Lobby
from tests.presence.cluster import Cluster, Device, Process


@implementer(ISite)
class Rows:
    """The site's rows.

    :ivar members: the active members of each group.
    :ivar away: does the database not answer?
    """

    def __init__(self) -> None:
        self.members: dict[int, list[int]] = {}
        self.away = False

    def thread(self, thread_id: int) -> Deferred[Any]:
        raise NotImplementedError

    def forum(self, forum_id: int) -> Deferred[Any]:
        raise NotImplementedError

    def group(self, group_id: int) -> Deferred[Group]:
        members = tuple(self.members.get(group_id, ()))
        return fail(Unavailable("away")) if self.away else succeed(Group(len(members), members))

    def member(self, table: str, columns: tuple[str, str], active: str, pair: tuple[int, int]) -> Deferred[bool]:
        assert (table, active) == ("group_members", "is_active")
        return fail(Unavailable("away")) if self.away else succeed(pair[1] in self.members.get(pair[0], []))


@implementer(IAuthenticator)
class Tokens:
    """A token is the user's id and role: ``5 admin``."""

    era = 0

    def forget(self, user_id: int | None = None, token_id: int | None = None) -> None:
        """Nothing is remembered."""

    def overtaken(self, identity: Identity, era: int) -> bool:
        return False

    def identify(self, token: str | None) -> Deferred[Identity]:
        return self.authenticate(token)

    def authenticate(self, token: str | None) -> Deferred[Identity]:
        user, role = str(token).split()
        return succeed(Identity(int(user), f"User {user}", role, permissions=("receive_notifications",)))


class Desk:
    """What one process does with clients' requests."""

    def __init__(self, process: Process, tally: Tally, rows: Rows) -> None:
        node, wheel, presence = process.node, process.wheel, process.presence
        clock = presence._clock
        store = LocalStore(tally)
        self.typing = Typing(node, wheel, clock)
        policy = Policy(rows, RuleTable(), Decisions(wheel.seconds))
        self.subscriptions = Subscriptions(node, policy, self._before_end, presence.review, clock)
        self._presence = presence
        commands = ClientCommands(
            node=node,
            policy=policy,
            authenticator=Tokens(),
            typing=self.typing,
            presence=presence,
            subscriptions=self.subscriptions,
            store=store,
            clock=clock,
            extend=lambda connection: None,
        )
        groups = GroupCommands(commands, node=node, site=rows, presence=presence, typing=self.typing, clock=clock)
        self.outboxes = OutboxStats()
        debugging = Debugging(node, Census(node), wheel, lambda: self.dispatcher.requests, self.outboxes, clock)
        self.dispatcher = Dispatcher({**commands.table(), **groups.table(), **debugging.table()}, store, clock)
        self.lobby = Lobby(
            node=node,
            dispatcher=self.dispatcher,
            authenticator=Tokens(),
            store=store,
            typing=self.typing,
            presence=presence,
            wheel=wheel,
            clock=clock,
        )

    def _before_end(self, connection: Any, resource: str) -> None:
        self.typing.stop(connection, resource)
        self._presence.exit(connection, resource)


class Office(Cluster):
    """Processes whose clients share the limits of their host."""

    def __init__(self, names: Iterable[str], **rates: int) -> None:
        super().__init__(names)
        self.rows = Rows()
        tally = Tally(Quota(rates=rates), self.clock.seconds)
        self.desks = {name: Desk(process, tally, self.rows) for name, process in self.processes.items()}

    def begin(self, device: Device, event: str, data: Any = None) -> list[Outcome]:
        """Ask; what comes of it is in the list once it is known."""
        outcomes: list[Outcome] = []
        self.desks[device.process.name].dispatcher.submit(device.connection, event, data, outcomes.append)
        return outcomes

    def ask(self, device: Device, event: str, data: Any = None) -> Outcome:
        """Ask, and let everything that comes of it arrive."""
        outcomes = self.begin(device, event, data)
        self.move()
        (outcome,) = outcomes
        return outcome

    def leave(self, device: Device) -> None:
        """The device's connection ends."""
        self.desks[device.process.name].lobby.leave(device.connection, Disconnect.NORMAL)
        self.move()
