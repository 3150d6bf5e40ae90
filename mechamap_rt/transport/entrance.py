"""What the handshakes of all protocols have in common: who may come in, and with which token."""

from __future__ import annotations

from typing import NamedTuple

from mechamap_rt.auth.jwt import bare
from mechamap_rt.core.limits import Admission, Entry
from mechamap_rt.errors import Code, Disconnect
from mechamap_rt.transport.websocket import Denied, Handshake
from mechamap_rt.wire import json


class Credentials(NamedTuple):
    """The tokens that came with the handshake, in the order in which they are looked at."""

    header: str | None
    query: str | None

    def first(self) -> str | None:
        return self.header or self.query


def credentials(handshake: Handshake) -> Credentials:
    header = handshake.headers.get("authorization", "")
    token = bare(header) if header[:7].lower() == "bearer " else None
    return Credentials(token, bare(handshake.query.get("token")))


def enter(admission: Admission, handshake: Handshake) -> Disconnect | None:
    """Count a transport in; the session must count it out.

    :returns: ``None``, or the limit that is reached and that the client must be told of.
    :raises Denied: so many are over the limit that telling them is too dear.
    """
    entry, reason = admission.enter(handshake.address)
    if entry is Entry.REFUSE and reason is not None:
        body = {"success": False, "error": Code.RATE_LIMITED, "message": reason.message}
        status = 503 if reason is Disconnect.GLOBAL_LIMIT else 429
        raise Denied(status, json.encode(body), (("Retry-After", "30"),))
    return reason
