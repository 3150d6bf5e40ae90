"""The endpoint that says what became of a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from mechamap_rt.bus.stories import Stories
from mechamap_rt.core.identity import MAX_ID
from mechamap_rt.http.call import Call
from mechamap_rt.http.keys import Keys, Right
from mechamap_rt.http.replies import Error, HTTPFault, Reply
from mechamap_rt.http.routing import Route
from mechamap_rt.wire import json


class Traces:
    """Answers for the whole cluster, to administrators.

    :param clock: seconds since the epoch.
    """

    def __init__(self, stories: Stories, keys: Keys, clock: Callable[[], float]) -> None:
        self._stories = stories
        self._keys = keys
        self._clock = clock

    def routes(self) -> list[Route]:
        return [Route("/api/trace/<publication>", {"GET": self.trace})]

    async def trace(self, call: Call) -> Reply:
        """What became of a publication; with ``?user=`` why that user has it, or has not."""
        await self._keys.require(call, Right.ADMINISTER)
        user = _user(call)
        try:
            story = await self._stories.story(call.variables["publication"], user)
        except ValueError as error:
            raise HTTPFault(Error.VALIDATION, "The request is not valid", [("publication", str(error))]) from None
        if not story["found"]:
            message = "No such publication is remembered: it was never made, is too old, or was volatile"
            raise HTTPFault(Error.NOT_FOUND, message)
        return Reply.of({"success": True, **dated(story), "timestamp": json.timestamp(self._clock())})


def _user(call: Call) -> int | None:
    values = parse_qs(call.query.decode("latin-1"), keep_blank_values=True).get("user")
    if values is None:
        return None
    text = values[-1]
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and 0 < int(text) <= MAX_ID):
        raise HTTPFault(Error.VALIDATION, "The request is not valid", [("user", "the id of a user is required")])
    return int(text)


def dated(story: Any) -> Any:
    """A story with its moments as the API writes them."""
    if isinstance(story, Mapping):
        return {
            name: json.timestamp(value) if name in ("at", "since", "until") and value else dated(value)
            for name, value in story.items()
        }
    if isinstance(story, list | tuple):
        return [dated(each) for each in story]
    return story
