"""Two people with the site open in Chromium, and the socket.io-client that the server hands out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from mechamap_rt.presence.seats import GRACE
from tests.server import Server

ROOM = "presence-thread.1"
AN, BINH = 1, 2

#: What a page of the site does: it enters the room whenever it is connected, and shows who is there and who types.
#: The list is kept by the answer and the events alone.
SITE = """
([url, token, room]) => {
  const page = window.page = { members: {}, online: {}, typing: {}, total: 0, log: [] };
  const socket = window.socket = io(url, { auth: { token }, query: { token } });
  socket.onAny((event, ...args) => page.log.push([event, ...args]));
  socket.on('connected', async () => {
    const answer = await socket.timeout(8000).emitWithAck('subscribe', { channel: room });
    page.members = Object.fromEntries(answer.members.map((member) => [member.id, member.name]));
    page.total = answer.total;
    page.ready = true;
  });
  socket.on('member_joined', ({ user, total }) => { page.members[user.id] = user.name; page.total = total; });
  socket.on('member_left', ({ user, total }) => { delete page.members[user.id]; page.total = total; });
  socket.on('user_online', (user) => { page.online[user.user_id] = true; });
  socket.on('user_offline', (user) => { page.online[user.user_id] = false; });
  socket.on('user_typing', ({ userId }) => { page.typing[userId] = true; });
  socket.on('user_stopped_typing', ({ userId }) => { page.typing[userId] = false; });
}
"""
SHOWN = "(user) => [window.page.members[user] ?? null, window.page.online[user] ?? null]"
TYPING = "(user) => window.page.typing[user] === true"
LOG = "() => window.page.log.map(([event]) => event)"


@pytest.fixture
def contexts(browser: Browser) -> Iterator[list[BrowserContext]]:
    """Two browsers' worth of cookies and storage."""
    made = [browser.new_context() for _ in range(2)]
    for context in made:
        context.set_default_timeout(10_000)
    yield made
    for context in made:
        context.close()


def visit(page: Page, server: Server, user: int, name: str) -> None:
    """Open the site, or open it again."""
    page.goto(f"{server.url}/console")
    page.add_script_tag(url="/socket.io/socket.io.js")
    page.evaluate(SITE, [server.url, server.token(user, name=name), ROOM])
    page.wait_for_function("() => window.page.ready")


def shown(page: Page, user: int) -> list[Any]:
    """The name by which the page lists a user, and whether it was told that they are online."""
    found: list[Any] = page.evaluate(SHOWN, user)
    return found


def test_two_people_see_each_other_come_type_and_go(contexts: list[BrowserContext], server: Server) -> None:
    an, binh = (context.new_page() for context in contexts)
    visit(an, server, AN, "Nguyễn Văn An")
    assert shown(an, BINH) == [None, None]

    visit(binh, server, BINH, "Trần Thị Bình")
    an.wait_for_function(f"() => ({SHOWN})({BINH})[1] === true")
    assert shown(an, BINH) == ["Trần Thị Bình", True]
    assert an.evaluate("() => window.page.total") == 2
    assert shown(binh, AN) == ["Nguyễn Văn An", None], "by the list, for who comes later"

    binh.evaluate("([room]) => window.socket.emit('typing_start', { channel: room })", [ROOM])
    an.wait_for_function(f"() => ({TYPING})({BINH})")

    before = an.evaluate(LOG)
    visit(binh, server, BINH, "Trần Thị Bình")
    visit(binh, server, BINH, "Trần Thị Bình")
    assert shown(binh, AN)[0] == "Nguyễn Văn An"
    # who has reloaded types no more, and has not been away
    an.wait_for_function(f"() => !({TYPING})({BINH})")
    assert set(an.evaluate(LOG)[len(before) :]) <= {"user_stopped_typing"}

    closed = time.monotonic()
    binh.close()
    an.wait_for_function(f"() => ({SHOWN})({BINH})[1] === false", timeout=(GRACE + 5) * 1000)
    assert GRACE - 1 < time.monotonic() - closed < GRACE + 4
    assert shown(an, BINH) == [None, False]
    assert an.evaluate("() => window.page.total") == 1
    log = an.evaluate(LOG)
    for event in ("member_joined", "user_online", "member_left", "user_offline"):
        assert log.count(event) == 1, f"{event}: the pages that were reloaded are no absences: {log}"
