"""Nobody is gone because we, or Redis, stood still for a while."""

from __future__ import annotations

import time

from mechamap_rt.bus import redis as redis_bus
from mechamap_rt.bus import redis_peers
from tests.bus.redis_case import RedisCase, coroutine, pause, until


class StandstillTests(RedisCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(redis_bus, "HELLO_INTERVAL", 0.2)
        self.patch(redis_peers, "HELLO_INTERVAL", 0.2)
        self.patch(redis_peers, "FORGET_AFTER", 0.6)

    @coroutine
    async def test_a_process_that_stood_still_has_lost_nobody(self) -> None:
        """Stopped, swapped out, its machine paused: timers run before what has come in is read."""
        server = self.serve()
        pair = [await self.bus(server, node) for node in ("aaa000", "bbb000")]
        await until(lambda: all(bus.figures()["hosts"] == 1 for bus, _ in pair))
        await pause(0.5)
        time.sleep(1.5)
        await pause(1.0)
        assert [recorder.gone for _, recorder in pair] == [[], []]

    @coroutine
    async def test_a_redis_that_stood_still_for_less_than_its_time_out_has_lost_nobody(self) -> None:
        """``REDIS_TIMEOUT`` may be longer than the patience with the silent."""
        server = self.serve()
        pair = [await self.bus(server, node, timeout=10.0) for node in ("aaa000", "bbb000")]
        await until(lambda: all(bus.figures()["hosts"] == 1 for bus, _ in pair))
        server.freeze()
        self.addCleanup(server.thaw)
        await pause(1.5)
        server.thaw()
        await pause(1.0)
        assert [recorder.gone for _, recorder in pair] == [[], []]
