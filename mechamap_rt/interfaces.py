"""The seams between the rooms, as typed zope interfaces. Every implementation passes the same contract suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorTCP, IReactorThreads, IReactorTime
from zope.interface import Interface

if TYPE_CHECKING:
    from mechamap_rt.core.channels import Channel
    from mechamap_rt.core.identity import Identity
    from mechamap_rt.core.publication import Publication


class IReactor(IReactorCore, IReactorTCP, IReactorThreads, IReactorTime):
    """What one process needs of its reactor."""


class IReceiver(Interface):
    """Takes what a bus brings."""

    def on_publication(publication: Publication) -> int:
        """Deliver to the subscribers of this process; returns how many they are."""

    def subscriber_count(resource: str) -> int:
        """How many connections of this process are subscribed to ``resource``."""


class IBus(Interface):
    """Carries publications between processes. A process hears its own publications exactly once."""

    def start(receiver: IReceiver) -> Deferred[None]:
        """Begin to bring publications to ``receiver``."""

    def stop() -> Deferred[None]:
        """Bring no more; fires when everything accepted has been handed over."""

    def publish(publication: Publication) -> Deferred[int]:
        """Carry to every process; fires with the number of subscribers in all of them."""

    def subscribe(resource: str) -> None:
        """This process has its first subscriber of ``resource``."""

    def unsubscribe(resource: str) -> None:
        """This process has lost its last subscriber of ``resource``."""

    def count(resource: str) -> Deferred[int]:
        """Subscribers of ``resource`` in all processes."""


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
