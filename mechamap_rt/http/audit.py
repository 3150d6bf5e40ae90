"""Acts of administration over HTTP, for the audit log.

An endpoint that changes something for people puts what it does into ``with``, and says to what as soon as it knows::

    with self._acts.act(call, "connections.disconnect") as act:
        act.caller = await self._keys.require(call, Right.ADMINISTER)
        act.target["user_id"] = ident(call)
        …

What comes of it is noted at the end: ``ok``, or ``refused`` with the code of the error that is answered, or ``failed``.
Whoever has no valid key at all is not noted, and who has a token and may do nothing here only so often, so that
strangers cannot fill the file. A line by itself: ``acts.note(call, caller, "monitoring.reset", {}, "ok")``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from twisted.internet.defer import CancelledError

from mechamap_rt.core.limits import Buckets
from mechamap_rt.http.call import Call
from mechamap_rt.http.keys import Caller, Keys
from mechamap_rt.http.replies import HTTPFault
from mechamap_rt.interfaces import IAuditLog
from mechamap_rt.system.audit import Actor, Outcome

#: Acts a minute, of all who have a valid token and no right at all, that are noted as refused.
IDLE_PER_MINUTE: Final = 60


class Act:
    """One act that is under way.

    :ivar caller: who acts; as long as it is not said, who was found out for the request.
    :ivar target: what it is done to: texts and numbers, by name.
    """

    def __init__(self) -> None:
        self.caller: Caller | None = None
        self.target: dict[str, Any] = {}


class Acts:
    """Notes acts of requests.

    :param keys: knows from where a request comes.
    """

    def __init__(self, log: IAuditLog, keys: Keys) -> None:
        self._log = log
        self._keys = keys
        self._idle = Buckets(IDLE_PER_MINUTE, time.monotonic)

    def note(
        self,
        call: Call,
        caller: Caller | None,
        action: str,
        target: Mapping[str, Any],
        outcome: Outcome = "ok",
        code: str | None = None,
    ) -> None:
        """Note what has been done, or has not; nothing of a caller who is nobody."""
        who = caller or call.caller
        if who is None or who.kind == "nobody":
            return
        if not who.right and self._idle.take(None):
            return
        actor = Actor(who.kind, who.fingerprint or who.user_id)
        address = self._keys.address(call)
        self._log.note(actor, action, target, outcome, code=code, address=address, request=call.ident)

    @contextmanager
    def act(self, call: Call, action: str) -> Iterator[Act]:
        """Note what comes of the block."""
        act = Act()
        try:
            yield act
        except HTTPFault as fault:
            outcome: Outcome = "refused" if fault.error.status < 500 else "failed"
            self.note(call, act.caller, action, act.target, outcome, fault.error.code)
            raise
        except BaseException as error:
            code = "CANCELLED" if isinstance(error, CancelledError | GeneratorExit) else "SERVER_ERROR"
            self.note(call, act.caller, action, act.target, "failed", code)
            raise
        self.note(call, act.caller, action, act.target)
