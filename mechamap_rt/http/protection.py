"""Headers that tell browsers to be careful with an answer (``HELMET_ENABLED``)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

#: Of pages and their files: nothing from elsewhere, no inline script or style, in no frame.
PAGE_POLICY: Final = (
    "default-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
#: Of what is no page: JSON opened in a browser may load nothing.
DATA_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
#: Seconds for which browsers shall come by TLS only (RFC 6797).
HSTS_AGE: Final = 365 * 86400


class Protection:
    """The headers, by the kind of answer.

    :param enabled: False leaves them out, but for those that pages always have.
    :param tls: does this port speak TLS?
    :ivar data: of answers that are no page.
    :ivar page: of pages and their files.
    :ivar poll: of long polling, whose answers browsers do not show.
    """

    def __init__(self, enabled: bool = True, tls: bool = False) -> None:
        poll = {"X-Content-Type-Options": "nosniff"} if enabled else {}
        if enabled and tls:
            poll["Strict-Transport-Security"] = f"max-age={HSTS_AGE}; includeSubDomains"
        careful = poll | {
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
        }
        self.poll: Mapping[str, str] = MappingProxyType(poll)
        self.page: Mapping[str, str] = MappingProxyType(careful | {"Content-Security-Policy": PAGE_POLICY})
        data = careful | {"Content-Security-Policy": DATA_POLICY} if enabled else {}
        self.data: Mapping[str, str] = MappingProxyType(data)
