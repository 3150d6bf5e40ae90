"""The demo console in a real Chromium, against the real server: what a person clicks and then sees."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, WebSocketRoute, expect

from tests.server import Server

SIDES = ("left", "right")
LATENCY = re.compile(r"^\d+(\.\d)? ms$")
WATCH_CSP = """
window.violations = [];
addEventListener('securitypolicyviolation', (e) => violations.push(`${e.violatedDirective} ${e.blockedURI}`));
"""


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A page for the console; in the end no error in its console and no CSP violation is forgiven."""
    context = browser.new_context(base_url=server.url)
    context.add_init_script(WATCH_CSP)
    page = context.new_page()
    page.set_default_timeout(10_000)
    complaints: list[str] = []
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    violations = page.evaluate("window.violations ?? []")
    context.close()
    assert complaints == []
    assert violations == []


def opened(page: Page) -> Page:
    page.goto("/console")
    page.wait_for_selector("body[data-ready]")
    return page


def status(page: Page, side: str) -> Locator:
    return page.get_by_test_id(f"{side}-status")


def choose(page: Page, side: str, protocol: str) -> None:
    if protocol == "socketio" and page.locator("option[value=socketio][disabled]").count():
        pytest.fail("the server ships no socket.io-client: `make bundle` builds it in", pytrace=False)
    page.get_by_test_id(f"{side}-protocol").select_option(protocol)


def connect(page: Page, side: str, protocol: str = "native") -> None:
    choose(page, side, protocol)
    page.get_by_test_id(f"{side}-connect").click()
    expect(status(page, side)).to_have_attribute("data-state", "connected")


def chip(page: Page, side: str, channel: str) -> Locator:
    return page.locator(f'[data-testid="{side}-chip"][data-channel="{channel}"]')


def subscribe(page: Page, side: str, channel: str) -> None:
    chip(page, side, channel).click()
    expect(chip(page, side, channel)).to_have_attribute("data-state", "subscribed")


def rows(page: Page, side: str, event: str) -> Locator:
    return page.get_by_test_id(side).locator(f'[data-testid="row"][data-event="{event}"]')


def publish(page: Page, channel: str, event: str, data: str) -> None:
    page.get_by_test_id("publish-channel").fill(channel)
    page.get_by_test_id("publish-event").fill(event)
    page.get_by_test_id("publish-data").fill(data)
    page.get_by_test_id("publish").click()


def relayed(page: Page) -> Callable[[], WebSocketRoute]:
    """Stand between the page and ``/ws``: gives the newest connection, to add messages or to end it."""
    routes: list[WebSocketRoute] = []

    def relay(route: WebSocketRoute) -> None:
        route.connect_to_server()
        routes.append(route)

    page.route_web_socket("**/ws", relay)
    return lambda: routes[-1]


def test_the_page_comes_with_a_strict_policy(page: Page) -> None:
    answer = page.goto("/console")
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    page.wait_for_selector("body[data-ready]")
    for side in SIDES:
        expect(status(page, side)).to_have_text("Not connected.")


@pytest.mark.parametrize("right", ["native", "socketio"])
def test_both_users_see_a_publication_and_its_latency(page: Page, right: str) -> None:
    opened(page)
    for side, protocol in zip(SIDES, ("native", right), strict=True):
        connect(page, side, protocol)
        expect(status(page, side)).to_contain_text("Connected as")
        subscribe(page, side, "thread.1")

    publish(page, "thread.1", "comment.created", '{"title": "Bình luận mới về cơ cấu bánh răng ⚙️"}')

    expect(page.get_by_test_id("publish-answer")).to_contain_text("2 subscribers, answered in")
    for side in SIDES:
        row = rows(page, side, "comment.created")
        expect(row).to_have_count(1)
        expect(row.locator(".ms")).to_have_text(LATENCY)
        expect(page.get_by_test_id(f"{side}-p50")).to_have_text(LATENCY)
        expect(page.get_by_test_id(f"{side}-p99")).to_have_text(LATENCY)
        expect(page.get_by_test_id(f"{side}-count")).to_have_text("1")
        row.locator("summary").click()
        expect(row.locator("pre")).to_contain_text('"title": "Bình luận mới về cơ cấu bánh răng ⚙️"')


