"""The seams between the rooms, as typed zope interfaces. Every implementation passes the same contract suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorSocket, IReactorTCP, IReactorThreads, IReactorTime
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from mechamap_rt.core.channels import Channel
    from mechamap_rt.core.identity import Identity
    from mechamap_rt.core.publication import Publication
    from mechamap_rt.errors import Disconnect


class IReactor(IReactorCore, IReactorSocket, IReactorTCP, IReactorThreads, IReactorTime):
    """What one process needs of its reactor."""


class IReceiver(Interface):
    """Takes what a bus brings."""

    def on_publication(publication: Publication) -> int:
        """Deliver to the subscribers of this process; returns how many they are."""

    def on_question(question: str, body: bytes) -> bytes:
        """What this process answers to a question put to every process."""

    def on_state(degraded: bool) -> None:
        """The bus does not reach every process any more, or does again."""


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


class IAuthenticator(Interface):
    """Says whose token it is."""

    def authenticate(token: str | None) -> Deferred[Identity]:
        """Fires with the user, who may connect, or fails with :class:`~mechamap_rt.errors.AuthRefused`."""

    def identify(token: str | None) -> Deferred[Identity]:
        """The same without asking whether the user may connect: for the HTTP API, which has rights of its own."""


class IPolicy(Interface):
    """Says what a user may see."""

    def may_subscribe(identity: Identity, channel: Channel) -> Deferred[bool]:
        """May this user subscribe to this channel? An unknown resource is nobody's."""


class IDatabase(Interface):
    """Runs statements of the site's database off the reactor's thread."""

    def start() -> Deferred[None]:
        """Be ready to answer."""

    def stop() -> Deferred[None]:
        """Close every connection; running statements end first."""

    def query(statement: str, arguments: Sequence[Any]) -> Deferred[list[tuple[Any, ...]]]:
        """The rows of one ``SELECT``; parameters are written ``%s``."""


class ISite(Interface):
    """Answers questions about the site's rows, one query each."""

    def thread(thread_id: int) -> Deferred[Any]:
        """The :class:`~mechamap_rt.storage.site.Thread`, or ``None``."""

    def forum(forum_id: int) -> Deferred[Any]:
        """The :class:`~mechamap_rt.storage.site.Forum`, or ``None``."""

    def participates(conversation_id: int, user_id: int) -> Deferred[bool]:
        """Is the user a participant of the conversation?"""

    def belongs(group_id: int, user_id: int) -> Deferred[bool]:
        """Is the user an active member of the group?"""

    def seller(seller_id: int) -> Deferred[int | None]:
        """The user id of the marketplace seller."""
