"""Priorities over every bus, and on their way between processes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from mechamap_rt.bus import parcels
from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.redis import RedisBus
from mechamap_rt.bus.relay import RelayBus
from mechamap_rt.core import channels
from mechamap_rt.core.publication import DeliveryClass, Priority, Publication
from mechamap_rt.settings.backing import Redis
from tests.bus.streams import join, pause
from tests.contracts.priorities import PriorityContract
from tests.redis_server import RedisServer


class MemoryTests(PriorityContract, TestCase):
    def make_buses(self) -> dict[str, Any]:
        return {"one": MemoryBus()}


class RelayTests(PriorityContract, TestCase):
    def make_buses(self) -> dict[str, Any]:
        buses = {name: RelayBus(reactor) for name in ("one", "two", "three")}
        join(buses)
        self.addCleanup(pause, 0.05)
        return buses


class RedisTests(PriorityContract, TestCase):
    def make_buses(self) -> dict[str, Any]:
        server = RedisServer()
        self.addCleanup(server.end)
        settings = Redis(host="127.0.0.1", port=server.port)
        return {
            node: RedisBus(reactor, MemoryBus(), settings, node[:3], node)  # type: ignore[arg-type]
            for node in ("aaa000", "bbb000")
        }


def publication(priority: Priority) -> Publication:
    return Publication("n-1", channels.parse("thread.7"), "e", b"{}", key="k", sender="s", priority=priority)


@pytest.mark.parametrize("priority", list(Priority))
def test_a_parcel_brings_the_priority(priority: Priority) -> None:
    assert parcels.unpack(parcels.pack(publication(priority))).priority is priority


def test_a_parcel_of_an_older_version_is_for_at_once() -> None:
    members = msgspec.msgpack.decode(parcels.pack(publication(Priority.LOW)))
    assert members[7] == Priority.LOW
    came = parcels.unpack(msgspec.msgpack.encode(members[:7]))
    assert (came.id, came.key, came.sender, came.priority) == ("n-1", "thread.7 e k", "s", Priority.HIGH)


def test_a_parcel_of_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    members = msgspec.msgpack.decode(parcels.pack(publication(Priority.MEDIUM)))
    came = parcels.unpack(msgspec.msgpack.encode([*members, "more", 5]))
    assert (came.delivery, came.priority) == (DeliveryClass.STATE, Priority.MEDIUM)
    assert parcels.unpack(msgspec.msgpack.encode([*members[:7], 9])).priority is Priority.HIGH
