"""``__proto__`` and its like are data: passed on untouched; nothing here, or in our own page, is changed by them."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Browser

from tests.clients.crowd import Member
from tests.server import Server

POISON = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"prototype":{"polluted":1}}'
KEYS = ("__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "__class__", "__init__")
PATHS = {
    "/api/broadcast": '{"channel":"private-user.81","event":"e","data":%s}',
    "/api/laravel-broadcast": '{"channels":["private-user.81"],"event":"e","data":%s}',
    "/api/broadcast/user/81": '{"event":"e","data":%s}',
    "/api/broadcast/multi": '{"broadcasts":[{"channel":"private-user.81","event":"e","data":%s}]}',
    "/api/notify": '{"action":"send_to_user","user_id":81,"data":%s}',
}


@pytest.mark.parametrize("path", PATHS)
def test_data_is_passed_on_untouched(server: Server, path: str) -> None:
    member = Member(server.port, server.token(81))
    try:
        answer = server.post(path, raw=(PATHS[path] % POISON).encode())
        assert answer.status_code == 200, answer.text
        got = member.wait_for(b"polluted").decode()
        # spliced, not parsed: the very text
        assert POISON[1:-1] in got
        assert json.loads(got)["data"]["__proto__"] == {"polluted": 1}
    finally:
        member.socket.close()


def test_members_of_these_names_mean_nothing_to_the_api(server: Server) -> None:
    for key in KEYS:
        body = {key: {"channel": "private-user.81", "event": "e", "success": True}, "data": {}}
        answer = server.post("/api/broadcast", body)
        assert answer.status_code == 400
        assert {fault["field"] for fault in answer.json()["details"]} == {"channel", "event"}
        assert server.post("/api/broadcast", {"channel": key, "event": key, "data": {key: key}}).status_code == 200
        assert server.post("/api/notify", {"action": key, "user_id": 1}).status_code == 400
        assert server.get(f"/socket.io/?EIO=4&transport={key}&{key}=1").status_code == 400
        assert server.get(f"/socket.io/?EIO=4&transport=polling&{key}[polluted]=1&sid={key}").status_code == 400
        assert server.get(f"/api/channels/{key}", key=True).json()["channel"] == key
        assert server.get(f"/{key}").status_code == 404


def test_client_events_of_these_names_and_with_these_members(server: Server) -> None:
    member = Member(server.port, server.token(82))
    try:
        for key in KEYS:
            member.send(type="event", id=key, event=key, data={key: {"polluted": 1}})
            assert json.loads(member.wait_for(b'"VALIDATION_ERROR"'))["id"] == key
            member.send(type=key, id=1)
            member.wait_for(b'"VALIDATION_ERROR"')
            member.send(**{"type": "subscribe", "id": 2, key: {"channel": "public.x"}, "channel": f"public.{key}"})
            assert json.loads(member.wait_for(b'"subscribed"'))["data"]["channel"] == f"public.{key}"
        member.send(type="ping", id=3, timestamp=json.loads(POISON))
        assert member.wait_for(b'"pong"')
    finally:
        member.socket.close()
    assert "Traceback" not in server.output()


def test_our_own_page_is_not_polluted(server: Server, browser: Browser) -> None:
    page = browser.new_context(base_url=server.url).new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto("/console")
    page.wait_for_selector("body[data-ready]")
    before = page.evaluate("Object.getOwnPropertyNames(Object.prototype).sort().join()")
    for side, protocol in (("left", "native"), ("right", "socketio")):
        page.get_by_test_id(f"{side}-protocol").select_option(protocol)
        page.get_by_test_id(f"{side}-connect").click()
        page.wait_for_selector(f'[data-testid="{side}-status"][data-state="connected"]')
        page.locator(f'[data-testid="{side}-chip"][data-channel="thread.1"]').click()
        page.wait_for_selector(f'[data-testid="{side}-chip"][data-channel="thread.1"][data-state="subscribed"]')
    for event in (*KEYS, "user_typing", "subscribed", "subscription_error", "notification"):
        body = json.dumps({"channel": "thread.1", "event": event}).replace("}", f', "data": {POISON}}}')
        assert server.post("/api/broadcast", raw=body.encode()).status_code == 200
        page.get_by_test_id("publish-event").fill(event)
        page.get_by_test_id("publish-data").fill(POISON)
        page.get_by_test_id("publish-channel").fill("thread.1")
        page.get_by_test_id("publish").click()
        for side in ("left", "right"):
            rows = page.get_by_test_id(side).locator(f'[data-testid="row"][data-event="{event}"]')
            rows.nth(1).wait_for(state="attached")
            rows.nth(0).locator("summary").click()
    page.get_by_test_id("publish-event").fill("constructor")
    assert page.get_by_test_id("publish-data").input_value() == POISON
    assert page.evaluate("[({}).polluted, [].polluted, (() => 0).polluted].every((x) => x === undefined)")
    assert page.evaluate("Object.getOwnPropertyNames(Object.prototype).sort().join()") == before
    assert complaints == []
    page.context.close()
