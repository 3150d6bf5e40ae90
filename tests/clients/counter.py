"""A counter that changes all the time, as the backend publishes it."""

from __future__ import annotations

import http.client
import json
import time

from tests.server import Server


class Counter:
    """Publishes two counters of one channel, ``likes`` with medium and ``views`` with low priority, by one POST each.

    :ivar value: the last one published, of both.
    :ivar rate: publications of each a second, in the last run.
    """

    def __init__(self, server: Server, channel: str) -> None:
        self._channel = channel
        self._headers = {"Content-Type": "application/json", "X-WebSocket-API-Key": server.settings["LARAVEL_API_KEY"]}
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        self.value = 0
        self.rate = 0.0

    def publish(self) -> list[int]:
        """The next value of both; how many get each."""
        self.value += 1
        broadcasts = [
            {
                "channel": self._channel,
                "event": event,
                "data": {"n": self.value},
                "key": "post-7",
                "priority": priority,
            }
            for event, priority in (("likes", "medium"), ("views", "low"))
        ]
        self._connection.request(
            "POST", "/api/broadcast/multi", json.dumps({"broadcasts": broadcasts}).encode(), self._headers
        )
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        assert response.status == 200, answer
        return [result["subscriberCount"] for result in answer["results"]]

    def run(self, seconds: float, rate: float = 500.0) -> float:
        """Publish at a rate, or as fast as it goes; returns when it began."""
        began = time.monotonic()
        count = round(seconds * rate)
        for number in range(count):
            time.sleep(max(began + number / rate - time.monotonic(), 0))
            self.publish()
        self.rate = count / (time.monotonic() - began)
        return began
