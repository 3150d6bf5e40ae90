"""``Idempotency-Key``: a publication that is asked for again, because its answer was lost, is made once.

As draft-ietf-httpapi-idempotency-key-header has it: the same key with another request is refused (422), and one that
comes while the first is under way waits for its answer, or is told to come again (409).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from hashlib import blake2b
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mechamap_rt.core.ledger import State
from mechamap_rt.http.call import Call
from mechamap_rt.http.keys import Caller
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.interfaces import ILedger

_HEADER: Final = b"idempotency-key"
_KEY: Final = re.compile(rb"[!-~]{1,255}")
#: Seconds between two looks at what is under way, and for which it is waited for.
PAUSE: Final = 0.05
PATIENCE: Final = 5.0


class Idempotency:
    """Does once what is asked for under one key by one caller.

    :param ledger: what has been done, in the whole cluster.
    """

    def __init__(self, reactor: IReactorTime, ledger: ILedger) -> None:
        self._reactor: Any = reactor
        self._ledger = ledger

    async def once(self, call: Call, caller: Caller, work: Callable[[], Coroutine[Any, Any, Reply]]) -> Reply:
        """The reply of ``work``, or of the time before with ``Idempotent-Replayed: true``. Failures are not kept.

        :raises HTTPFault: no such key (400), it was another request's (422), or that is still under way (409).
        """
        if _HEADER not in call.headers:
            return await work()
        key, digest = _name(call, caller), blake2b(call.body, digest_size=16).digest()
        replayed = await self._claim(key, digest)
        if replayed is not None:
            return Reply(replayed, headers={"Idempotent-Replayed": "true"})
        try:
            reply = await work()
        except BaseException:
            self._ledger.release(key)
            raise
        self._ledger.settle(key, digest, reply.body)
        return reply

    async def _claim(self, key: str, digest: bytes) -> bytes | None:
        """The answer of before; ``None`` when it is to be done now."""
        until = self._reactor.seconds() + PATIENCE
        while True:
            state, answer = await self._ledger.claim(key, digest)
            if state is State.NEW:
                return None
            if state is State.DONE:
                return answer
            if state is State.OTHER:
                raise HTTPFault(
                    Error.KEY_REUSED,
                    "This Idempotency-Key belongs to another request",
                    [("Idempotency-Key", "used with another body")],
                )
            if self._reactor.seconds() > until:
                raise HTTPFault(
                    Error.CONFLICT, "A request with this Idempotency-Key is under way", headers={"Retry-After": "1"}
                )
            await deferLater(self._reactor, PAUSE)


def _name(call: Call, caller: Caller) -> str:
    """The key in the ledger: of one caller and endpoint, so that nobody is answered what was meant for another."""
    values = call.values(_HEADER)
    if len(values) != 1 or _KEY.fullmatch(values[0].strip()) is None:
        raise HTTPFault(
            Error.VALIDATION,
            "The request is not valid",
            [("Idempotency-Key", "one value of 1 to 255 visible ASCII characters")],
        )
    parts = (caller.kind.encode(), b"%d" % (caller.user_id or 0), call.method, call.path, values[0].strip())
    return blake2b(b"\0".join(parts), digest_size=16).hexdigest()
