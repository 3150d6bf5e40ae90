"""The stores of one host: one process by itself, and workers that ask a master over real streams."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from mechamap_rt.bus.link import Link, OneLink
from mechamap_rt.core.ledger import Ledger
from mechamap_rt.core.limits import Quota, Tally
from mechamap_rt.errors import Disconnect
from mechamap_rt.sessions.host import PATIENCE, HostStore, Teller
from mechamap_rt.sessions.local import LocalStore
from tests.bus.redis_case import coroutine, until
from tests.contracts.sessions import SessionContract


class LocalStoreTests(SessionContract, TestCase):
    """Several stores with one tally are one process: it cannot die in part."""

    test_a_dead_process_has_nothing = None

    async def make_stores(self, quota: Quota, number: int) -> list[Any]:
        tally = Tally(quota, reactor.seconds)
        return [LocalStore(tally) for _ in range(number)]


def adopt(end: socket.socket, link: Link) -> None:
    end.setblocking(False)
    reactor.adoptStreamConnection(end.fileno(), socket.AF_UNIX, OneLink(link))
    end.close()


class HostCase(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.links: list[Link] = []
        self.addCleanup(self.end)

    async def workers(self, quota: Quota, number: int) -> list[Any]:
        """The stores of as many workers with one master."""
        tally = Tally(quota, reactor.seconds)
        stores = []
        for worker in range(number):
            here, there = socket.socketpair()
            store = HostStore(reactor, quota)
            self.links += [store.link(), Teller(tally, Ledger(reactor.seconds), f"w{worker}").link()]
            adopt(here, self.links[-2])
            adopt(there, self.links[-1])
            stores.append(store)
        return stores

    async def end(self) -> None:
        for link in self.links:
            link.close()
        await until(lambda: not any(link.open for link in self.links), "the streams have ended")
        for call in reactor.getDelayedCalls():
            # a store's timer runs out by itself; no test needs to wait for that
            if isinstance(getattr(call.func, "__self__", None), HostStore):
                call.cancel()


class HostStoreTests(SessionContract, HostCase):
    async def make_stores(self, quota: Quota, number: int) -> list[Any]:
        return await self.workers(quota, number)

    async def die(self, store: HostStore) -> None:
        store.link().transport.abortConnection()


class LostMasterTests(HostCase):
    @coroutine
    async def test_a_master_that_is_gone_leaves_each_worker_its_own_counts(self) -> None:
        one, two = await self.workers(Quota(per_user=2, per_address=1), 2)
        assert [await one.admit(5), await two.admit(5)] == [None, None]
        for link in self.links[1::2]:
            link.close()
        await until(lambda: not one.link().open and not two.link().open)
        assert [await one.admit(5), await one.admit(5)] == [None, Disconnect.USER_LIMIT]
        assert [await one.enter("a"), await one.enter("a")] == [None, Disconnect.THROTTLED]

    @coroutine
    async def test_a_master_that_is_silent_is_waited_for_once(self) -> None:
        # a stream that nobody reads or answers
        store, (here, there) = HostStore(reactor, Quota(per_user=2, rates={"events": 1})), socket.socketpair()
        self.addCleanup(there.close)
        self.links.append(store.link())
        adopt(here, store.link())
        asked = reactor.seconds()
        assert await store.admit(5) is None
        assert reactor.seconds() - asked < 2 * PATIENCE
        asked = reactor.seconds()
        assert [await store.admit(5), await store.admit(5)] == [None, Disconnect.USER_LIMIT]
        assert [await store.take("events", 5) > 0 for _ in range(2)] == [False, True]
        assert reactor.seconds() - asked < 0.2
