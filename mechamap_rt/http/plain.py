"""Requests to the API that are plain (see :mod:`mechamap_rt.wire.http`), answered without Twisted Web.

The backend sends one like the other, so most of what a full parser costs is spent on finding out that there is nothing
special about them. What is special is left to it.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from mechamap_rt.core.deferreds import run
from mechamap_rt.http.answering import Answers
from mechamap_rt.http.call import Call
from mechamap_rt.http.replies import Reply
from mechamap_rt.http.routing import Router
from mechamap_rt.wire.http import Plain, parse


class PlainLane:
    """Takes plain requests off the channels of a site.

    :param elsewhere: paths that are not the API's.
    :param max_body: bytes of a body.
    :param closing: is every answer the last of its connection?
    :ivar served: requests answered here.
    """

    def __init__(
        self,
        router: Router,
        answers: Answers,
        elsewhere: Container[bytes],
        max_body: int,
        closing: Callable[[], bool],
    ) -> None:
        self.router = router
        self.answers = answers
        self._elsewhere = elsewhere
        self._max_body = max_body
        self._closing = closing
        self.served = 0

    def take(self, channel: Any, data: bytes) -> PlainRequest | None:
        """Take a whole request, if ``data`` is one."""
        plain = parse(data, self._max_body)
        if plain is None or plain.path in self._elsewhere:
            return None
        self.served += 1
        return PlainRequest(self, channel, plain)

    def whole(self, plain: Plain, call: Call, reply: Reply) -> tuple[bytes, bool]:
        """The answer, and whether the connection goes on."""
        keep = plain.keep and not self._closing()
        return self.answers.whole(call, reply, keep=keep, one_zero=plain.one_zero), keep


class PlainRequest:
    """A request that is being answered."""

    __slots__ = ("_call", "_channel", "_lane", "_plain")

    def __init__(self, lane: PlainLane, channel: Any, plain: Plain) -> None:
        self._lane = lane
        self._channel = channel
        self._plain = plain
        headers = {name: (value,) for name, value in plain.headers.items()}
        peer = getattr(channel.getPeer(), "host", "")
        self._call = Call(plain.method, plain.path, plain.query, headers, plain.body, peer)

    def begin(self) -> None:
        run(self._lane.router.answer(self._call), self._answered)

    def _answered(self, reply: Reply) -> None:
        response, keep = self._lane.whole(self._plain, self._call, reply)
        self._channel.express_done(self, response, keep)

    def lost(self) -> None:
        """The client has gone away; what it asked for is done all the same."""

    def hurry(self) -> None:
        """It does not wait for events: its answer comes by itself."""
