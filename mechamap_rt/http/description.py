"""The endpoint that describes all of them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from mechamap_rt.http.call import Call
from mechamap_rt.http.replies import Reply
from mechamap_rt.http.routing import Route


def description_route(routes: Iterable[Route], max_body: int) -> Route:
    """``/api/openapi.json``.

    :param routes: of the router; looked at when somebody asks for the first time.
    :param max_body: bytes of a request's body.
    """

    @cache
    def encoded() -> Reply:
        # asked for by few, and not small
        from mechamap_rt.http.openapi import describe

        return Reply.of(describe(routes, max_body))

    async def answer(call: Call) -> Reply:
        return encoded()

    return Route("/api/openapi.json", {"GET": answer})
