"""How many HTTP requests a caller may make (``RATE_LIMIT_…``), counted over all processes of the host.

A window begins with a caller's first request. Who has a valid key is counted by the key, everybody else by address.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from mechamap_rt.http.call import Call
from mechamap_rt.settings.serving import RateLimit
from mechamap_rt.system.rates import RateTable

_HEADERS: Final = (
    b"X-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\nRateLimit-Remaining: %d\r\nRateLimit-Reset: %d\r\n"
)


class Standing(NamedTuple):
    """Where a caller stands after a request.

    :ivar account: who is counted.
    :ivar remaining: requests that are left in the window.
    :ivar seconds: until the window ends.
    :ivar over: is this request one too many?
    """

    account: str
    remaining: int
    seconds: int
    over: bool


class RateLimits:
    """Counts requests, and says which are too many.

    :param table: shared by the processes of the host.
    :param account: who makes a request: a key's name, or an address.
    :param clock: seconds since the epoch.
    :ivar refused: requests that were too many; with ``RATE_LIMIT_DRY_RUN`` they were answered all the same.
    """

    def __init__(
        self,
        table: RateTable,
        settings: RateLimit,
        account: Callable[[Call], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._account = account
        self._clock = clock
        self._window = settings.window
        self._skip = settings.skip_successful_requests
        self.most = settings.max_requests
        self.dry_run = settings.dry_run
        self.refused = 0
        self._policy = b"X-RateLimit-Limit: %d\r\nRateLimit-Policy: %d;w=%d\r\n" % (
            self.most,
            self.most,
            math.ceil(self._window),
        )

    def take(self, call: Call) -> Standing | None:
        """Count a request; ``None`` when there is no limit."""
        if not self.most:
            return None
        account = "http " + self._account(call)
        count, seconds = self._table.take(account, self._window)
        over = count > self.most
        if over:
            self.refused += 1
            # who goes on asking is not counted on: a number that grows for ever helps nobody
            self._table.take(account, self._window, -1)
        return Standing(account, max(0, self.most - count), math.ceil(seconds), over)

    def answered(self, standing: Standing, status: int) -> Standing:
        """The request has been answered. Where only failures count, a success is given back."""
        if not self._skip or status >= 400 or standing.over:
            return standing
        self._table.take(standing.account, self._window, -1)
        return standing._replace(remaining=min(self.most, standing.remaining + 1))

    def headers(self, standing: Standing) -> bytes:
        """Lines of the answer's head: the site's own names, and those of draft-ietf-httpapi-ratelimit-headers.

        ``X-RateLimit-Reset`` is a second of the epoch, ``RateLimit-Reset`` is how many are left until then.
        """
        left, seconds = standing.remaining, standing.seconds
        until = math.ceil(self._clock()) + seconds
        return self._policy + _HEADERS % (left, until, left, seconds)
