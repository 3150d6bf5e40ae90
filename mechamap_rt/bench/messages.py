"""The publications that the loads post."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from mechamap_rt.bench.subscriber import stamp

CHANNEL = "public.bench"
EVENT = "bench.message"
COUNTER = "thread.like.updated"
BROADCAST_PATH = "/api/broadcast"
LARAVEL_PATH = "/api/laravel-broadcast"


@dataclass(frozen=True, slots=True)
class Filler:
    """Bodies for ``POST /api/broadcast`` whose size is set by padding.

    :ivar padding: how many bytes of padding the ``data`` member carries.
    """

    padding: int

    def body(self) -> bytes:
        """One publication, stamped with the present time."""
        data = {"at": stamp(), "pad": "x" * self.padding}
        return orjson.dumps({"channel": CHANNEL, "event": EVENT, "data": data})


def counter_body(likes: int, priority: str) -> bytes:
    """A counter that has changed, with the time in it.

    :param priority: may be empty.
    """
    post = "f3c9b1de-6f0b-4d0a-9e59-0d6a5c0f6a11"
    data = {"at": stamp(), "thread_id": 4711, "post": post, "likes": likes, "liked": True, "by": "tran.minh"}
    body = {"channel": CHANNEL, "event": COUNTER, "data": data, "key": post}
    return orjson.dumps(body | ({"priority": priority} if priority else {}))


def laravel_body(user_id: int, number: int) -> bytes:
    """A notification as Laravel's broadcaster posts it to ``/api/laravel-broadcast``, with the time in it."""
    notification = {
        "id": number,
        "at": stamp(),
        "user_id": user_id,
        "type": "comment_reply",
        "title": "New reply in your thread",
        "message": "tran.minh answered in »Fatigue of welded joints in a hydraulic press frame«",
        "data": {"thread_id": 4711, "comment_id": 98123, "url": "/threads/fatigue-of-welded-joints#c98123"},
        "priority": "normal",
        "is_read": False,
        "created_at": "2026-11-23T10:30:00.000000Z",
    }
    return orjson.dumps(
        {
            "channels": [{"name": f"private-user.{user_id}"}],
            "event": "notification.sent",
            "data": notification,
            "timestamp": "2026-11-23T10:30:00.000000Z",
        }
    )
