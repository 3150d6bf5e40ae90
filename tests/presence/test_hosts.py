"""Presence over two hosts that a real Redis joins: one picture, kept through the death of a host and of Redis."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mechamap_rt.presence.presence import COMPARE
from tests.chaos import processes
from tests.clients.waiting import until
from tests.conftest import CLUSTER
from tests.presence.pages import GRACE, SOONER, Page, Pages, always, newcomers, online
from tests.redis_server import RedisServer
from tests.server import Server

CAME = ["member_joined", "user_online", "user.status"]
WENT = ["member_left", "user_offline", "user.status"]
#: Seconds within which a host that has died is noticed.
NOTICED = 30.0


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer()
    try:
        yield server
    finally:
        server.end()


@pytest.fixture
def hosts(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two hosts of two workers, of which no process is left afterwards."""
    started: list[Server] = []

    def start(host: str) -> Server:
        started.append(Server.start(tmp_path_factory.mktemp(host), joined | {"HOST_ID": host}))
        return started[-1]

    joined = CLUSTER | SOONER | {"CLUSTER_WORKERS": "2", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis.port)}
    try:
        yield start("aaa"), start("bbb")
        for server in started:
            assert "Traceback" not in server.output()
    finally:
        for server in started:
            processes.end(server)


def members(page: Page, room: str) -> list[int]:
    return sorted(each["id"] for each in page.enter(room)["members"])


def stories(pages: list[Page], user: int) -> str:
    return str([page.told(user) for page in pages])


def test_a_host_that_dies_takes_those_with_it_who_do_not_come_back(hosts: tuple[Server, Server], pages: Pages) -> None:
    here, there = hosts
    users = newcomers()
    an, binh, chi, dung = (next(users) for _ in range(4))
    room = f"presence-public.room-{an}"
    watchers = pages.everywhere(here, an, room)
    # binh is only there, chi comes over to this host, dung is on both
    pages.open(there, binh, room, kind="native")
    moving = pages.open(there, chi, room)
    both = [pages.open(there, dung, room, kind="polling"), pages.open(here, dung, room, kind="native")]
    for watcher in watchers:
        for user in (binh, chi, dung):
            watcher.wait("user.status", user)
            assert watcher.told(user) == CAME
    for host in hosts:
        assert online(host, an, binh, chi, dung) == [an, binh, chi, dung]
    assert both[0].ask("who_is_online", [dung, an])["online"] == [dung, an]
    assert members(moving, room) == [an, binh, chi, dung]
    both[0].ask("user_activity", {"activity": "reading"})
    until(lambda: all(len(page.data("user_activity")) == 1 for page in (*watchers, both[1])), lambda: "no activity")

    for pid in processes.belonging(there):
        with contextlib.suppress(ProcessLookupError):
            processes.kill(pid)
    began = time.monotonic()
    until(lambda: moving.client.ended, lambda: "the connection has not ended")
    back = pages.open(here, chi, room)
    for watcher in watchers:
        watcher.wait("user.status", binh, 2, limit=NOTICED)
    print(f"noticed after {time.monotonic() - began:.1f} s")
    for watcher in watchers:
        assert watcher.told(binh) == [*CAME, *WENT]
        assert (watcher.told(chi), watcher.told(dung)) == (CAME, CAME)
    assert online(here, an, binh, chi, dung) == [an, chi, dung]
    assert members(back, room) == [an, chi, dung]


def test_an_outage_of_redis_makes_nobody_absent_and_what_it_hid_is_told(
    hosts: tuple[Server, Server], redis: RedisServer, pages: Pages
) -> None:
    here, there = hosts
    users = newcomers()
    an, binh, chi, dung, giang = (next(users) for _ in range(5))
    room = f"presence-public.room-{an}"
    watchers = pages.everywhere(here, an, room)
    pages.everywhere(there, binh, room)
    leaver, changer = pages.open(there, chi, room), pages.open(there, dung, room, kind="native")
    for watcher in watchers:
        for user in (binh, chi, dung):
            watcher.wait("user.status", user)

    redis.kill()
    until(lambda: _degraded(here) and _degraded(there), lambda: "the outage is not noticed", 6)
    # binh stays, chi leaves the channel, dung changes the page, giang comes
    leaver.quit(room)
    changer.close()
    page = pages.open(there, dung, room)
    late = pages.open(there, giang, room, kind="native")
    assert members(late, room) == sorted([an, binh, dung, giang]), "those of the other host stay members"
    near = pages.open(here, giang + 1, room)
    assert members(near, room) == [an, binh, chi, dung, giang + 1], "as far as this host knows"
    always(
        lambda: all(watcher.told(user) == CAME for watcher in watchers for user in (binh, chi, dung)),
        lambda: str([stories(watchers, user) for user in (binh, chi, dung)]),
        2.0,
    )

    redis.start()
    for watcher in watchers:
        watcher.wait("member_joined", giang, limit=COMPARE + 5)
        watcher.wait("member_left", chi, limit=COMPARE + 5)
    late.wait("member_joined", giang + 1, limit=COMPARE + 5)
    assert members(page, room) == sorted([an, binh, dung, giang, giang + 1])
    always(
        lambda: all(watcher.told(user) == CAME for watcher in watchers for user in (binh, dung, giang)),
        lambda: str([stories(watchers, user) for user in (binh, dung, giang)]),
        2.0,
    )
    for host in hosts:
        assert online(host, an, binh, chi, dung, giang) == [an, binh, chi, dung, giang]
    for watcher in watchers:
        assert watcher.told(chi) == [*CAME, "member_left"]
    assert page.users("member_left") == late.users("member_left") == []


def test_two_hosts_that_are_replaced_make_nobody_absent(hosts: tuple[Server, Server], pages: Pages) -> None:
    here, there = hosts
    users = newcomers()
    an, binh = next(users), next(users)
    room = f"presence-public.room-{an}"
    watcher = pages.open(here, an, room)
    page = pages.open(there, binh, room)
    watcher.wait("user.status", binh)
    reload: Any = processes.Operation(there, "reload", drain=0.5)
    until(lambda: page.client.ended, lambda: "the page is not let go", 15)
    pages.open(there, binh, room)
    reload.result()
    always(lambda: watcher.told(binh) == CAME, lambda: str(watcher.told(binh)), GRACE + 2)
    assert online(here, an, binh) == [an, binh]


def _degraded(server: Server) -> bool:
    return {server.get("/ready", Connection="close").json()["status"] for _ in range(4)} == {"degraded"}
