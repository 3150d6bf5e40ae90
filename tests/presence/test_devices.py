"""Who is told what when people with several devices come, change the page, and go: real clients of every kind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.clients.waiting import until
from tests.conftest import CLUSTER
from tests.presence.pages import GRACE, KINDS, SOONER, Page, Pages, avatar_of, card, name_of, newcomers, online
from tests.server import Server

CAME = ["member_joined", "user_online", "user.status"]
WENT = ["member_left", "user_offline", "user.status"]
#: Seconds that an absence may take to be told, beyond the grace.
SLACK = 4.0


@pytest.fixture(scope="module", params=["one process", "three workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = (CLUSTER if request.param == "three workers" else {}) | SOONER
    running = Server.start(tmp_path_factory.mktemp("site"), settings)
    try:
        yield running
        assert "Traceback" not in running.output()
        running.stop()
    finally:
        running.end()


def seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def ids(answer: dict[str, Any]) -> list[int]:
    return sorted(member["id"] for member in answer["members"])


def test_people_with_several_devices_come_change_the_page_and_go(site: Server, pages: Pages) -> None:
    users = newcomers()
    an, binh, chi, dung, giang, hoa = (next(users) for _ in range(6))
    room, second = f"presence-public.room-{an}", f"presence-public.second-{an}"
    watchers = [pages.open(site, an, room, second, kind=kind) for kind in KINDS]

    # everybody comes; the first device counts, and the first channel
    devices = [pages.open(site, binh, kind=kind) for kind in KINDS]
    answer = devices[0].enter(room)
    assert (ids(answer), answer["total"]) == ([an, binh], 2)
    assert card(an) in answer["members"]
    for device in devices[1:]:
        assert device.enter(room)["total"] == 2
        device.enter(second)
    for watcher in watchers:
        joined = watcher.wait("member_joined", binh, 2)
        assert (joined["channel"], joined["user"], joined["total"]) == (second, card(binh), 2)
        assert sorted(watcher.told(binh)) == sorted([*CAME, "member_joined"]), "once, but for the second channel"
        seen = watcher.wait("user_online", binh)
        assert abs(seconds(seen["last_seen"]) - time.time()) < 5
        assert seen | {"last_seen": ""} == {
            "user_id": binh,
            "name": name_of(binh),
            "avatar": avatar_of(binh),
            "last_seen": "",
        }
        assert watcher.wait("user.status", binh) == {"user_id": binh, "status": "online"}
    singles = {user: pages.open(site, user, room) for user in (chi, dung, giang)}
    stayer = pages.open(site, hoa, room, second, kind="native")
    for watcher in watchers:
        for user in (chi, dung, giang, hoa):
            watcher.wait("user.status", user)
    assert set(online(site, an, binh, chi, dung, giang, hoa)) == {an, binh, chi, dung, giang, hoa}

    # chi changes the page, dung leaves the channel, giang goes, binh turns off three devices of four
    began = time.time()
    singles[giang].close()
    singles[chi].close()
    singles[dung].quit(room)
    for device in devices[1:]:
        device.close()
    until(lambda: all(watcher.users("member_left") == [dung] for watcher in watchers), lambda: _left(watchers))
    assert time.time() - began < GRACE / 2, "who leaves the channel has left it at once"
    back = pages.open(site, chi, room, kind="polling")
    assert ids(back.enter(room)) == sorted([an, binh, chi, giang, hoa])
    assert set(online(site, chi, dung, giang)) == {chi, dung, giang}

    for watcher in watchers:
        gone = watcher.wait("user_offline", giang, limit=GRACE + SLACK)
        assert abs(seconds(gone["last_seen"]) - began) < 1, "the last device, not the end of the grace"
        watcher.wait("user.status", giang, 2)
    assert GRACE - 1 < time.time() - began < GRACE + SLACK
    # binh has left the second channel, with three devices, and is in the first with one
    until(lambda: all(watcher.users("member_left").count(binh) == 1 for watcher in watchers), lambda: _left(watchers))
    for watcher in watchers:
        assert watcher.told(giang) == [*CAME, *WENT]
        assert watcher.told(chi) == CAME, "a page change is no absence"
        assert watcher.told(dung) == [*CAME, "member_left"], "who is elsewhere on the site is online"
        assert watcher.told(hoa) == [*CAME, "member_joined"]
        assert watcher.users("user_offline") == [giang]
        assert [one["channel"] for one in watcher.data("member_left") if one["user"]["id"] == binh] == [second]
        assert watcher.wait("member_left", dung)["user"] == card(dung)
        assert watcher.told(an) == [], "nobody is told of themselves"
    until(lambda: stayer.users("user_offline") == [giang], lambda: str(stayer.client.events()))
    assert set(online(site, an, binh, chi, dung, giang, hoa)) == {an, binh, chi, dung, hoa}
    assert ids(back.enter(room)) == sorted([an, binh, chi, hoa])


def _left(watchers: list[Page]) -> str:
    return str([watcher.users("member_left") for watcher in watchers])


def test_who_is_invisible_sees_and_is_not_seen(site: Server, pages: Pages) -> None:
    users = newcomers()
    an, binh, chi, dung = (next(users) for _ in range(4))
    room = f"presence-public.room-{an}"
    watchers = [pages.open(site, an, room, kind=kind) for kind in KINDS]
    hidden = [
        pages.open(site, binh, kind="native", permissions=["receive_notifications", "invisible"]),
        pages.open(site, chi, invisible=True),
    ]
    for page in hidden:
        answer = page.enter(room)
        assert (ids(answer), answer["total"]) == ([an], 1)
        page.ask("user_activity", {"activity": "hiding"})
    seen = pages.open(site, dung, room, kind="polling")
    for page in (*watchers, *hidden):
        page.wait("user.status", dung)
    assert online(site, an, binh, chi, dung) == [an, dung]
    assert seen.ask("who_is_online", {"user_ids": [chi, dung, binh]})["online"] == [dung]
    assert ids(seen.enter(room)) == [an, dung]
    for page in hidden:
        page.quit(room)
        page.close()
    seen.quit(room)
    for watcher in watchers:
        # what comes last: whatever the hidden ones had caused would have come before
        watcher.wait("member_left", dung)
        assert watcher.told(binh) == watcher.told(chi) == []
        assert watcher.data("user_activity") == []


def test_activity_reaches_each_who_shares_a_channel_once(site: Server, pages: Pages) -> None:
    users = newcomers()
    an, binh, chi = (next(users) for _ in range(3))
    rooms = [f"presence-public.{name}-{an}" for name in ("one", "two", "three")]
    watchers = [pages.open(site, an, *rooms, kind=kind) for kind in KINDS]
    one_room = pages.open(site, binh, rooms[2])
    stranger = pages.open(site, binh, "presence-public.elsewhere", rooms[0].removeprefix("presence-"))
    sender, other = pages.open(site, chi, *rooms), pages.open(site, chi, *rooms)
    sender.ask("user_activity", {"activity": "away"})
    site.publish(rooms[0], "after", {})
    site.publish(rooms[2], "after", {})
    for page in (*watchers, other, one_room, stranger, sender):
        until(lambda: len(page.data("after")) > 0, lambda: str(page.client.events()))  # noqa: B023
    for page in (*watchers, other, one_room):
        until(lambda: len(page.data("user_activity")) > 0, lambda: str(page.client.events()))  # noqa: B023
        (activity,) = page.data("user_activity")
        assert (activity["userId"], activity["activity"]) == (chi, "away")
    assert sender.data("user_activity") == []
    assert stranger.data("user_activity") == [], "a subscription by another name shares no presence"


@pytest.mark.parametrize("kind", KINDS)
def test_the_question_who_is_online(site: Server, pages: Pages, kind: str) -> None:
    users = newcomers()
    an, binh = next(users), next(users)
    page = pages.open(site, an, kind=kind)
    pages.open(site, binh)
    asked = [binh, *range(10_000, 10_997), an, binh]
    assert len(asked) == 1000
    answer = page.ask("who_is_online", {"user_ids": asked})
    assert answer["online"] == [binh, an], "in the order asked, each once"
    assert abs(seconds(answer["timestamp"]) - time.time()) < 5
    assert page.ask("who_is_online", {"userIds": [1_000_000]})["online"] == []
    assert page.ask("who_is_online", [an, 1_000_000])["online"] == [an]
    wrong: list[Any] = [
        None,
        5,
        {},
        [],
        {"user_ids": []},
        {"user_ids": None},
        {"user_ids": an},
        {"user_ids": {"0": an}},
        {"user_ids": [an] * 1001},
        {"user_ids": [an, "5"]},
        {"user_ids": [0]},
        {"user_ids": [-an]},
        {"user_ids": [1.5]},
        {"user_ids": [True]},
        {"user_ids": [2**63]},
        {"user_ids": [[an]]},
    ]
    for data in wrong:
        assert page.ask("who_is_online", data)["code"] == "VALIDATION_ERROR", data
    assert page.ask("who_is_online", [an])["online"] == [an]
