"""The page of the HTTP API in a real browser: it shows what the description has, and breaks no rule of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.sync_api import expect

from tests.conftest import required
from tests.http.test_console_chromium import WATCH_CSP
from tests.server import ADMIN_KEY, LARAVEL_API_KEY, REQUEST_LIMIT, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LIMIT = 10_000


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.add_init_script(WATCH_CSP)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(server.url + "/docs", timeout=LIMIT)
    expect(opened.get_by_test_id("operation").first).to_be_visible(timeout=LIMIT)
    yield opened
    violations = opened.evaluate("window.violations")
    context.close()
    assert complaints == []
    assert violations == []


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_forms_have_names_and_large_numbers_are_right(page: Page) -> None:
    open_all(page)
    for name in ("To a channel.", "To a user, on private-user.<id>."):
        expect(page.locator("#broadcast .variant", has_text=name)).to_be_visible(timeout=LIMIT)
    text = page.locator("main").inner_text()
    assert "9223372036854776000" not in text
    assert "2⁶³−1" in text
    assert "`" not in text


def test_copying(page: Page) -> None:
    page.locator("#notify > summary").click()
    page.locator("#notify .copy").first.click()
    expect(page.locator("#notify .copy").first).to_have_text("Copied", timeout=LIMIT)
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#notify .example pre").first.inner_text()


#: What a single process that has just been started has to say to the examples about workers and messages.
REFUSED = {"/api/cluster/re": 409, "/api/cluster/scale": 409, "/api/trace/": 404}


def test_the_commands_work(server: Server, page: Page) -> None:
    open_all(page)
    curl = required("curl", "curl")
    keys = {"LARAVEL_API_KEY": LARAVEL_API_KEY, "ADMIN_KEY": ADMIN_KEY, "TOKEN": server.token(1)}
    commands = page.locator(".example pre").all_inner_texts()
    assert len(commands) >= operations(server)
    for command in commands:
        line = f"{curl} -q -w '\\n%{{http_code}}' {command.removeprefix('curl ')}"
        done = subprocess.run(
            ["bash", "-c", line], env=os.environ | keys, capture_output=True, text=True, timeout=REQUEST_LIMIT
        )
        status = next((status for part, status in REFUSED.items() if part in command), 200)
        assert done.stdout.endswith(f"\n{status}"), (command, done.stdout)


def test_without_the_description_it_says_so(browser: Browser, server: Server) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.route("**/api/openapi.json", lambda route: route.fulfill(status=429, body="{}"))
    page.goto(server.url + "/docs", timeout=LIMIT)
    expect(page.get_by_role("alert")).to_contain_text("The description cannot be read: 429", timeout=LIMIT)
    context.close()


def open_all(page: Page) -> None:
    """Open every operation, and every answer in it."""
    everything = "all => all.forEach((each) => (each.open = true))"
    page.locator(".operation").evaluate_all(everything)
    expect(page.locator(".operation .answers")).to_have_count(page.locator(".operation").count(), timeout=LIMIT)
    page.locator(".answers details").evaluate_all(everything)
