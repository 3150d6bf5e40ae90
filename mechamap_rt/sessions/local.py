"""The session store and the ledger of a single process."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from mechamap_rt.core.ledger import Claim, Ledger
from mechamap_rt.core.limits import Tally
from mechamap_rt.errors import Disconnect
from mechamap_rt.interfaces import ILedger, ISessionStore

_OWNER = ""


@implementer(ISessionStore)
class LocalStore:
    """Asks a tally of its own, and answers at once."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def enter(self, address: str) -> Deferred[Disconnect | None]:
        return succeed(self.tally.enter(_OWNER, address))

    def leave(self, address: str) -> None:
        self.tally.leave(_OWNER, address)

    def admit(self, user_id: int) -> Deferred[Disconnect | None]:
        return succeed(self.tally.admit(_OWNER, user_id))

    def dismiss(self, user_id: int) -> None:
        self.tally.dismiss(_OWNER, user_id)

    def take(self, limit: str, key: int | str) -> Deferred[float]:
        return succeed(self.tally.take(limit, key))


@implementer(ILedger)
class LocalLedger:
    """Asks a ledger of its own, and answers at once."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def claim(self, key: str, digest: bytes) -> Deferred[Claim]:
        return succeed(self.ledger.claim(_OWNER, key, digest))

    def settle(self, key: str, digest: bytes, answer: bytes) -> None:
        self.ledger.settle(key, digest, answer)

    def release(self, key: str) -> None:
        self.ledger.release(key)
