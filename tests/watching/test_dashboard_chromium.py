"""The operators' page in a real browser, on a cluster with real clients."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import requests
from playwright.sync_api import expect

from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import CLUSTER
from tests.http.test_console_chromium import WATCH_CSP
from tests.server import ADMIN_KEY, REQUEST_LIMIT, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LIMIT = 10_000
#: A browser complains of requests that are refused, which some tests want.
REFUSALS = re.compile("Failed to load resource: the server responded with a status of 4")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server.start(
        tmp_path_factory.mktemp("server"), CLUSTER | {"CLUSTER_WORKERS": "2", "CLUSTER_DRAIN_TIME": "500"}
    )
    try:
        yield server
        server.stop()
    finally:
        server.end()


@pytest.fixture
def page(browser: Browser, cluster: Server) -> Iterator[Page]:
    context = browser.new_context()
    context.add_init_script(WATCH_CSP)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(cluster.url + "/dashboard", timeout=LIMIT)
    yield opened
    violations = opened.evaluate("window.violations")
    context.close()
    assert [text for text in complaints if not REFUSALS.match(text)] == []
    assert violations == []


def enter(page: Page, secret: str = ADMIN_KEY) -> None:
    page.get_by_test_id("secret").fill(secret)
    page.get_by_test_id("enter").click()


@pytest.fixture
def board(page: Page) -> Page:
    enter(page)
    expect(page.get_by_test_id("board")).to_be_visible(timeout=LIMIT)
    expect(page.locator("#workers tbody tr")).to_have_count(2, timeout=LIMIT)
    return page


def test_who_may_not_come_in(page: Page, cluster: Server) -> None:
    for secret in ("a-wrong-key", cluster.token(5), cluster.settings["LARAVEL_API_KEY"]):
        enter(page, secret)
        expect(page.get_by_test_id("refused")).to_be_visible(timeout=LIMIT)
        expect(page.get_by_test_id("board")).to_be_hidden()


def test_an_administrators_token_opens_it_until_the_tab_is_left(page: Page, cluster: Server) -> None:
    enter(page, cluster.token(9, role="admin"))
    expect(page.get_by_test_id("board")).to_be_visible(timeout=LIMIT)
    page.reload()
    expect(page.get_by_test_id("board")).to_be_visible(timeout=LIMIT)
    page.locator("#leave").click()
    expect(page.get_by_test_id("door")).to_be_visible()
    page.reload()
    expect(page.get_by_test_id("door")).to_be_visible()


def test_it_shows_what_is_going_on(board: Page, cluster: Server) -> None:
    tiles = board.get_by_test_id("tiles")
    expect(board.get_by_test_id("state")).to_have_text("healthy", timeout=LIMIT)
    with (
        NativeClient.open(cluster.ws_url, header=cluster.token(5)) as one,
        NativeClient.open(cluster.ws_url, header=cluster.token(5)) as two,
    ):
        for client in (one, two):
            client.greeted()
            client.ask(type="subscribe", id=1, channel="public.news")
        expect(tiles).to_contain_text("native websocket 2", timeout=LIMIT)
        for _ in range(10):
            cluster.publish("public.news", "e", {})
        expect(tiles.locator(".tile").nth(3)).to_contain_text("p99", timeout=LIMIT)
        expect(board.locator(".chart").first.locator("path").first).to_be_attached(timeout=LIMIT)
        expect(board.get_by_test_id("top")).to_contain_text("public.news", timeout=LIMIT)
        board.locator("[data-of=events]").click()
        expect(board.get_by_test_id("top")).to_contain_text("e10", timeout=LIMIT)
    assert "undefined" not in board.locator("main").inner_text()
    assert "NaN" not in board.locator("main").inner_text()
    assert "[object Object]" not in board.locator("main").inner_text()


def test_a_user_is_found_and_disconnected(board: Page, cluster: Server) -> None:
    with NativeClient.open(cluster.ws_url, header=cluster.token(7)) as client:
        client.greeted()
        client.ask(type="subscribe", id=1, channel="public.<script>".replace("<script>", "news"))
        board.get_by_test_id("asked").fill("7")
        board.get_by_test_id("look").click()
        expect(board.get_by_test_id("device")).to_have_count(1, timeout=LIMIT)
        expect(board.get_by_test_id("device")).to_contain_text("public.news")
        board.get_by_test_id("disconnect").click()
        board.get_by_test_id("sure").get_by_role("button", name="Cancel").click()
        client.ask(type="ping", id=2)
        board.get_by_test_id("disconnect").click()
        board.get_by_test_id("yes").click()
        assert client.closed()[0] == 4004
        expect(board.get_by_test_id("found")).to_contain_text("Not connected", timeout=LIMIT)


def test_a_message_is_found(board: Page, cluster: Server) -> None:
    with NativeClient.open(cluster.ws_url, header=cluster.token(7)) as client:
        client.greeted()
        ident = cluster.publish("user.7", "order.paid", {}).json()["id"]
        client.until(lambda message: message.get("event") == "order.paid")
        board.get_by_test_id("asked").fill(ident)
        board.get_by_test_id("whose").fill("7")
        board.get_by_test_id("look").click()
        expect(board.get_by_test_id("verdict")).to_contain_text("User 7: written", timeout=LIMIT)
        expect(board.get_by_test_id("found")).to_contain_text("order.paid")
    board.get_by_test_id("asked").fill("abc001-1")
    board.get_by_test_id("look").click()
    expect(board.get_by_test_id("found").get_by_role("alert")).to_contain_text("No such publication", timeout=LIMIT)


def test_a_name_is_no_html(board: Page, cluster: Server) -> None:
    name = "<img src=x onerror=alert(1)>"
    with NativeClient.open(cluster.ws_url, header=cluster.token(8, name=name)) as client:
        client.greeted()
        board.get_by_test_id("asked").fill("8")
        board.get_by_test_id("look").click()
        expect(board.get_by_test_id("found").locator("h3")).to_have_text(f"User 8, {name}", timeout=LIMIT)


def test_workers_are_steered(board: Page, cluster: Server) -> None:
    rows = board.locator("#workers tbody tr")
    before = {row["worker"] for row in cluster.workers()}
    board.get_by_test_id("more").click()
    board.get_by_test_id("yes").click()
    expect(rows).to_have_count(3, timeout=LIMIT)
    board.get_by_test_id("fewer").click()
    board.get_by_test_id("yes").click()
    expect(rows).to_have_count(2, timeout=LIMIT)
    number = max(row["worker"] for row in cluster.workers())
    board.get_by_test_id(f"restart-{number}").click()
    board.get_by_test_id("yes").click()
    expect(board.get_by_test_id(f"restart-{number}")).to_have_count(0, timeout=LIMIT)
    expect(rows).to_have_count(2, timeout=LIMIT)
    until(lambda: cluster.control("status")["state"] == "running", lambda: str(cluster.control("status")))
    expect(board.get_by_test_id("reload")).to_be_enabled(timeout=LIMIT)
    there = {row["worker"] for row in cluster.workers()}
    board.get_by_test_id("reload").click()
    board.get_by_test_id("yes").click()
    # the page's own connection moves with the others
    until(lambda: not there & {row["worker"] for row in cluster.workers()}, lambda: str(cluster.workers()), 20)
    expect(board.get_by_test_id("state")).to_have_text("healthy", timeout=LIMIT)
    expect(rows).to_have_count(2, timeout=LIMIT)
    assert before.isdisjoint(row["worker"] for row in cluster.workers())
    acts = (cluster.folder / "audit.log").read_text()
    for act in ("cluster.scale", "cluster.restart", "cluster.reload"):
        assert act in acts


def test_an_alert_is_shown(board: Page, cluster: Server) -> None:
    headers = {"X-Admin-Key": ADMIN_KEY}
    url = f"{cluster.url}/api/monitoring/thresholds"
    requests.put(url, json={"memoryPerWorker": 16 * 2**20}, headers=headers, timeout=REQUEST_LIMIT)
    expect(board.get_by_test_id("alerts")).to_contain_text("memoryPerWorker", timeout=2 * LIMIT)
    expect(board.get_by_test_id("state")).to_have_text("1 alert", timeout=LIMIT)
    expect(board.get_by_test_id("errors")).to_contain_text("Alert memoryPerWorker", timeout=LIMIT)
    requests.put(url, json={"memoryPerWorker": 2**31}, headers=headers, timeout=REQUEST_LIMIT)
    expect(board.get_by_test_id("alerts")).to_contain_text("1 cleared", timeout=2 * LIMIT)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 820, 1440])
def test_it_fits(board: Page, scheme: str, width: int) -> None:
    board.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    board.set_viewport_size({"width": width, "height": 800})
    expect(board.locator(".chart svg text").first).to_be_visible(timeout=LIMIT)
    assert board.evaluate("document.documentElement.scrollWidth") <= width
    # nothing that can be read is cut off by the edge of its tile
    for tile in board.locator(".tile strong").all():
        assert tile.evaluate("(each) => each.scrollWidth <= each.clientWidth")
