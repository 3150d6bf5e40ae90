"""The seams between the rooms, as typed zope interfaces. Every implementation passes the same contract suite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IReactorCore,
    IReactorPluggableNameResolver,
    IReactorSocket,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
)
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from mechamap_rt.core.channels import Channel
    from mechamap_rt.core.identity import Identity
    from mechamap_rt.core.ledger import Claim
    from mechamap_rt.core.publication import Publication
    from mechamap_rt.core.tracing import Chunk
    from mechamap_rt.errors import Disconnect
    from mechamap_rt.system.audit import Actor, Outcome


class IReactor(IReactorCore, IReactorPluggableNameResolver, IReactorSocket, IReactorTCP, IReactorThreads, IReactorTime):
    """What one process needs of its reactor."""


class IReceiver(Interface):
    """Takes what a bus brings."""

    def on_publication(publication: Publication) -> int:
        """Deliver to the subscribers of this process; returns how many they are."""

    def on_question(question: str, body: bytes) -> bytes:
        """What this process answers to a question put to every process."""

    def on_state(degraded: bool) -> None:
        """The bus does not reach every process any more, or does again."""

    def on_gone(process: str, silent: float) -> None:
        """Another process has ended, or has not been heard of for ``silent`` seconds; nothing it had is there."""


class IBus(Interface):
    """Carries publications and questions between processes. A process hears its own publications exactly once.

    Nothing that a bus returns waits for ever: what cannot be had in time is left out.
    """

    degraded: bool = Attribute("Is there a part of the cluster that it does not reach now?")

    def start(receiver: IReceiver) -> Deferred[None]:
        """Begin to bring publications to ``receiver``."""

    def stop() -> Deferred[None]:
        """Bring no more; fires when everything accepted has been handed over."""

    def publish(publication: Publication, counted: bool = True) -> Deferred[int]:
        """Carry to every process; fires with the number of subscribers in all of them.

        :param counted: is the number wanted? Otherwise it may be too small, and nothing waits for it.
        """

    def subscribe(resource: str) -> Deferred[None]:
        """This process wants the publications on ``resource``; fires when it will get those made from now on.

        Asked for as often as there are subscribers; a bus remembers what it is subscribed to.
        """

    def unsubscribe(resource: str) -> None:
        """This process has lost its last subscriber of ``resource``."""

    def ask(question: str, body: bytes) -> Deferred[list[bytes]]:
        """The answers of every process, this one's first; one that does not answer in time is left out."""

    def probe() -> Deferred[bool]:
        """Send something all the way that a publication goes, back to this process; fires with whether it came."""

    def figures() -> dict[str, Any]:
        """For metrics: ``connected``; over a network also ``buffered``, ``lost``, ``reconnects`` and ``hosts``."""


class ISessionStore(Interface):
    """Counts what is the cluster's and not one process's: transports, users' connections, events.

    Nothing waits for ever: a store that cannot be reached answers from what this process knows.
    """

    def enter(address: str) -> Deferred[Disconnect | None]:
        """A transport has come in; fires with the limit that it is over, if any. :meth:`leave` must follow."""

    def leave(address: str) -> None:
        """A transport has gone."""

    def admit(user_id: int) -> Deferred[Disconnect | None]:
        """A user asks for a connection; fires with ``None``, and :meth:`dismiss` must follow, or with why not."""

    def dismiss(user_id: int) -> None:
        """A user's connection has ended."""

    def take(limit: str, key: int | str) -> Deferred[float]:
        """Take one event of ``key`` from the limit of that name; fires with 0.0, or the seconds to wait."""


class ILedger(Interface):
    """Knows what has been done already in the cluster, so that what is asked for twice is done once.

    Nothing waits for ever: a ledger that cannot be reached answers from what this process knows.
    """

    def claim(key: str, digest: bytes) -> Deferred[Claim]:
        """Ask to do something; fires with how it stands. After ``NEW``, :meth:`settle` or :meth:`release` must follow.

        :param digest: of what is asked for, of one length for all.
        """

    def settle(key: str, digest: bytes, answer: bytes) -> None:
        """It has been done, with this answer."""

    def release(key: str) -> None:
        """It was not done after all."""


