"""Why somebody did not get a message, or that they did: what all processes remember of a publication, put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mechamap_rt.bus.node import Node
from mechamap_rt.core import channels
from mechamap_rt.core.outbox import Outbox
from mechamap_rt.core.tracing import Record, origin
from mechamap_rt.core.visits import Visit, described, visit
from mechamap_rt.interfaces import IArchive

#: Connections of a user of one process that are told of.
MAX_TOLD: Final = 50
#: Seconds for which one that ended before the publication, or came after it, is worth telling of.
NEAR: Final = 3600.0
#: Losses that are listed by name.
MAX_LOSSES: Final = 100

#: In words, what became of it at one connection.
WORDS: Final[Mapping[str, str]] = {
    "confirmed": "It was written, and the client has answered a heartbeat since.",
    "written": "It was written to the socket; the client has not answered a heartbeat since, or cannot.",
    "sender": "The client is who has sent it, and does not get it back.",
    "waiting": "It waits: the client does not take what is for it.",
    "held_back": "It is held back to leave together with others: its priority is not high.",
    "dropped": "It was dropped: it is worthless a moment later, and the client was behind.",
    "replaced": "A newer value took its place before the client took it.",
    "slow_consumer": "The client was so far behind that its connection was closed.",
    "connection_ended": "The connection ended before it could be written.",
    "not_subscribed": "The connection was not subscribed to the channel at that moment.",
    "left_before": "The connection had ended before it was published.",
    "came_later": "The connection began after it was published.",
    "not_delivered": "It never came to the process that has the connection.",
    "unknown": "What this connection was subscribed to at that moment is not remembered any more.",
}
#: From what says most about whether the user has it to what says least.
_ORDER: Final = tuple(WORDS)
_ABSENT: Final = "The user had no connection that is remembered."


class Stories:
    """Answers for this process, and asks all of them.

    :param archive: has the records of processes that have ended; ``None`` where there is none.
    """

    def __init__(self, node: Node, archive: IArchive | None = None) -> None:
        self._node = node
        self._archive = archive
        node.answer("traces", self._traces)
        node.answer("whereabouts", self._whereabouts)

    async def story(self, ident: str, user: int | None = None) -> dict[str, Any]:
        """What became of a publication, and of it for one user.

        :returns: ``id``, ``found``, ``publication``, ``workers``, ``recipients``, ``lost``; and ``user``: ``id``,
            ``outcome``, ``explanation``, ``connections``. Moments are seconds since the epoch.
        :raises ValueError: ``ident`` is no publication's id.
        """
        origin(ident)
        records: dict[str, list[Record]] = {}
        if self._archive is not None:
            records |= await self._archive.about(ident)
        # what a process remembers itself is more than what it has put down by now
        records |= {worker: found for worker, found in await self._node.ask("traces", ident) if found}
        accepted = next((record for found in records.values() for record in found if record[0] == "a"), None)
        workers = [_of_worker(worker, found) for worker, found in records.items()]
        story: dict[str, Any] = {
            "id": ident,
            "found": bool(records),
            "publication": None if accepted is None else _publication(ident, accepted),
            "workers": [each for each in workers if each["recipients"] or each["losses"]],
            "recipients": sum(each["recipients"] for each in workers),
            "lost": sum(each["lost"] for each in workers),
        }
        if user is not None:
            story["user"] = await self._of_user(user, story)
        return story

    async def _of_user(self, user: int, story: Mapping[str, Any]) -> dict[str, Any]:
        publication = story["publication"]
        if publication is None:
            found: list[dict[str, Any]] = []
        else:
            found = [each for answer in await self._node.ask("whereabouts", (user, publication)) for each in answer]
        named = any(user in worker["users"] for worker in story["workers"])
        outcomes = sorted((each["outcome"] for each in found), key=_ORDER.index)
        outcome = outcomes[0] if outcomes else "written" if named else "absent"
        return {
            "id": user,
            "outcome": outcome,
            "explanation": WORDS.get(outcome, _ABSENT),
            "connections": sorted(found, key=lambda each: _ORDER.index(each["outcome"])),
        }

    # answering

    def _traces(self, ident: str) -> tuple[str, list[Record]]:
        tracing = self._node.tracing
        return self._node.name, [] if tracing is None else tracing.about(ident)

    def _whereabouts(self, asked: Sequence[Any]) -> list[dict[str, Any]]:
        """The connections that a user has here or had, and what became of the publication at each."""
        user, publication = asked
        _, records = self._traces(publication["id"])
        moment = publication["at"]
        told = []
        for each, outbox in self._visits(user):
            if each.since > moment + NEAR or (each.until and each.until < moment - NEAR):
                continue
            outcome = self._outcome(each, outbox, records, publication)
            row = described(each) | {"worker": self._node.name, "outcome": outcome, "explanation": WORDS[outcome]}
            told.append(row)
        return told[-MAX_TOLD:]

    def _visits(self, user: int) -> Iterator[tuple[Visit, Outbox | None]]:
        for each in self._node.visits.of(user):
            yield each, None
        for connection in self._node.connections_of(user):
            yield visit(connection), connection.outbox

    def _outcome(
        self, each: Visit, outbox: Outbox | None, records: Sequence[Record], publication: Mapping[str, Any]
    ) -> str:
        moment, resource, ident = publication["at"], publication["resource"], publication["id"]
        if each.since > moment:
            return "came_later"
        if each.until and each.until < moment:
            return "left_before"
        if each.connection == publication["sender"]:
            return "sender"
        subscribed = self._node.visits.subscribed(each, resource, moment)
        if not subscribed:
            return "unknown" if subscribed is None else "not_subscribed"
        lost = next((record[4] for record in records if record[0] == "x" and record[3] == each.user), None)
        if lost is not None:
            return str(lost)
        delivered = next((record[2] for record in records if record[0] == "d"), None)
        if delivered is None:
            batches = self._node.batches
            if batches is not None and batches.holds(resource, ident):
                return "held_back"
            gathered = publication["priority"] != "high" and publication["class"] == "state"
            return "replaced" if gathered else "not_delivered"
        if outbox is not None and outbox.carries(ident):
            return "waiting"
        return "confirmed" if each.confirmed > delivered else "written"


def _publication(ident: str, accepted: Record) -> dict[str, Any]:
    _, _, moment, channel, event, delivery, priority, source, request, sender, size = accepted
    return {
        "id": ident,
        "at": moment,
        "worker": origin(ident)[0],
        "channel": channel,
        "resource": channels.parse(channel).resource,
        "event": event,
        "class": delivery,
        "priority": priority,
        "source": source,
        "request": request,
        "sender": sender,
        "bytes": size,
    }


def _of_worker(worker: str, records: Sequence[Record]) -> dict[str, Any]:
    deliveries = [record for record in records if record[0] == "d"]
    losses = [record for record in records if record[0] == "x"]
    return {
        "worker": worker,
        "at": deliveries[0][2] if deliveries else None,
        "recipients": sum(record[3] for record in deliveries),
        "users": [user for record in deliveries for user in record[4]],
        "lost": len(losses),
        "byReason": dict(Counter(record[4] for record in losses)),
        "losses": [{"at": at, "user": user, "reason": why} for _, _, at, user, why in losses[:MAX_LOSSES]],
    }
