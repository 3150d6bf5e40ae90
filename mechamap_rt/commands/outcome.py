"""What comes of a command, before a protocol gives it its form."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from mechamap_rt.errors import ClientFault, Code
from mechamap_rt.wire import json

#: Seconds after which a client may ask again for what was not available.
RETRY_AFTER: Final = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What comes of one command.

    :ivar event: the answer's name; ``None`` where the contract has no answer event.
    :ivar payload: the answer's data.
    :ivar fault: why it failed; the payload is then that of the error event.
    """

    event: str | None
    payload: dict[str, Any] = field(default_factory=dict)
    fault: ClientFault | None = None

    def acknowledgement(self) -> dict[str, Any]:
        """What an acknowledgement callback gets."""
        if self.fault is None:
            return {"status": "success"} | self.payload
        return {"code": self.fault.code} | self.payload | {"status": "error", "error": self.fault.message}


def failure(fault: ClientFault, event: str, context: dict[str, Any], now: float) -> Outcome:
    """The outcome of a command that failed.

    :param event: ``error``, or the command's own error event, whose payload is then ``context`` and the error.
    """
    if event != "error":
        # the contract knows one code for a refused re-authentication
        code = Code.AUTH_FAILED if event == "authentication_error" else fault.code
        extra = {"details": fault.details} if fault.details else {}
        return Outcome(event, context | {"error": fault.message, "code": code} | extra, fault)
    details = dict(fault.details)
    if fault.field is not None:
        details["field"] = fault.field
    payload = {"error": fault.message, "code": fault.code, "details": details, "timestamp": json.timestamp(now)}
    return Outcome("error", payload, fault)


def unavailable(prefix: str = "") -> ClientFault:
    """What is needed to answer cannot be asked now; the same again, later, may succeed."""
    return ClientFault(Code.SERVER_ERROR, f"{prefix}Temporarily unavailable", details={"retryAfter": RETRY_AFTER})


def rate_limited(what: str, wait: float) -> ClientFault:
    """There are too many of something; the same again may succeed ``wait`` seconds later."""
    # rounded up: never too soon, and never 0
    return ClientFault(Code.RATE_LIMITED, f"Too many {what}", details={"retryAfter": math.ceil(wait * 1000) / 1000})
