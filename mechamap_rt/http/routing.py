"""From a request to the endpoint that answers it, and from anything that goes wrong to a JSON error."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from twisted.logger import Logger

from mechamap_rt.core.identity import MAX_ID
from mechamap_rt.http.call import Call
from mechamap_rt.http.limits import RateLimits
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.traffic import Traffic

_log = Logger()

Endpoint = Callable[[Call], Coroutine[Any, Any, Reply]]

_JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_SHAPES = {"id": "[0-9]{1,20}", "channel": "[^/]{1,1024}", "publication": "[^/]{1,64}"}
#: What a path that is not the API's is counted as.
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Route:
    """One path of the API.

    :ivar pattern: the path; ``<id>``, ``<channel>`` and ``<publication>`` are variables.
    :ivar methods: the endpoint of each method; ``HEAD`` and ``OPTIONS`` are added by the router.
    :ivar exempt: is it outside the limit on requests?
    """

    pattern: str
    methods: Mapping[str, Endpoint]
    exempt: bool = False
    regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = re.split(r"<(\w+)>", self.pattern)
        text = "".join(f"(?P<{part}>{_SHAPES[part]})" if at % 2 else re.escape(part) for at, part in enumerate(parts))
        object.__setattr__(self, "regex", re.compile(text))

    def allow(self) -> str:
        methods = [*self.methods, "OPTIONS"]
        return ", ".join(sorted({*methods, "HEAD"} if "GET" in methods else methods))


class Router:
    """The whole API: exact paths by a dictionary, the others by their patterns.

    :param limits: on requests; ``None`` for none.
    :ivar draining: only questions about the server itself are answered any more.
    """

    def __init__(self, routes: Sequence[Route], traffic: Traffic, limits: RateLimits | None = None) -> None:
        self.draining = False
        self.routes = tuple(routes)
        self.traffic = traffic
        self.limits = limits
        self._exact = {route.pattern.encode(): route for route in routes if "<" not in route.pattern}
        self._patterns = [route for route in routes if "<" in route.pattern]

    async def answer(self, call: Call) -> Reply:
        """The answer to any request: nothing is raised."""
        began = time.perf_counter()
        route = self._exact.get(call.path) or self._by_pattern(call)
        limits = None if route is not None and route.exempt else self.limits
        try:
            if limits is not None:
                standing = call.standing = limits.take(call)
                if standing is not None and standing.over and not limits.dry_run:
                    wait = {"Retry-After": str(max(1, standing.seconds))}
                    raise HTTPFault(Error.RATE_LIMITED, "Too many requests", headers=wait)
            reply = await self._find(call, route)(call)
        except HTTPFault as fault:
            reply = fault.reply()
        except Exception:
            _log.failure(
                "A request failed unexpectedly: {method} {path} (request {request})",
                method=call.method.decode("latin-1"),
                path=call.path.decode("latin-1"),
                request=call.ident,
            )
            reply = HTTPFault(Error.SERVER, "Internal error").reply()
        if call.standing is not None and limits is not None:
            call.standing = limits.answered(call.standing, reply.status)
        call.route = UNKNOWN if route is None else route.pattern
        self.traffic.note(call.route, reply.status, time.perf_counter() - began)
        return reply

    def _find(self, call: Call, route: Route | None) -> Endpoint:
        if self.draining and call.method not in (b"GET", b"HEAD"):
            raise HTTPFault(Error.UNAVAILABLE, "The server is going down", headers={"Retry-After": "2"})
        if route is None:
            raise HTTPFault(Error.NOT_FOUND, "No such path")
        method = call.method.decode("latin-1")
        endpoint = route.methods.get("GET" if method == "HEAD" else method)
        if endpoint is not None:
            return endpoint
        if method == "OPTIONS":
            return _options(route.allow())
        raise HTTPFault(Error.METHOD, f"Allowed here: {route.allow()}", headers={"Allow": route.allow()})

    def _by_pattern(self, call: Call) -> Route | None:
        try:
            path = unquote_to_bytes(call.path)
            text = path.decode()
        except UnicodeDecodeError:
            return None
        for route in self._patterns:
            match = route.regex.fullmatch(text)
            if match is not None:
                call.variables = match.groupdict()
                return route
        if text != "/" and text.endswith("/"):
            return self._exact.get(path.rstrip(b"/"))
        return None


def _options(allow: str) -> Endpoint:
    async def answer(call: Call) -> Reply:
        return Reply(b"", 204, {"Allow": allow})

    return answer


def read_json(call: Call) -> bytes:
    """The body of a request that is said to be JSON (or to be nothing in particular).

    :raises HTTPFault: it is said to be something else (415).
    """
    kind = call.values(b"content-type")
    if kind and _JSON.fullmatch(kind[0].strip()) is None:
        raise HTTPFault(Error.MEDIA_TYPE, "Content-Type must be application/json")
    if call.values(b"content-encoding"):
        raise HTTPFault(Error.MEDIA_TYPE, "Content-Encoding is not understood here")
    return call.body


def ident(call: Call) -> int:
    """The database id in the path.

    :raises HTTPFault: it is out of range (400).
    """
    number = int(call.variables["id"])
    if not 1 <= number <= MAX_ID:
        raise HTTPFault(Error.VALIDATION, "The request is not valid", [("id", "a positive integer is required")])
    return number