class IAuditLog(Interface):
    """Takes down who has done what to the server, and what came of it."""

    def note(
        actor: Actor,
        action: str,
        target: Mapping[str, Any],
        outcome: Outcome,
        *,
        code: str | None = None,
        address: str | None = None,
        request: str | None = None,
    ) -> None:
        """One act. It is written soon, and nobody waits for it.

        :param action: such as ``connections.disconnect``.
        :param target: what it was done to: texts and numbers by name, and no secret.
        :param outcome: ``ok``, ``refused``, or ``failed``; ``code`` says why.
        :param address: from where, if over the network.
        :param request: the request's id.
        """


class IArchive(Interface):
    """Keeps what became of publications longer than a process lives."""

    def keep(chunk: Chunk) -> None:
        """Keep these records; nobody waits for it."""

    def about(ident: str) -> Deferred[dict[str, list[Any]]]:
        """The records about one publication, by the process that made them; what cannot be read is left out."""

    async def settle() -> None:
        """Wait until what was given is kept, for a moment."""


class IHelm(Interface):
    """The process that looks after those of its host, seen from one that serves clients."""

    facts: dict[str, Any] = Attribute("What it last said of itself, its workers and its alerts")

    def steer(command: str, asked: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        """Have it do what an operator asks; fails with :class:`~mechamap_rt.errors.OperationFault`."""


class IAuthenticator(Interface):
    """Says whose token it is."""

    era: int = Attribute("Changes whenever something is forgotten: what was found out before may not count any more")

    def authenticate(token: str | None) -> Deferred[Identity]:
        """Fires with the user, who may connect.

        Fails with :class:`~mechamap_rt.errors.AuthRefused`, or with :class:`~mechamap_rt.errors.Unavailable` when it
        cannot be found out now.
        """

    def identify(token: str | None) -> Deferred[Identity]:
        """The same without asking whether the user may connect: for the HTTP API, which has rights of its own."""

    def forget(user_id: int | None = None, token_id: int | None = None) -> None:
        """What was found out about this user's tokens, or about this token, does not count any more."""

    def overtaken(identity: Identity, era: int) -> bool:
        """Has something been forgotten about this user or token since ``era``?"""


class IPolicy(Interface):
    """Says what a user may see."""

    era: int = Attribute("Changes whenever something is forgotten: what was decided before may not count any more")

    def may_subscribe(identity: Identity, channel: Channel, fresh: bool = False, socket: str = "") -> Deferred[bool]:
        """May this user subscribe to this channel? An unknown resource is nobody's.

        Fails with :class:`~mechamap_rt.errors.Unavailable` when it cannot be found out now.

        :param fresh: what was decided before does not count.
        :param socket: the id of the connection that asks.
        """

    def member(identity: Identity, channel: Channel) -> tuple[str, str | None]:
        """The name and avatar under which this user, who may subscribe, takes part in this presence channel."""

    def changes(channel: Channel) -> bool:
        """May the answer for this channel be another one later, for the same user?"""

    def forget(user_id: int | None = None, resource: str | None = None) -> None:
        """What was decided about this user, this resource, or both together does not count any more."""


class IDatabase(Interface):
    """Runs statements of the site's database off the reactor's thread."""

    def start() -> Deferred[None]:
        """Be ready to answer."""

    def stop() -> Deferred[None]:
        """Close every connection; running statements end first."""

    def query(statement: str, arguments: Sequence[Any], *, fresh: bool = False) -> Deferred[list[tuple[Any, ...]]]:
        """The rows of one ``SELECT``; parameters are written ``%s``.

        Fails with :class:`~mechamap_rt.errors.Unavailable`, and never waits for ever.

        :param fresh: ask where it is written, not where it may arrive later.
        """

    def execute(statement: str, arguments: Sequence[Any]) -> Deferred[int]:
        """Change rows, by a statement that does no harm when it is run twice; how many it has found."""

    separate: bool = Attribute("May a row be written already and not yet where it is read?")

    def status() -> str:
        """``up``, ``down``, or ``degraded`` when only a part of it answers."""

    def figures() -> dict[str, Any]:
        """``status``, and ``pools``: what is known of each server and of the connections to it."""

    def rest() -> None:
        """Few questions will come any more: keep no connection that nobody uses."""

    def resize(connections: int) -> None:
        """Have so many connections at most, to all servers together, and at least one to each."""


class IAccounts(Interface):
    """The site's users and their tokens. Fails with :class:`~mechamap_rt.errors.Unavailable`."""

    def token(token_id: int) -> Deferred[Any]:
        """The :class:`~mechamap_rt.storage.accounts.Token` and its user, or ``None``; one query."""

    def user(user_id: int) -> Deferred[Any]:
        """The :class:`~mechamap_rt.storage.accounts.User`, or ``None``; one query."""

    def standing(token_ids: Iterable[int], user_ids: Iterable[int]) -> Deferred[tuple[dict[int, Any], dict[int, Any]]]:
        """What these tokens and users are now, by id; those that are gone are missing.

        In the place of one of which that cannot be found out now is an :class:`~mechamap_rt.errors.Unavailable`.
        """

    def doubt(user_id: int | None = None, token_id: int | None = None) -> None:
        """Rights of these have been taken away: of them only the server counts where rows are written."""

    def used(token_ids: Sequence[int], moment: float) -> Deferred[int]:
        """These tokens have been used, lately at ``moment`` (seconds since the epoch)."""

    def seen(moments: Mapping[int, float]) -> Deferred[int]:
        """These users have been seen, each lately at a moment (seconds since the epoch); it never goes back."""


class INotifications(Interface):
    """The site's notifications. Fails with :class:`~mechamap_rt.errors.Unavailable`.

    One that is archived or has expired is not unread, whether it was read or not. A pair is the id of a notification,
    and the id of a user who is said to own it.
    """

    def belonging(pairs: Iterable[tuple[int, int]]) -> Deferred[dict[tuple[int, int], bool]]:
        """Those of the pairs that belong together: is the notification unread? One query."""

    def read(moments: Mapping[tuple[int, int], float]) -> Deferred[int]:
        """These have been read by their owners, each at a moment (seconds since the epoch); what is unread changes."""

    def outstanding(users: Mapping[int, float | None]) -> Deferred[dict[int, Any]]:
        """The :class:`~mechamap_rt.storage.notifications.Outstanding` of each user who has any; one query.

        :param users: the moment (seconds since the epoch) up to which notifications count, or ``None`` for all.
        """

    def read_all(users: Mapping[int, Any]) -> Deferred[int]:
        """These users have read all, as the :class:`~mechamap_rt.storage.notifications.Reading` of each says."""

    def unread(user_id: int) -> Deferred[int]:
        """How many unread ones the user has; those asked about at the same moment are one query."""


class ISite(Interface):
    """Answers questions about the site's rows, one query each. Fails with :class:`~mechamap_rt.errors.Unavailable`."""

    def thread(thread_id: int) -> Deferred[Any]:
        """The :class:`~mechamap_rt.storage.site.Thread`, or ``None``."""

    def forum(forum_id: int) -> Deferred[Any]:
        """The :class:`~mechamap_rt.storage.site.Forum`, or ``None``."""

    def group(group_id: int) -> Deferred[Any]:
        """The :class:`~mechamap_rt.storage.site.Group`: how many active members it has, and who; none is no fault."""

    def member(table: str, columns: tuple[str, str], active: str, pair: tuple[int, int]) -> Deferred[bool]:
        """Is there a row of ``table`` whose two ``columns`` (of what, which user) are ``pair``?

        :param active: a column that must be 1; empty for none.
        """
