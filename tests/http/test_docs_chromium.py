"""The page of the HTTP API in a real browser: it shows what the description has, and breaks no rule of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.server import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LIMIT = 10_000


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    context = browser.new_context()
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(server.url + "/docs", timeout=LIMIT)
    expect(opened.get_by_test_id("operation").first).to_be_visible(timeout=LIMIT)
    yield opened
    context.close()
    assert complaints == []


def operations(server: Server) -> int:
    paths = server.get("/api/openapi.json").json()["paths"]
    return sum(len(methods) for methods in paths.values())


def test_every_operation_is_shown(server: Server, page: Page) -> None:
    expect(page.get_by_test_id("operation")).to_have_count(operations(server), timeout=LIMIT)
    expect(page.get_by_test_id("fault")).to_be_hidden()


def test_an_operation_opens_and_is_whole(page: Page) -> None:
    for summary in page.locator(".operation > summary").all():
        summary.click()
    expect(page.locator(".operation[open]")).to_have_count(page.get_by_test_id("operation").count(), timeout=LIMIT)
    broadcast = page.locator("#broadcast")
    for words in ("Idempotency-Key", "event", "required", "curl -s -X POST", "429", "Retry-After"):
        expect(broadcast).to_contain_text(words)
    assert "undefined" not in page.locator("main").inner_text()
    assert "[object Object]" not in page.locator("main").inner_text()


def test_search_finds_and_forgets(server: Server, page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("disconnect reason")
    expect(page.locator(".operation:visible")).to_have_count(1, timeout=LIMIT)
    expect(page.locator(".operation:visible .path")).to_have_text("/api/connections/disconnect/{id}")
    page.get_by_test_id("search").fill("nothing has such words")
    expect(page.get_by_test_id("nothing")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".operation:visible")).to_have_count(operations(server), timeout=LIMIT)


def test_a_link_opens_its_operation_by_keyboard(page: Page) -> None:
    link = page.locator("nav a", has_text="/api/notify")
    link.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#notify[open] .body")).to_be_visible(timeout=LIMIT)
    page.keyboard.press("Enter")
    expect(page.locator("#notify[open]")).to_have_count(0, timeout=LIMIT)


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.locator("#laravelBroadcast > summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