def test_a_publication_to_one_user_reaches_only_that_user(page: Page) -> None:
    opened(page)
    for side in SIDES:
        connect(page, side)
    publish(page, "private-user.1", "notification", '{"title": "Chỉ cho An"}')
    expect(rows(page, "left", "notification")).to_have_count(1)
    expect(page.get_by_test_id("publish-answer")).to_contain_text("1 subscriber, answered in")
    expect(rows(page, "right", "notification")).to_have_count(0)


@pytest.mark.parametrize("protocol", ["native", "socketio"])
def test_a_refused_channel_shows_its_error(page: Page, protocol: str) -> None:
    opened(page)
    connect(page, "left", protocol)
    page.get_by_test_id("left-channel").fill("private-user.2")
    page.get_by_test_id("left-channel").press("Enter")
    expect(chip(page, "left", "private-user.2")).to_have_attribute("data-state", "refused")
    expect(page.get_by_test_id("left-refusals")).to_contain_text("private-user.2 Unauthorized")


def test_an_unsubscribed_channel_is_quiet(page: Page) -> None:
    opened(page)
    connect(page, "left")
    subscribe(page, "left", "thread.1")
    chip(page, "left", "thread.1").click()
    expect(chip(page, "left", "thread.1")).to_have_attribute("data-state", "idle")
    publish(page, "thread.1", "comment.created", "{}")
    expect(page.get_by_test_id("publish-answer")).to_contain_text("0 subscribers")
    expect(rows(page, "left", "comment.created")).to_have_count(0)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ('{"title": ', "not valid JSON"),
        ("[1, 2]", "must be a JSON object"),
        ("null", "must be a JSON object"),
    ],
)
def test_bad_data_is_explained_and_not_sent(page: Page, data: str, complaint: str) -> None:
    opened(page)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/api/" in request.url else None)
    publish(page, "thread.1", "comment.created", data)
    expect(page.get_by_test_id("publish-fault")).to_contain_text(complaint)
    expect(page.get_by_test_id("publish-data")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_test_id("publish-data")).to_be_focused()
    assert sent == []
    page.get_by_test_id("publish-data").fill("{}")
    expect(page.get_by_test_id("publish-fault")).to_be_hidden()


def test_a_burst_arrives_whole(page: Page) -> None:
    opened(page)
    for side, protocol in zip(SIDES, ("native", "socketio"), strict=True):
        connect(page, side, protocol)
        subscribe(page, side, "thread.1")
    page.get_by_test_id("burst").click()
    expect(page.get_by_test_id("publish-answer")).to_contain_text("50 published, 100 deliveries")
    for side in SIDES:
        expect(page.get_by_test_id(f"{side}-count")).to_have_text("50")
        expect(rows(page, side, "comment.created")).to_have_count(50)


@pytest.mark.parametrize("protocol", ["native", "socketio"])
def test_typing_is_seen_by_the_other(page: Page, protocol: str) -> None:
    opened(page)
    for side in SIDES:
        connect(page, side, protocol)
        subscribe(page, side, "thread.1")
    page.get_by_test_id("left-typing-send").click()
    expect(page.get_by_test_id("right-typists")).to_have_text("Nguyễn Văn An is typing …")
    expect(page.get_by_test_id("left-typists")).to_be_empty()
    expect(page.get_by_test_id("right-typists")).to_be_empty()  # three quiet seconds later
    expect(rows(page, "right", "user_stopped_typing")).to_have_count(1)


@pytest.mark.parametrize("protocol", ["native", "socketio"])
def test_a_refused_token_says_why(page: Page, protocol: str) -> None:
    def spoil(route: Route) -> None:
        answer = route.fetch()
        config = answer.json()
        config["users"][0]["token"] = "not-a-token"
        route.fulfill(response=answer, body=json.dumps(config))

    page.route("**/console/config.json", spoil)
    opened(page)
    choose(page, "left", protocol)
    page.get_by_test_id("left-connect").click()
    expect(status(page, "left")).to_have_attribute("data-state", "refused")
    expect(status(page, "left")).to_contain_text("Refused: Authentication failed")
    expect(page.get_by_test_id("left-connect")).to_have_text("Connect")


