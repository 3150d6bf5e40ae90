"""Which limit of the server, or of this host, a load ran into, and what can be done about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mechamap_rt.bench.loadtest.refusals import HANDSHAKE
from mechamap_rt.errors import Disconnect

_THROTTLED: Final = Disconnect.THROTTLED.reason
_TEST_ONLY: Final = "on a test server only"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to connect.

    :ivar reason: why it was refused; "" if it was not.
    :ivar held: connections of this load that were open, or being opened, when it began.
    :ivar recent: attempts of its user within a minute, itself included.
    """

    reason: str
    held: int
    recent: int


#: By the beginning of a reason: which limit it is, and what to do.
_SAYINGS: Final[tuple[tuple[str, str], ...]] = (
    (
        Disconnect.USER_LIMIT.reason,
        (
            "MAX_CONNECTIONS_PER_USER (default 5) is reached: spread the load over more users (--users with "
            f"--jwt-secret-file, or more tokens in --token-file), or raise it {_TEST_ONLY}"
        ),
    ),
    (
        Disconnect.GLOBAL_LIMIT.reason,
        "MAX_CONNECTIONS is reached: the server holds as many as it may. Raise it if its memory allows",
    ),
    (
        f"HTTP 429{HANDSHAKE}",
        (
            "MAX_CONNECTIONS_PER_IP (default 100 connections of one address) is reached, and so many more have come "
            f"that they are not even told why. Raise it, or set it to 0, {_TEST_ONLY}; behind a proxy set TRUST_PROXY"
        ),
    ),
    (
        "HTTP 429",
        (
            "RATE_LIMIT_MAX_REQUESTS (default 300 a minute, of one key or address) is reached: raise it, or set it to "
            f"0, {_TEST_ONLY}, or ask less often"
        ),
    ),
    ("HTTP 503", "HTTP 503: the server is stopping, or MAX_CONNECTIONS is reached, or what it asks is away"),
    ("HTTP 401", "HTTP 401: the key is not the server's LARAVEL_API_KEY (--key-file)"),
    ("HTTP 403", "HTTP 403: the key has no right to do this, or a proxy refuses"),
    ("HTTP 404", "HTTP 404: nothing is there; look at the path of the URL"),
    ("HTTP 413", "HTTP 413: the publication is larger than WS_MAX_HTTP_BUFFER_SIZE: a smaller --size"),
    ("HTTP 502", "HTTP 502: the proxy found no server behind it; look at its log"),
    (
        "Authentication failed",
        (
            "the server refuses the tokens: --jwt-secret-file must have its JWT_SECRET, and where it has the site's "
            "database, the users must exist there and be active (--first-user says which ids are signed for)"
        ),
    ),
    (
        "Unauthorized",
        "the users may not subscribe to the channel: take one that everybody may have, such as public.load",
    ),
    (
        Disconnect.SLOW_CONSUMER.reason,
        "OUTBOX_HARD_LIMIT was reached: clients here read more slowly than they are sent to; fewer, or a lower --rate",
    ),
    ("no descriptors", "this host's limit on descriptors is reached: ulimit -n, before the command"),
    (
        "no local ports",
        (
            "this host has no local ports left towards one address (net.ipv4.ip_local_port_range): about 28,000 "
            "connections are the most; what was closed is free again after a minute"
        ),
    ),
    (
        "connection refused",
        "nobody listens there any more, or the kernel's queue is full: is the server still running?",
    ),
    ("not ready in time", "the server was too slow: a lower --rate, more workers, or a longer --timeout"),
    (
        "no answer in time",
        "the server was too slow: a lower --rate or --concurrency, more workers, or a longer --timeout",
    ),
    ("closed with 1012", "the server, or a worker of it, was restarted meanwhile"),
    ("TLS", "the certificate is not believed: --cacert names the authority, --insecure believes any"),
)


def sayings(reasons: Iterable[str]) -> list[str]:
    """What is known about these reasons, each once: the first that fits."""
    found: dict[str, None] = {}
    for reason in reasons:
        for begins, saying in _SAYINGS:
            if reason.startswith(begins) or reason.endswith(begins):
                found[saying] = None
                break
    return list(found)


def throttling(attempts: list[Attempt]) -> list[str]:
    """Which of the two limits ``connection_throttled`` was: the server says only that it was one of them.

    It was not the user's attempts when others passed at as many of them. It was not the address when somebody passed,
    if only to be told of another limit, beside as many connections.
    """
    refused = [each for each in attempts if each.reason.endswith(_THROTTLED)]
    if not refused:
        return []
    passed = [each for each in attempts if each.reason in ("", Disconnect.USER_LIMIT.reason)]
    recent, held = min(each.recent for each in refused), min(each.held for each in refused)
    by_user = recent > 1 and all(each.recent < recent for each in passed)
    by_address = not by_user or all(each.held < held for each in passed)
    of_user = (
        "CONNECTION_ATTEMPTS_PER_MINUTE (default 30) is reached: a user was refused at attempt "
        f"{recent} within a minute. More users (--users), a lower --rate, or raise it {_TEST_ONLY}"
    )
    of_address = (
        f"MAX_CONNECTIONS_PER_IP (default 100) is reached: refused with {held} connections of this address. "
        f"Raise it, or set it to 0, {_TEST_ONLY}; behind a proxy set TRUST_PROXY, or all users have one address"
    )
    return [*([of_address] if by_address else []), *([of_user] if by_user else [])]
