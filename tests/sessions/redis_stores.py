"""What the tests of the Redis store share: processes with their own links to one Redis, and what Redis has of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet import reactor

from mechamap_rt.core.limits import Quota, Tally
from mechamap_rt.redis.commands import Commands
from mechamap_rt.redis.link import Link
from mechamap_rt.sessions.local import LocalStore
from mechamap_rt.sessions.redis import RedisStore
from mechamap_rt.settings.backing import Redis
from tests.bus.redis_case import RedisCase, until
from tests.redis_server import RedisServer

#: Seconds that leases live in the tests.
LIFE = 0.6


class RedisStoreCase(RedisCase):
    """Each store is a process of a host of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.links: dict[RedisStore, Link] = {}

    async def processes(self, server: RedisServer, quota: Quota, number: int = 1, **more: Any) -> list[RedisStore]:
        """Stores that count together.

        :param more: arguments of the store (``life``, ``patience``), and settings of Redis.
        """
        arguments = {name: more.pop(name) for name in ("life", "patience") if name in more}
        stores = []
        for _ in range(number):
            settings = Redis(**{"host": "127.0.0.1", "port": server.port, "timeout": 1.0, **more})
            name = f"{'abcdefgh'[len(self.links)] * 3}001"
            link = Link(reactor, settings, name)
            host = LocalStore(Tally(quota, reactor.seconds))
            commands = Commands(reactor, link, settings.timeout)
            store = RedisStore(reactor, commands, host, quota, settings.prefix, name, **{"life": LIFE} | arguments)
            self.links[store] = link
            link.start()
            store.start()
            self.addCleanup(link.stop)
            self.addCleanup(store.stop)
            stores.append(store)
        return stores

    async def ready(self, *stores: RedisStore) -> None:
        """Until they are in Redis with all they have."""
        await until(lambda: all(store.lease.ready() for store in stores), "Redis is there")
        await until(lambda: not any(store._counts.unstated for store in stores), "all is stated")


_COUNT = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  if redis.call('TYPE', key).ok == 'hash' then
    local fields, sum = redis.call('HGETALL', key), 0
    for i = 1, #fields, 2 do
      if redis.call('EXISTS', ARGV[1] .. 'lease:' .. fields[i]) == 1 then sum = sum + fields[i + 1] end
    end
    found[#found + 1] = string.sub(key, #ARGV[1] + 1)
    found[#found + 1] = sum
  end
end
return found
"""


def counted(server: RedisServer, prefix: str = "mechamap:") -> Counter[str]:
    """The counts in Redis by key without the prefix: sums over the owners whose leases live, 0 left out."""
    found = server.run("EVAL", _COUNT, "0", prefix)
    counts = zip(found[::2], found[1::2], strict=False)
    return Counter({key: int(count) for key, count in counts if int(count)})
