"""The server's certificate, as an operator sees it: which, until when, and what there is to be told of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

Figures = Mapping[str, Any]


def shown(certificates: Iterable[Figures | None], refused: str = "") -> dict[str, Any] | None:
    """The certificate of several processes, which is the one that expires first; ``None`` without TLS.

    :param certificates: ``subject``, ``expires`` (seconds since the epoch) and ``fault`` of each; ``None`` of one that
        has said nothing yet.
    :param refused: why the one in the files is not used.
    """
    there = [each for each in certificates if each]
    if not there:
        return None
    first = min(there, key=lambda each: each["expires"])
    fault = refused or next((each["fault"] for each in there if each["fault"]), "")
    return {"subject": first["subject"], "expires": first["expires"], "fault": fault or None}


def alerts(certificate: Figures | None, warning: float, now: float) -> dict[str, str | None]:
    """The messages of the alerts ``certificate_expiry`` and ``certificate_refused``; ``None`` for all is well.

    :param certificate: as from :func:`shown`.
    :param warning: seconds before its end from which it is worth an alert.
    """
    if certificate is None:
        return {"certificate_expiry": None, "certificate_refused": None}
    fault = certificate["fault"]
    return {
        "certificate_expiry": _expiry(certificate, warning, now),
        "certificate_refused": f"The new certificate is not used: {fault}" if fault else None,
    }


def _expiry(certificate: Figures, warning: float, now: float) -> str | None:
    left = certificate["expires"] - now
    if left > warning:
        return None
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(certificate["expires"]))
    if left <= 0:
        return f"The certificate of {certificate['subject']} has expired ({day}): browsers refuse to connect"
    return f"The certificate of {certificate['subject']} expires in {_span(left)} ({day})"


def _span(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {name}"
    return f"{seconds:.0f} seconds"
