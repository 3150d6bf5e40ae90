"""The tree of the HTTP port, put together: every endpoint of the API, and the pages that ship with the server."""

from __future__ import annotations

import re
import time
from ipaddress import ip_address

from twisted.web.resource import IResource

from mechamap_rt import demo
from mechamap_rt.announcement import features
from mechamap_rt.bus.census import Census
from mechamap_rt.bus.node import Node
from mechamap_rt.community import Community
from mechamap_rt.http.administration import Administration
from mechamap_rt.http.audit import Acts
from mechamap_rt.http.call import Call
from mechamap_rt.http.description import description_route
from mechamap_rt.http.idempotency import Idempotency
from mechamap_rt.http.information import Information
from mechamap_rt.http.keys import Keys
from mechamap_rt.http.limits import RateLimits
from mechamap_rt.http.monitoring import Monitoring
from mechamap_rt.http.pages import pages
from mechamap_rt.http.presence import Attendance
from mechamap_rt.http.publishing import Publishing
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.revoking import Revoking
from mechamap_rt.http.routing import Route, Router
from mechamap_rt.http.steering import Steering
from mechamap_rt.http.tracing import Traces
from mechamap_rt.interfaces import IReactor
from mechamap_rt.place import Place
from mechamap_rt.rights import Rights
from mechamap_rt.settings import Settings
from mechamap_rt.watching import Watching


class Web:
    """What one process answers over HTTP, besides the sessions of its clients.

    :ivar keys: who may do what.
    :ivar limits: on requests.
    :ivar router: has every endpoint.
    :ivar pages: what is served as it is, by path.
    """

    def __init__(
        self,
        reactor: IReactor,
        settings: Settings,
        place: Place,
        node: Node,
        census: Census,
        rights: Rights,
        community: Community,
        watching: Watching,
    ) -> None:
        self._reactor, self._settings, self._place = reactor, settings, place
        self._node, self._census, self._rights = node, census, rights
        self._community, self._watching = community, watching
        self.keys = self._make_keys()
        self._acts = Acts(place.audit, self.keys)
        self.monitoring = Monitoring(
            node,
            self.keys,
            self._acts,
            time.time,
            watching.measure,
            watching.traffic,
            features(settings),
            enabled=settings.monitoring.metrics_enabled,
            prometheus=settings.monitoring.prometheus_metrics,
            facts=lambda: place.helm.facts,
        )
        self.information = Information(
            node,
            census,
            self.keys,
            time.time,
            features(settings),
            settings.server.node_env,
            rights.database.status,
            rights.figures,
            watching.canary,
            lambda: watching.sample["lag"],
        )
        self.pages: dict[str, IResource] = {}
        routes = self._routes()
        routes.append(description_route(routes, settings.ws.max_http_buffer_size))
        self.limits = RateLimits(place.rates, settings.rate_limit, self.keys.account)
        self.router = Router(routes, watching.traffic, self.limits)

    def _make_keys(self) -> Keys:
        settings = self._settings
        trust = settings.server.trust_proxy
        return Keys(
            api_keys=(settings.laravel.api_key, *settings.laravel.previous_api_keys),
            admin_keys=(settings.admin.key, *settings.admin.previous_keys),
            authenticator=self._rights.authenticator,
            allow_from=settings.laravel.broadcast_allow_from,
            hops=trust.hops,
            networks=trust.networks,
            rates=self._place.rates,
            failures=settings.rate_limit.auth_failures,
        )

    def _routes(self) -> list[Route]:
        keys, acts, community = self.keys, self._acts, self._community
        idempotency = Idempotency(self._reactor, self._place.ledger)
        bundle = pages("socket.io")
        self.pages |= {f"/socket.io/{name}": page for name, page in bundle.items()}
        self._add_pages("docs")
        if self._settings.monitoring.metrics_enabled:
            self._add_pages("dashboard")
        routes = [
            *Publishing(self._node, keys, time.time, idempotency).routes(),
            *Attendance(community.presence, keys, time.time).routes(),
            *Administration(self._census, keys, acts, time.time).routes(),
            *self.monitoring.routes(),
            *Steering(self._reactor, self._place.helm, keys, acts, time.time).routes(),
            *Traces(self._watching.stories, keys, time.time).routes(),
            *Revoking(community.revocation, self._rights.authenticator, keys, acts, time.time).routes(),
            *self.information.routes(),
        ]
        if self._settings.demo:
            self._add_pages("console")
            routes.append(_console_route(self._settings, bool(bundle)))
        return routes

    def _add_pages(self, folder: str) -> None:
        """The pages of a folder, whose own address is its index."""
        found = pages(folder)
        self.pages |= {f"/{folder}/{name}": page for name, page in found.items()}
        self.pages |= {f"/{folder}": found["index.html"], f"/{folder}/": found["index.html"]}


def _by_address(host: str, domain: str) -> bool:
    """Is the server called by an address, or a name that is its own?

    A page of a stranger's name that is made to mean this host (DNS rebinding) is of one origin with it.
    """
    name = re.sub(r":[0-9]*$", "", host).strip("[]").lower()
    try:
        ip_address(name)
    except ValueError:
        return name in ("localhost", domain.lower() or "localhost")
    return True


def _console_route(settings: Settings, socketio: bool) -> Route:
    async def answer(call: Call) -> Reply:
        if not _by_address(call.header(b"host") or "", settings.server.domain):
            raise HTTPFault(Error.FORBIDDEN, "Open the console by this host's address, not by a name")
        return Reply.of(demo.console_config(settings, time.time(), socketio))

    return Route("/console/config.json", {"GET": answer})
