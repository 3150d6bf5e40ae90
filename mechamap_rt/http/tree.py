"""The site's tree: pages, WebSocket paths reached over HTTP, and the API for everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Site

from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.request import RealtimeChannel, RealtimeRequest
from mechamap_rt.http.routing import Router
from mechamap_rt.transport.port import hand_over, is_upgrade
from mechamap_rt.transport.websocket import Gate
from mechamap_rt.wire import engineio

#: Seconds that an idle HTTP connection is kept.
IDLE_TIMEOUT = 65


class Tree(Resource):
    """Everything that HTTP reaches.

    :param pages: by path.
    :param gate: whose routes are the WebSocket paths.
    """

    def __init__(self, pages: Mapping[str, IResource], router: Router, gate: Gate) -> None:
        super().__init__()
        self._router = router
        self._leaves: dict[bytes, IResource] = {path.encode(): page for path, page in pages.items()}
        for path in gate.routes:
            refusal = Reply(engineio.UNKNOWN_TRANSPORT.body(), 400) if path == "/socket.io/" else _UPGRADE_REQUIRED
            self._leaves[path.encode()] = WebSocketPath(gate, refusal)

    def getChildWithDefault(self, path: bytes, request: RealtimeRequest) -> IResource:
        leaf: IResource = self._leaves.get(request.path, self._router)
        return leaf


_UPGRADE_REQUIRED = Reply(
    HTTPFault(Error.VALIDATION, "This path speaks WebSocket").reply().body,
    426,
    {"Upgrade": "websocket", "Connection": "Upgrade"},
)


class WebSocketPath(Resource):
    """A WebSocket path, asked for on a connection that has spoken HTTP before (a proxy's, say)."""

    isLeaf = True

    def __init__(self, gate: Gate, refusal: Reply) -> None:
        super().__init__()
        self._gate = gate
        self._refusal = refusal

    def render(self, request: RealtimeRequest) -> Any:
        upgrade = request.requestHeaders.getRawHeaders(b"Upgrade", [b""])[0]
        if request.method == b"GET" and is_upgrade(b"\r\nupgrade:" + upgrade + b"\r\n"):
            hand_over(request, self._gate)
        else:
            request.answer(self._refusal)
        return NOT_DONE_YET


class RealtimeSite(Site):
    """The factory of HTTP connections. Requests are counted by the metrics, not written to the log one by one."""

    protocol: Any = RealtimeChannel
    displayTracebacks = False
    noisy = False

    def log(self, request: Request) -> None:
        """No access log."""


def make_site(reactor: IReactorTime, tree: Tree, max_body: int) -> Site:
    """The factory of HTTP connections.

    :param max_body: bytes of a request's body.
    """
    request = type("RealtimeRequest", (RealtimeRequest,), {"max_body": max_body})
    return RealtimeSite(
        tree, requestFactory=request, parsePOSTFormSubmission=False, timeout=IDLE_TIMEOUT, reactor=reactor
    )
