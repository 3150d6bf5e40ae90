"""The site's tree: pages, WebSocket paths reached over HTTP, and the API for everything else."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Site

from mechamap_rt.core.deferreds import run
from mechamap_rt.http.answering import Answers
from mechamap_rt.http.express import Express, ForwardedPoll
from mechamap_rt.http.plain import PlainLane
from mechamap_rt.http.protection import Protection
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.request import RealtimeChannel, RealtimeRequest
from mechamap_rt.http.routing import Router
from mechamap_rt.transport.engineio import EngineDoor
from mechamap_rt.transport.gate import Gate
from mechamap_rt.transport.port import hand_over, may_upgrade

#: Seconds that an idle HTTP connection is kept.
IDLE_TIMEOUT = 65


class Tree(Resource):
    """Everything that HTTP reaches.

    :param pages: by path.
    :param polling: serves ``/socket.io/``.
    """

    def __init__(self, pages: Mapping[str, IResource], router: Router, gate: Gate, polling: IResource) -> None:
        super().__init__()
        self.router = router
        self._api = ApiPath(router)
        #: What is not the API's.
        self.leaves: dict[bytes, IResource] = {path.encode(): page for path, page in pages.items()}
        self.leaves |= {b"/socket.io/": polling, b"/socket.io": polling, b"/ws": WebSocketPath(gate)}

    def getChildWithDefault(self, path: bytes, request: RealtimeRequest) -> IResource:
        leaf: IResource = self.leaves.get(request.path, self._api)
        return leaf


class ApiPath(Resource):
    """The API, for requests that Twisted Web has parsed."""

    isLeaf = True

    def __init__(self, router: Router) -> None:
        super().__init__()
        self._router = router

    def render(self, request: RealtimeRequest) -> Any:
        call = request.call()
        run(self._router.answer(call), partial(request.answer_call, call))
        return NOT_DONE_YET


_UPGRADE_REQUIRED = Reply(
    HTTPFault(Error.VALIDATION, "This path speaks WebSocket").reply().body,
    426,
    {"Upgrade": "websocket", "Connection": "Upgrade"},
)


class WebSocketPath(Resource):
    """The native protocol's path, asked for on a connection that has spoken HTTP before (a proxy's, say)."""

    isLeaf = True

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def render(self, request: RealtimeRequest) -> Any:
        if may_upgrade(request):
            hand_over(request, self._gate)
        else:
            request.answer(_UPGRADE_REQUIRED, request.protection.data)
        return NOT_DONE_YET


class RealtimeSite(Site):
    """The factory of HTTP connections. Requests are counted by the metrics, not written to the log one by one."""

    protocol: Any = RealtimeChannel
    express: Express
    plain: PlainLane
    protection: Protection
    #: Every answer is the last of its connection.
    closing = False
    displayTracebacks = False
    noisy = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: Every HTTP connection.
        self.channels: dict[RealtimeChannel, None] = {}

    def hurry_forwarded(self) -> None:
        """Have the polls answered that wait here for sessions of other processes."""
        for channel in tuple(self.channels):
            if isinstance(channel._polling, ForwardedPoll):
                channel.hurry()

    def close_idle(self) -> int:
        """Close the connections that have no request; how many have one?"""
        for channel in [channel for channel in self.channels if channel.idle]:
            channel.transport.loseConnection()
        return len(self.channels)

    def shed_idle(self, count: int, spare: int = 0) -> int:
        """Cut connections that have no request, the oldest first, but leave ``spare`` of them; how many were cut?"""
        idle = [channel for channel in self.channels if channel.idle]
        oldest = idle[: min(count, max(len(idle) - spare, 0))]
        for channel in oldest:
            channel.transport.abortConnection()
        return len(oldest)

    def log(self, request: Request) -> None:
        """No access log."""


def make_site(
    reactor: IReactorTime, tree: Tree, door: EngineDoor, max_body: int, compress: bool, protection: Protection
) -> RealtimeSite:
    """The factory of HTTP connections.

    :param max_body: bytes of a request's body.
    :param compress: gzip longer answers for clients that accept it.
    """
    answers = Answers(protection.data, compress, tree.router.limits)
    settings = {
        "max_body": max_body,
        "compress": compress,
        "origins": door.origins,
        "protection": protection,
        "answers": answers,
    }
    request = type("RealtimeRequest", (RealtimeRequest,), settings)
    site = RealtimeSite(
        tree, requestFactory=request, parsePOSTFormSubmission=False, timeout=IDLE_TIMEOUT, reactor=reactor
    )
    site.express = Express(door, compress, protection.poll)
    site.plain = PlainLane(tree.router, answers, tree.leaves, max_body, lambda: site.closing)
    site.protection = protection
    return site
