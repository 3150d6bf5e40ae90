"""Workers that die or are replaced: whoever comes back was never gone, whoever does not is gone soon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos import processes
from tests.chaos.processes import Operation, kill, wait_for_workers
from tests.clients.waiting import until
from tests.conftest import CLUSTER
from tests.presence.pages import GRACE, SOONER, Page, Pages, always, newcomers, online
from tests.server import Server

CAME = ["member_joined", "user_online", "user.status"]
WENT = ["member_left", "user_offline", "user.status"]


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three workers, of which no process is left afterwards."""
    running = Server.start(tmp_path_factory.mktemp("site"), CLUSTER | SOONER | {"CLUSTER_DRAIN_TIME": "1000"})
    try:
        yield running
        assert "Traceback" not in running.output()
    finally:
        processes.end(running)


def test_a_worker_that_is_killed_takes_its_users_with_it(site: Server, pages: Pages) -> None:
    users = newcomers()
    an, binh, chi, dung, giang, hoa = (next(users) for _ in range(6))
    room = f"presence-public.room-{an}"
    watchers = pages.everywhere(site, an, room)
    victim = watchers[0].worker
    survivors = watchers[1:]
    # binh is lost with it, chi comes back, dung has another page elsewhere, giang is elsewhere altogether;
    # hoa has left the channel, and comes back without entering it
    pages.on(site, binh, victim, room)
    lost = pages.on(site, chi, victim, room)
    pages.on(site, dung, victim, room)
    pages.on(site, dung, survivors[0].worker, room)
    pages.on(site, giang, survivors[1].worker, room)
    pages.on(site, hoa, victim, room).quit(room)
    everybody = {an, binh, chi, dung, giang, hoa}
    for watcher in survivors:
        for user in everybody - {an}:
            watcher.wait("user.status", user)
        watcher.wait("member_left", hoa)
    pid = processes.workers(site)[victim]
    kill(pid)
    began = time.monotonic()
    until(lambda: lost.client.ended, lambda: "the connection has not ended")
    back = pages.open(site, chi, room, kind="native")
    until(lambda: set(online(site, *everybody)) == everybody - {hoa}, lambda: str(online(site, *everybody)))
    for until_then in (GRACE - 4, GRACE - 1.5):
        # long enough for those who are in no channel to be asked about
        always(
            lambda: all(watcher.told(binh) == CAME for watcher in survivors),
            lambda: str([watcher.told(binh) for watcher in survivors]),
            until_then - (time.monotonic() - began),
        )
        pages.open(site, hoa)
    for watcher in survivors:
        watcher.wait("user.status", binh, 2, limit=30)
    took = time.monotonic() - began
    print(f"gone {took:.1f} s after the death")
    assert took < GRACE + 8
    for watcher in survivors:
        assert watcher.told(binh) == [*CAME, *WENT]
        for user in (chi, dung, giang):
            assert watcher.told(user) == CAME
        assert watcher.told(hoa) == [*CAME, "member_left"]
    assert set(online(site, *everybody)) == everybody - {binh}
    assert sorted(each["id"] for each in back.enter(room)["members"]) == sorted([an, chi, dung, giang])
    # the worker in its place knows as much
    wait_for_workers(site, 3, without=pid)
    fresh = pages.everywhere(site, an)
    for page in fresh:
        assert sorted(each["id"] for each in page.enter(room)["members"]) == sorted([an, chi, dung, giang])


class Returning:
    """Somebody who comes back whenever the page is cut off, and enters the room again."""

    def __init__(self, pages: Pages, site: Server, user: int, room: str, kind: str) -> None:
        self._open = lambda: pages.open(site, user, kind=kind)
        self._room = room
        self.user = user
        self.visits: list[Page] = []
        self.lists: list[set[int]] = []
        self.come()

    def come(self) -> None:
        page = self._open()
        self.lists.append({each["id"] for each in page.enter(self._room)["members"]})
        self.visits.append(page)

    @property
    def ended(self) -> bool:
        return self.visits[-1].client.ended

    def users(self, event: str) -> list[int]:
        return [user for page in self.visits for user in page.users(event)]


@pytest.mark.parametrize("way", ["reload", "restart"])
def test_workers_that_are_replaced_make_nobody_absent(site: Server, pages: Pages, way: str) -> None:
    users = newcomers()
    room = f"presence-public.room-{next(users)}"
    kinds = ("native", "websocket", "polling", "native", "websocket", "python")
    people = [Returning(pages, site, user, room, kind) for user, kind in zip(users, kinds, strict=False)]
    everybody = {one.user for one in people}
    for one in people:
        until(lambda: set(one.visits[0].users("member_joined")) | one.lists[0] == everybody, lambda: room)  # noqa: B023
    number = processes.status(site)["workers"][0]["worker"]
    operation = Operation(site, "reload", drain=1.0) if way == "reload" else Operation(site, "restart", worker=number)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(operation.result)
        while not done.done() or any(one.ended for one in people):
            for one in people:
                if one.ended:
                    one.come()
            time.sleep(0.05)
        print(done.result())
    if way == "reload":
        assert all(len(one.visits) > 1 for one in people)
    always(
        lambda: all(_nobody_was_away(one) for one in people), lambda: str([_story(one) for one in people]), GRACE + 2
    )
    for one in people:
        assert all(members == everybody for members in one.lists[1:])
        assert [page.told(one.user) for page in one.visits] == [[]] * len(one.visits)
    assert set(online(site, *everybody)) == everybody


def _nobody_was_away(one: Returning) -> bool:
    return one.users("member_left") == one.users("user_offline") == []


def _story(one: Returning) -> str:
    return f"{one.user}: left {one.users('member_left')}, offline {one.users('user_offline')}"
