"""From a request to the endpoint that answers it, and from anything that goes wrong to a JSON error."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mechamap_rt.core.identity import MAX_ID
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.request import RealtimeRequest

_log = Logger()

Endpoint = Callable[[RealtimeRequest], Awaitable[Reply]]

_JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_SHAPES = {"id": "[0-9]{1,20}", "channel": "[^/]{1,1024}"}


@dataclass(frozen=True, slots=True)
class Route:
    """One path of the API.

    :ivar pattern: the path; ``<id>`` and ``<channel>`` are variables.
    :ivar methods: the endpoint of each method; ``HEAD`` and ``OPTIONS`` are added by the router.
    """

    pattern: str
    methods: Mapping[str, Endpoint]
    regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = re.split(r"<(\w+)>", self.pattern)
        text = "".join(f"(?P<{part}>{_SHAPES[part]})" if at % 2 else re.escape(part) for at, part in enumerate(parts))
        object.__setattr__(self, "regex", re.compile(text))

    def allow(self) -> str:
        methods = [*self.methods, "OPTIONS"]
        return ", ".join(sorted({*methods, "HEAD"} if "GET" in methods else methods))


class Router(Resource):
    """The whole API as one leaf of the tree: exact paths by a dictionary, the others by their patterns."""

    isLeaf = True

    def __init__(self, routes: Sequence[Route]) -> None:
        super().__init__()
        #: Only questions about the server itself are answered any more.
        self.draining = False
        self._exact = {route.pattern.encode(): route for route in routes if "<" not in route.pattern}
        self._patterns = [route for route in routes if "<" in route.pattern]

    def render(self, request: RealtimeRequest) -> Any:
        running = Deferred.fromCoroutine(self._answer(request))
        running.addCallbacks(request.answer, _unanswered, errbackArgs=(request,))
        return NOT_DONE_YET

    async def _answer(self, request: RealtimeRequest) -> Reply:
        try:
            return await self._find(request)(request)
        except HTTPFault as fault:
            return fault.reply()

    def _find(self, request: RealtimeRequest) -> Endpoint:
        if self.draining and request.method not in (b"GET", b"HEAD"):
            raise HTTPFault(Error.UNAVAILABLE, "The server is going down", headers={"Retry-After": "2"})
        route = self._exact.get(request.path) or self._by_pattern(request)
        if route is None:
            raise HTTPFault(Error.NOT_FOUND, "No such path")
        method = request.method.decode("latin-1")
        endpoint = route.methods.get("GET" if method == "HEAD" else method)
        if endpoint is not None:
            return endpoint
        if method == "OPTIONS":
            return _options(route.allow())
        raise HTTPFault(Error.METHOD, f"Allowed here: {route.allow()}", headers={"Allow": route.allow()})

    def _by_pattern(self, request: RealtimeRequest) -> Route | None:
        try:
            path = unquote_to_bytes(request.path)
            text = path.decode()
        except UnicodeDecodeError:
            return None
        for route in self._patterns:
            match = route.regex.fullmatch(text)
            if match is not None:
                request.variables = match.groupdict()
                return route
        if text != "/" and text.endswith("/"):
            return self._exact.get(path.rstrip(b"/"))
        return None


def _options(allow: str) -> Endpoint:
    async def answer(request: RealtimeRequest) -> Reply:
        return Reply(b"", 204, {"Allow": allow})

    return answer


def _unanswered(reason: Failure, request: RealtimeRequest) -> None:
    request.processingFailed(reason)


def read_json(request: RealtimeRequest) -> bytes:
    """The body of a request that is said to be JSON (or to be nothing in particular).

    :raises HTTPFault: it is said to be something else (415).
    """
    kind = request.requestHeaders.getRawHeaders(b"Content-Type")
    if kind and _JSON.fullmatch(kind[0].strip()) is None:
        raise HTTPFault(Error.MEDIA_TYPE, "Content-Type must be application/json")
    return b"" if request.content is None else bytes(request.content.read())


def ident(request: RealtimeRequest) -> int:
    """The database id in the path.

    :raises HTTPFault: it is out of range (400).
    """
    number = int(request.variables["id"])
    if not 1 <= number <= MAX_ID:
        raise HTTPFault(Error.VALIDATION, "The request is not valid", [("id", "a positive integer is required")])
    return number
