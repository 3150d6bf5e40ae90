"""What the page of operators is told while it is open: figures once a second, over a WebSocket.

The client's first message is ``{"key": …}``, the administrators' key, or ``{"token": …}``, an administrator's JWT; the
server answers ``{"type": "welcome", …}`` and then sends ``{"type": "figures", …}`` every second, or ``{"type":
"refused", "message": …}`` and closes. All who watch by way of one process share one question to all processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mechamap_rt.core.frame import Frame
from mechamap_rt.core.publication import DeliveryClass
from mechamap_rt.core.wheel import Deadline, Wheel
from mechamap_rt.errors import Disconnect
from mechamap_rt.http.call import Call
from mechamap_rt.http.keys import Keys, Right
from mechamap_rt.http.replies import HTTPFault
from mechamap_rt.interfaces import IReactor
from mechamap_rt.transport.handshake import Denied, Handshake, Origins
from mechamap_rt.transport.websocket import Accepted, Pipe
from mechamap_rt.wire import json
from mechamap_rt.wire.forwarded import household

_log = Logger()

PATH: Final = "/dashboard/live"
#: Pages that may be open at one process; those that have not shown a key yet, in all and of one address; and seconds
#: until one must have.
MAX_WATCHERS: Final = 20
MAX_STRANGERS: Final = 100
MAX_STRANGERS_OF_ONE: Final = 5
PATIENCE: Final = 10.0
#: Seconds between two messages, and after which who holds a token must still have the right to watch.
EVERY: Final = 1.0
AGAIN: Final = 60.0

#: Figures of the whole cluster, ready to be encoded.
Figures = Callable[[], Awaitable[dict[str, Any]]]


class LiveDoor:
    """Takes operators' pages.

    :param figures: what they are told.
    """

    def __init__(self, reactor: IReactor, keys: Keys, origins: Origins, wheel: Wheel, figures: Figures) -> None:
        self.keys = keys
        self.wheel = wheel
        self._origins = origins
        self._figures = figures
        self._watchers: dict[_Watcher, None] = {}
        self._strangers: Counter[str] = Counter()
        self._telling = LoopingCall(self._tell)
        self._telling.clock = reactor

    def accept(self, pipe: Pipe, handshake: Handshake) -> Accepted:
        if not self._origins.allows(handshake.headers):
            body = {"success": False, "error": "FORBIDDEN", "message": "Pages of this origin may not connect"}
            raise Denied(403, json.encode(body))
        address = household(handshake.address)
        if self._strangers.total() >= MAX_STRANGERS or self._strangers[address] >= MAX_STRANGERS_OF_ONE:
            body = {"success": False, "error": "RATE_LIMITED", "message": "Too many pages show no key"}
            raise Denied(429, json.encode(body), (("Retry-After", "10"),))
        self._strangers[address] += 1
        return Accepted(_Watcher(self, pipe, handshake.address), None)

    def enter(self, watcher: _Watcher) -> bool:
        """It has shown its key: is there room?"""
        self.known(watcher)
        if len(self._watchers) >= MAX_WATCHERS:
            return False
        self._watchers[watcher] = None
        if not self._telling.running:
            telling = self._telling.start(EVERY)
            telling.addErrback(lambda reason: _log.failure("Operators' pages are told nothing any more", reason))
        return True

    def known(self, watcher: _Watcher) -> None:
        """It is no stranger any more, or gone."""
        if watcher.stranger:
            watcher.stranger = False
            address = household(watcher.address)
            self._strangers[address] -= 1
            if not self._strangers[address]:
                del self._strangers[address]

    def leave(self, watcher: _Watcher) -> None:
        self.known(watcher)
        self._watchers.pop(watcher, None)
        if not self._watchers and self._telling.running:
            self._telling.stop()

    async def _tell(self) -> None:
        figures = await self._figures()
        frame = Frame.text(json.encode({"type": "figures"} | figures), DeliveryClass.STATE, "figures")
        for watcher in tuple(self._watchers):
            watcher.pipe.outbox.push(frame)


class _Watcher:
    """One page.

    :ivar stranger: it has not shown a key yet.
    """

    __slots__ = ("_credentials", "_deadline", "_door", "_gone", "address", "pipe", "stranger")

    def __init__(self, door: LiveDoor, pipe: Pipe, address: str) -> None:
        self._door = door
        self.address = address
        self.stranger = True
        self._credentials: dict[bytes, list[bytes]] = {}
        self._gone = False
        self._deadline: Deadline | None = None
        self.pipe = pipe

    # what the pipe calls

    def opened(self) -> None:
        self._deadline = self._door.wheel.after(PATIENCE, lambda: self._refuse("A key or a token is required"))

    def text(self, payload: bytes) -> None:
        if self._credentials:
            return
        try:
            said = json.decode(payload)
            key, token = said.get("key"), said.get("token")
        except (json.BadJSON, AttributeError):
            return self._refuse("The first message is an object with a key or a token")
        if isinstance(key, str) and key.isascii():
            self._credentials = {b"x-admin-key": [key.encode()]}
        elif isinstance(token, str) and token.isascii():
            self._credentials = {b"authorization": [b"Bearer " + token.encode()]}
        else:
            return self._refuse("The first message is an object with a key or a token")
        checking = Deferred.fromCoroutine(self._check(first=True))
        checking.addErrback(lambda reason: _log.failure("An operator's page failed", reason))

    def binary(self, payload: bytes) -> None:
        self.dismiss(Disconnect.UNSUPPORTED_DATA)

    def heard(self) -> None:
        """Who does not take what is sent is closed by the outbox."""

    ponged = heard

    def lost(self) -> None:
        if not self._gone:
            self._gone = True
            if self._deadline is not None:
                self._deadline.cancel()
            self._door.leave(self)

    def dismiss(self, reason: Disconnect) -> None:
        self.lost()
        self.pipe.finish(reason)

    # rights

    async def _check(self, *, first: bool) -> None:
        """Does it still have the right to watch?"""
        call = Call(b"GET", PATH.encode(), b"", self._credentials, b"", self.address)
        try:
            caller = await self._door.keys.require(call, Right.ADMINISTER)
        except HTTPFault as fault:
            return self._refuse(fault.message)
        if self._gone:
            return
        if first:
            self.pipe.send_text(json.encode({"type": "welcome", "as": caller.kind, "user": caller.user_id}))
            if not self._door.enter(self):
                return self._refuse("Too many pages of operators are open")
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._door.wheel.after(AGAIN, self._check_again)

    def _check_again(self) -> None:
        checking = Deferred.fromCoroutine(self._check(first=False))
        checking.addErrback(lambda reason: _log.failure("An operator's page failed", reason))

    def _refuse(self, message: str) -> None:
        if not self._gone:
            self.pipe.send_text(json.encode({"type": "refused", "message": message}))
            self.dismiss(Disconnect.AUTH_FAILED)
