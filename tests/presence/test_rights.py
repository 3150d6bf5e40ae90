"""Rights that come from the site's database: who may not be here any more is not present, who hides is not seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.auth.people import number, person
from tests.clients.waiting import until
from tests.conftest import CLUSTER
from tests.mariadb import MariaDB
from tests.presence.pages import SOONER, Page, Pages, online
from tests.server import Server


@pytest.fixture(scope="module")
def site(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three workers that ask the database, and look every second whether what they know still holds."""
    settings = CLUSTER | SOONER | mariadb.settings(AUTH_SWEEP_INTERVAL="1000", AUTH_CACHE_TTL="1000")
    running = Server.start(tmp_path_factory.mktemp("site"), settings)
    try:
        yield running
        assert "Traceback" not in running.output()
        running.stop()
    finally:
        running.end()


class Talk:
    """A conversation in the database, and people who take part in it."""

    def __init__(self, mariadb: MariaDB, site: Server, pages: Pages, count: int) -> None:
        self._mariadb = mariadb
        self._site = site
        self._pages = pages
        self.ident = number()
        self.people = [person(mariadb) for _ in range(count)]
        for user in self.people:
            self.admit(user)

    @property
    def name(self) -> str:
        return f"presence-conversation.{self.ident}"

    def admit(self, user: int) -> None:
        self._mariadb.sql(
            "INSERT INTO conversation_participants (conversation_id, user_id) VALUES (%s, %s)", self.ident, user
        )

    def exclude(self, user: int) -> None:
        self._mariadb.sql("DELETE FROM conversation_participants WHERE user_id = %s", user)

    def enter(self, user: int, kind: str = "websocket") -> Page:
        return self._pages.with_token(self._site, user, self._mariadb.token(user), self.name, kind=kind)


def members(answer: dict[str, Any]) -> list[int]:
    return sorted(member["id"] for member in answer["members"])


def test_who_is_revoked_has_left_at_once_and_is_online(site: Server, mariadb: MariaDB, pages: Pages) -> None:
    talk = Talk(mariadb, site, pages, 2)
    an, binh = talk.people
    watcher = talk.enter(an)
    devices = [talk.enter(binh, kind) for kind in ("websocket", "polling", "python", "native")]
    watcher.wait("user.status", binh)
    talk.exclude(binh)
    answer = site.post("/api/channels/revoke", {"channel": talk.name, "user_id": binh})
    assert (answer.status_code, answer.json()["unsubscribed"]) == (200, 4), answer.text
    assert watcher.wait("member_left", binh)["total"] == 1
    assert members(watcher.enter(talk.name)) == [an]
    assert online(site, an, binh) == [an, binh]
    # what is told in the channel is not for those who were sent out
    other = talk.enter(an, "native")
    other.ask("user_activity", {"activity": "x"})
    until(lambda: len(watcher.data("user_activity")) == 1, lambda: str(watcher.client.events()))
    for device in devices:
        assert device.data("user_activity") == []
    assert watcher.told(binh) == ["member_joined", "user_online", "user.status", "member_left"]


def test_who_loses_the_right_is_found_by_the_sweep(site: Server, mariadb: MariaDB, pages: Pages) -> None:
    talk = Talk(mariadb, site, pages, 2)
    an, binh = talk.people
    watcher = talk.enter(an)
    talk.enter(binh)
    watcher.wait("user.status", binh)
    talk.exclude(binh)
    watcher.wait("member_left", binh)
    assert members(watcher.enter(talk.name)) == [an]
    assert watcher.users("user_offline") == []


def test_a_user_whom_the_site_sends_away_goes_with_the_grace(site: Server, mariadb: MariaDB, pages: Pages) -> None:
    """The account is closed; for others that is one who closes the page."""
    talk = Talk(mariadb, site, pages, 2)
    an, binh = talk.people
    watcher = talk.enter(an)
    talk.enter(binh, "native")
    watcher.wait("user.status", binh)
    mariadb.sql("UPDATE users SET status = 'banned' WHERE id = %s", binh)
    assert site.post("/api/auth/revoke", {"user_id": binh}).json()["disconnected"] == 1
    watcher.wait("user.status", binh, 2, limit=17)
    assert watcher.told(binh)[3:] == ["member_left", "user_offline", "user.status"]
    assert online(site, an, binh) == [an]


def test_invisible_by_the_user_s_row_and_by_the_token(site: Server, mariadb: MariaDB, pages: Pages) -> None:
    talk = Talk(mariadb, site, pages, 1)
    (an,) = talk.people
    by_row = person(mariadb, permissions=json.dumps(["receive_notifications", "invisible"]))
    by_token, seen = person(mariadb), person(mariadb)
    for user in (by_row, by_token, seen):
        talk.admit(user)
    watcher = talk.enter(an)
    for token, user in (
        (mariadb.token(by_row), by_row),
        (mariadb.token(by_token, abilities='["*", "invisible"]'), by_token),
    ):
        page = pages.with_token(site, user, token)
        assert members(page.enter(talk.name)) == [an]
        page.ask("user_activity", {"activity": "hiding"})
    talk.enter(seen)
    watcher.wait("user.status", seen)
    assert watcher.told(by_row) == watcher.told(by_token) == watcher.data("user_activity") == []
    assert online(site, by_row, by_token, seen) == [seen]
    # by a device of theirs that does not hide they are seen
    pages.with_token(site, by_token, mariadb.token(by_token), talk.name)
    watcher.wait("user.status", by_token)
    assert online(site, by_row, by_token) == [by_token]


def test_who_hides_by_a_fresh_token_goes_and_who_shows_comes(site: Server, mariadb: MariaDB, pages: Pages) -> None:
    talk = Talk(mariadb, site, pages, 2)
    an, binh = talk.people
    watcher = talk.enter(an)
    page = talk.enter(binh, "native")
    watcher.wait("user.status", binh)
    hiding = mariadb.token(binh, abilities='["*", "invisible"]')
    assert "invisible" in page.ask("authenticate", {"token": hiding})["permissions"]
    watcher.wait("user.status", binh, 2)
    assert watcher.told(binh)[3:] == ["member_left", "user_offline", "user.status"]
    assert online(site, an, binh) == [an]
    assert members(page.enter(talk.name)) == [an], "still a subscriber"
    page.ask("authenticate", {"token": mariadb.token(binh)})
    watcher.wait("user.status", binh, 3)
    assert watcher.told(binh)[6:] == ["member_joined", "user_online", "user.status"]
    assert online(site, an, binh) == [an, binh]
