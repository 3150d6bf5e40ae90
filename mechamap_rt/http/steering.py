"""The endpoints by which administrators steer the processes of the host that answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as NotYet
from twisted.logger import Logger

from mechamap_rt.core.deferreds import within
from mechamap_rt.errors import OperationFault
from mechamap_rt.http.audit import Acts
from mechamap_rt.http.bodies import Fields
from mechamap_rt.http.call import Call
from mechamap_rt.http.keys import Keys, Right
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.routing import Route, read_json
from mechamap_rt.interfaces import IHelm, IReactor
from mechamap_rt.wire import json

_log = Logger()

#: Seconds that an answer waits for what was asked for; what takes longer goes on.
PATIENCE: Final = 2.0
#: Facts that have an endpoint of their own.
_ELSEWHERE: Final = ("alerts", "history")
#: Workers that may be asked for, and the greatest number that one can have.
MOST: Final = 10_000


class Steering:
    """Hands on what administrators ask to the process that looks after this one.

    :param clock: seconds since the epoch.
    """

    def __init__(self, reactor: IReactor, helm: IHelm, keys: Keys, acts: Acts, clock: Callable[[], float]) -> None:
        self._reactor = reactor
        self._helm = helm
        self._keys = keys
        self._acts = acts
        self._clock = clock

    def routes(self) -> list[Route]:
        return [
            Route("/api/cluster", {"GET": self.state}),
            Route("/api/cluster/errors", {"GET": self.errors}),
            Route("/api/cluster/reload", {"POST": self.reload}),
            Route("/api/cluster/restart", {"POST": self.restart}),
            Route("/api/cluster/scale", {"POST": self.scale}),
        ]

    async def state(self, call: Call) -> Reply:
        """The host's processes, as who looks after them sees them."""
        await self._keys.require(call, Right.ADMINISTER)
        shown = {name: fact for name, fact in self._helm.facts.items() if name not in _ELSEWHERE}
        return self._answer({"cluster": shown})

    async def errors(self, call: Call) -> Reply:
        """The last errors in the log of this host."""
        await self._keys.require(call, Right.ADMINISTER)
        return self._answer(await self._helm.steer("errors", {}))

    async def reload(self, call: Call) -> Reply:
        """New workers, with new code and settings, in the place of the old ones."""
        return await self._act(call, "cluster.reload", "reload", dict)

    async def restart(self, call: Call) -> Reply:
        """``{worker}``: another in the place of this one."""
        return await self._act(call, "cluster.restart", "restart", lambda: {"worker": _number(call, "worker")})

    async def scale(self, call: Call) -> Reply:
        """``{workers}``: so many from now on."""
        return await self._act(call, "cluster.scale", "scale", lambda: {"to": str(_number(call, "workers"))})

    async def _act(self, call: Call, action: str, command: str, asked: Callable[[], Mapping[str, Any]]) -> Reply:
        with self._acts.act(call, action) as act:
            act.caller = await self._keys.require(call, Right.ADMINISTER)
            arguments = asked()
            act.target |= arguments
            doing = self._helm.steer(command, arguments)
            try:
                result = await within(self._reactor, PATIENCE, _noted(command, doing))
            except TimeoutError:
                return self._answer({"state": "started", "result": None}, 202)
            except OperationFault as fault:
                raise _refused(fault) from None
            return self._answer({"state": "done", "result": result})

    def _answer(self, members: Mapping[str, Any], status: int = 200) -> Reply:
        return Reply.of({"success": True, **members, "timestamp": json.timestamp(self._clock())}, status)


def _noted(command: str, doing: Deferred[dict[str, Any]]) -> Deferred[dict[str, Any]]:
    """What fails after the answer is in the log."""

    def failed(reason: Any) -> Any:
        if reason.check(OperationFault, NotYet) is not None:
            _log.warn("{command}: {reason}", command=command, reason=reason.getErrorMessage())
        return reason

    return doing.addErrback(failed)


def _refused(fault: OperationFault) -> HTTPFault:
    if fault.field is not None:
        field = "workers" if fault.field == "to" else fault.field
        return HTTPFault(Error.VALIDATION, "The request is not valid", [(field, str(fault))])
    return HTTPFault(Error.CONFLICT, str(fault))


def _number(call: Call, name: str) -> int:
    fields = Fields(read_json(call))
    value = fields.value(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
        fields.fault(name, f"a number from 1 to {MOST} is required")
    fields.check()
    assert isinstance(value, int)
    return value
