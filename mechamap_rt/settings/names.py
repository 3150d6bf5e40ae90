"""Which environment names are known, and which unknown ones are probably typing errors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from mechamap_rt.settings.faults import plain
from mechamap_rt.settings.model import CATALOGUE

KNOWN: frozenset[str] = frozenset(
    name for entry in CATALOGUE for name in (*entry.option.names, *filter(None, [entry.option.file_name]))
)
"""Every environment name that is read."""

FAMILIES = (
    "WS_", "DB_", "REDIS_", "JWT_", "CORS_", "LOG_", "RATE_LIMIT_", "CLUSTER_", "SSL_", "LARAVEL_", "MAX_",
    "CONNECTION_", "HEALTH_CHECK_", "MANHOLE_", "OUTBOX_", "ADMIN_", "AUTH_", "AUDIT_", "MOCK_", "METRICS_", "CHANNEL_",
    "CLIENT_EVENTS_", "TYPING_", "TRUST_", "DEMO_", "HEARTBEAT_", "PROMETHEUS_", "HELMET_", "COMPRESSION_",
)  # fmt: skip
"""Beginnings that are this server's: an unknown name with one of them is worth a warning."""

_FOREIGN = ("PM2_",)

# Names of others in our families: OpenSSL's, systemd's, and what Kubernetes and Docker say about a service
# that happens to be called "redis" or "db".
_OTHERS = re.compile(r"SSL_CERT_(FILE|DIR)|LOG_NAMESPACE|[A-Z_]+_(SERVICE_(HOST|PORT\w*)|PORT_[0-9]+_\w+)", re.ASCII)
_LONGEST = 64


def is_foreign(name: str) -> bool:
    """Whether a name belongs to the process supervisor of the old service."""
    return name.startswith(_FOREIGN)


def strangers(environment: Iterable[str], file: Iterable[str]) -> Iterator[str]:
    """Warnings about unknown names.

    The file is this server's own, so that there a near miss of any known name counts; the environment is
    shared with everything else, so that there only the families do, without what is known to be others'.
    """
    own = set(file)
    for name in sorted({*environment, *own} - KNOWN):
        if name not in own and _OTHERS.fullmatch(name):
            continue
        near = difflib.get_close_matches(name[:_LONGEST], sorted(KNOWN), n=1, cutoff=0.6)
        close = difflib.SequenceMatcher(None, name, near[0]).ratio() >= 0.8 if near else False
        if name.startswith(FAMILIES) or (name in own and close):
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"{plain(name)} is not a setting of this server{hint}"
