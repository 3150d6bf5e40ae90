"""What the tests of the Redis bus share: buses of several hosts, and conditions that come true in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.redis import RedisBus
from mechamap_rt.settings.backing import Redis
from tests.contracts.bus import Recorder
from tests.redis_server import RedisServer

LIMIT = 8.0


async def until(condition: Callable[[], Any], what: str = "the condition", limit: float = LIMIT) -> None:
    """Wait until ``condition()`` is true."""
    deadline = reactor.seconds() + limit
    while not condition():
        assert reactor.seconds() < deadline, f"{what} did not come true within {limit:g} s"
        await deferLater(reactor, 0.01)


async def pause(seconds: float) -> None:
    """For what must *not* happen in this time."""
    await deferLater(reactor, seconds)


def coroutine(method: Callable[[Any], Any]) -> Callable[[Any], Deferred[None]]:
    """A test written as ``async def``."""

    def run(self: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(method(self))

    run.__name__ = method.__name__
    run.__doc__ = method.__doc__
    return run


class RedisCase(TestCase):
    """A test with its own servers and buses; all of them are gone at its end."""

    timeout = 40

    def setUp(self) -> None:
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: Any) -> None:
        if str(event.get("log_namespace", "")).startswith("mechamap_rt"):
            self.logged.append(event["log_format"].format(**event))

    def serve(self, *options: tuple[str, ...], **more: Any) -> RedisServer:
        server = RedisServer(*options, **more)
        self.addCleanup(server.end)
        return server

    def make(self, server: RedisServer | None, node: str = "aaa000", **settings: Any) -> RedisBus:
        if server is not None:
            settings = {"host": "127.0.0.1", "port": server.port, **settings}
        return RedisBus(reactor, MemoryBus(), Redis(**settings), node[:3], node)

    async def bus(
        self, server: RedisServer | None, node: str = "aaa000", subscribers: int = 1, **settings: Any
    ) -> tuple[RedisBus, Recorder]:
        """A started bus of the host that ``node`` begins with."""
        bus = self.make(server, node, **settings)
        recorder = Recorder(subscribers, node.encode())
        await bus.start(recorder)
        self.addCleanup(bus.stop)
        return bus, recorder