@pytest.mark.parametrize("protocol", ["native", "socketio"])
def test_disconnecting_ends_the_connection(page: Page, protocol: str) -> None:
    opened(page)
    connect(page, "left", protocol)
    subscribe(page, "left", "thread.1")
    page.get_by_test_id("left-connect").click()
    expect(status(page, "left")).to_have_text("Disconnected by you.")
    expect(page.get_by_test_id("left-user")).to_be_enabled()

    def nobody_left() -> None:
        page.get_by_test_id("publish").click()
        expect(page.get_by_test_id("publish-answer")).to_contain_text("0 subscribers", timeout=500)

    try:
        nobody_left()
    except AssertionError:  # the close may still be on its way
        nobody_left()


def test_a_restart_is_explained_and_survived(page: Page) -> None:
    connection = relayed(page)
    opened(page)
    connect(page, "left")
    subscribe(page, "left", "thread.1")

    connection().close(code=1012, reason="service_restart")

    expect(status(page, "left")).to_contain_text("Closed 1012: service restart. Trying again in")
    expect(status(page, "left")).to_have_attribute("data-state", "connected")
    expect(chip(page, "left", "thread.1")).to_have_attribute("data-state", "subscribed")


def test_a_final_close_is_explained_and_respected(page: Page) -> None:
    connection = relayed(page)
    opened(page)
    connect(page, "left")
    connection().close(code=4004, reason="disconnected")
    expect(status(page, "left")).to_have_text("Closed 4004: disconnected by an administrator.")
    expect(status(page, "left")).to_have_attribute("data-state", "closed")


def test_the_log_is_bounded_and_its_newest_row_is_first(page: Page) -> None:
    connection = relayed(page)
    opened(page)
    connect(page, "left")
    for number in range(230):
        connection().send(json.dumps({"type": "event", "channel": "thread.1", "event": f"e{number}", "data": {}}))
    expect(rows(page, "left", "e229")).to_have_count(1)
    every = page.get_by_test_id("left").get_by_test_id("row")
    expect(every).to_have_count(200)
    expect(every.first).to_have_attribute("data-event", "e229")


def test_what_arrives_is_never_markup(page: Page) -> None:
    opened(page)
    connect(page, "left")
    subscribe(page, "left", "thread.1")
    publish(page, "thread.1", "<b>bold</b>", '{"title": "<img src=/nowhere onerror=alert(1)>"}')
    events = page.get_by_test_id("left").locator('[data-testid="row"][data-kind="event"]')
    row = events.filter(has_text="<b>bold</b>")
    expect(row.locator(".name")).to_have_text("<b>bold</b>")
    row.locator("summary").click()
    expect(row.locator("pre")).to_contain_text("<img src=/nowhere")
    expect(row.locator("b, img")).to_have_count(0)


def test_the_keyboard_is_enough(page: Page) -> None:
    opened(page)
    page.get_by_test_id("left-user").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(status(page, "left")).to_have_attribute("data-state", "connected")
    chip(page, "left", "thread.1").focus()
    page.keyboard.press("Space")
    expect(chip(page, "left", "thread.1")).to_have_attribute("aria-pressed", "true")
    page.get_by_test_id("publish-event").focus()
    page.keyboard.press("Enter")
    row = rows(page, "left", "comment.created")
    expect(row).to_have_count(1)
    row.locator("summary").press("Enter")
    expect(row.locator("pre")).to_be_visible()


def test_a_phone_needs_no_sideways_scrolling(browser: Browser, server: Server) -> None:
    context = browser.new_context(base_url=server.url, viewport={"width": 390, "height": 844}, is_mobile=True)
    page = opened(context.new_page())
    width = page.evaluate("document.documentElement.scrollWidth")
    context.close()
    assert width == 390
