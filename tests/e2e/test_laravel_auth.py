"""The site's HTTP interface behind the server: who gets in, who hears what, and what if it does not answer."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import ConnectNode, StartServer
from tests.redis_server import Certificates, free_port
from tests.server import LARAVEL_API_KEY, Server
from tests.site import CHANNELS, VERIFY, Answer, Asked, Deaf, Site, token_of, user_of

UNAVAILABLE = "Authentication failed: Temporarily unavailable"

_numbers = itertools.count(1000)
#: What must never be told to anybody: a part of every Sanctum token of these tests.
SECRET = "xxxxxxxx"

StartSite = Callable[..., Site]


@pytest.fixture(scope="module")
def everybody() -> Iterator[Site]:
    """The site that all tests of this module share; each has users of its own in it."""
    site = Site()
    try:
        yield site
    finally:
        site.end()


@pytest.fixture
def site(everybody: Site) -> Site:
    """The shared site as it should be, with an empty account."""
    everybody.asked.clear()
    everybody.script.clear()
    everybody.always = None
    return everybody


@pytest.fixture(scope="module")
def asking(everybody: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks the site about everything, and logs all it can."""
    settings = {"LARAVEL_API_URL": everybody.url, "CHANNEL_AUTH": "laravel", "LOG_LEVEL": "debug"}
    running = Server.start(tmp_path_factory.mktemp("asking"), settings)
    try:
        yield running
        output = running.output()
        assert "Traceback" not in output
        assert SECRET not in output, "a token was logged"
        running.stop()
    finally:
        running.end()


@pytest.fixture
def start_site() -> Iterator[StartSite]:
    """``start_site(…)``: a site of this test's own."""
    with ExitStack() as stack:

        def start(*arguments: Any, **more: Any) -> Site:
            one = Site(*arguments, **more)
            stack.callback(one.end)
            return one

        yield start


def enrol(site: Site, **more: Any) -> tuple[int, str]:
    """A new user of the site, and its token."""
    number = next(_numbers)
    site.users[token_of(number)] = user_of(number, **more)
    return number, token_of(number)


def greeted(server: Server, token: str) -> NativeClient:
    client = NativeClient.open(server.ws_url, header=token)
    client.greeted()
    return client


def turned_away(server: Server, connect_node: ConnectNode, token: str) -> tuple[str, str, bool]:
    """What clients of both protocols are told, which is the same: message, code, and may they come back?"""
    with NativeClient.open(server.ws_url, header=token) as native:
        said = native.next()
        assert said["type"] == "error", said
        code, _ = native.closed()
    told = connect_node(server.url, token).wait("connect_error")
    assert told["message"] == said["error"]
    return said["error"], said["code"], code != 4001


def may(client: NativeClient, channel: str) -> bool:
    answer = client.ask(type="subscribe", id=channel, channel=channel)
    assert answer["type"] == "reply" or answer["code"] == "PERMISSION_DENIED", answer
    return bool(answer["type"] == "reply")


def asked_of(site: Site, path: str) -> list[Asked]:
    return [one for one in site.asked if one.path == path]


# -- who gets in -----------------------------------------------------------------------------------


def test_the_site_says_who_it_is(asking: Server, site: Site, connect_node: ConnectNode) -> None:
    user, token = enrol(
        site, name="Nguyễn Thị Ánh-Đào 🔧", role="moderator", permissions=["receive_notifications", "x"]
    )
    browser = connect_node(asking.url, token)
    assert browser.message("connected")["userId"] == user
    answer = browser.ask("authenticate", {"token": f"Bearer {token}"})
    assert answer["user"] == {
        "id": user,
        "name": "Nguyễn Thị Ánh-Đào 🔧",
        "email": f"u{user}@example.org",
        "role": "moderator",
    }
    assert answer["permissions"] == ["receive_notifications", "x"]
    with NativeClient.open(asking.ws_url, query=token) as native:
        assert native.greeted()["userId"] == user
    [asked] = site.asked
    assert (asked.method, asked.path, asked.json) == ("POST", VERIFY, {"token": token})
    assert asked.headers["x-websocket-api-key"] == LARAVEL_API_KEY


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(401, {"success": False, "message": "Invalid token"}), "Invalid token"),
        (Answer(401, {"success": False, "message": "Token expired"}), "Token expired"),
        (Answer(403, {"success": False, "message": "User account is not active"}), "User account is not active"),
        (Answer(403, {"success": False, "message": "Forbidden"}), "Insufficient permissions"),
        (Answer(200, {"data": {"user": user_of(5, status="banned")}}), "User account is not active"),
        (Answer(200, {"data": {"user": user_of(5, permissions=[])}}), "Insufficient permissions"),
        (Answer(200, {"data": {"user": user_of("five")}}), "Invalid token"),
        (Answer(422, {"message": "The token field is required."}), "Invalid token"),
    ],
)
def test_whom_the_site_refuses(
    asking: Server, site: Site, connect_node: ConnectNode, answer: Answer, reason: str
) -> None:
    site.always = answer
    message, code, back = turned_away(asking, connect_node, token_of(next(_numbers)))
    assert (message, code, back) == (f"Authentication failed: {reason}", "AUTH_FAILED", False)
    assert len(site.asked) == 1, "a refusal is remembered for a moment"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, {"message": "Server Error"}),
        Answer(404, {"message": "Not Found"}),
        Answer(429, {"message": "Too Many Attempts."}),
        Answer(200, b"<html>Maintenance</html>", {"Content-Type": "text/html"}),
        Answer(200, {"data": {"user": user_of(5)}}, cut=9),
        Answer(302, b"", {"Location": "/login"}),
        Answer(hang_up=True),
    ],
)
def test_when_it_cannot_be_found_out(asking: Server, site: Site, connect_node: ConnectNode, answer: Answer) -> None:
    _, token = enrol(site)
    greeted(asking, enrol(site)[1]).connection.close()
    site.always = answer
    assert turned_away(asking, connect_node, token) == (UNAVAILABLE, "SERVER_ERROR", True)
    site.always = None
    # nothing of that is remembered
    with greeted(asking, token):
        pass


def test_a_live_connection_outlives_a_site_that_does_not_answer(
    asking: Server, site: Site, connect_node: ConnectNode
) -> None:
    user, token = enrol(site)
    other = token_of(next(_numbers))
    site.users[other] = user_of(user)
    browser = connect_node(asking.url, token).connected()
    site.script.append(Answer(500))
    refusal = browser.ask("authenticate", {"token": other})
    assert (refusal["status"], refusal["error"], refusal["code"]) == ("error", UNAVAILABLE, "AUTH_FAILED")
    assert browser.message("authentication_error")["error"] == UNAVAILABLE
    assert browser.ask("authenticate", {"token": other})["user"]["id"] == user


def test_many_at_once_with_one_token_make_one_request(asking: Server, site: Site, connect_node: ConnectNode) -> None:
    user, token = enrol(site)
    site.script.append(Answer(200, {"user": user_of(user)}, stall=-1))
    with ExitStack() as stack:
        clients = [stack.enter_context(NativeClient.open(asking.ws_url, header=token)) for _ in range(290)]
        browsers = [connect_node(asking.url, token) for _ in range(10)]
        site.release()
        for client in clients:
            assert client.greeted()["userId"] == user
        for browser in browsers:
            browser.connected()
        assert len(site.asked) == 1
        for client in clients:
            client.connection.socket.close()


def test_a_jwt_needs_no_site(asking: Server, site: Site) -> None:
    site.always = Answer(500)
    with greeted(asking, asking.token(7)):
        pass
    assert site.asked == []


def test_another_backend_does_not_ask_the_site(site: Site, start_server: StartServer) -> None:
    server = start_server(LARAVEL_API_URL=site.url, AUTH_BACKEND="database")
    _, token = enrol(site)
    with NativeClient.open(server.ws_url, header=token) as client:
        assert client.next()["error"] == "Authentication failed: Invalid token"
    assert site.asked == []


# -- who hears what --------------------------------------------------------------------------------


def test_the_site_decides_about_channels(asking: Server, site: Site, connect_node: ConnectNode) -> None:
    user, token = enrol(site)
    site.channels = {"private-group.9": {token}}
    browser = connect_node(asking.url, token)
    socket = browser.message("connected")["socketId"]
    assert browser.ask("subscribe", {"channel": "private-group.9"})["status"] == "success"
    refusal = browser.ask("subscribe", {"channel": "group.10"})
    assert (refusal["status"], refusal["code"], refusal["error"]) == ("error", "PERMISSION_DENIED", "Unauthorized")
    assert browser.message("subscription_error")["channel"] == "group.10"
    for own in (f"user.{user}", f"private-user.{user}"):
        assert browser.ask("subscribe", {"channel": own})["status"] == "success"

    asked = asked_of(site, CHANNELS)
    assert [one.form for one in asked] == [
        {"socket_id": [socket], "channel_name": [name]} for name in ("private-group.9", "group.10")
    ]
    assert {one.headers["authorization"] for one in asked} == {f"Bearer {token}"}
    assert asking.publish("group.9", "message.sent", {"n": 1}).json()["subscriberCount"] == 1
    browser.message("message.sent")


def test_a_jwt_is_a_bearer_too(asking: Server, site: Site) -> None:
    token = asking.token(next(_numbers), role="admin")
    site.channels = {"thread.1": {token}}
    with greeted(asking, token) as client:
        assert may(client, "thread.1")
        assert not may(client, "admin.alerts"), "the site decides, whatever the role"
        fresh = asking.token(next(_numbers))
        assert client.ask(type="auth", id=1, token=fresh)["code"] == "INVALID_TOKEN"
        assert {one.headers["authorization"] for one in site.asked} == {f"Bearer {token}"}
    assert token not in asking.output()


def test_a_refreshed_token_is_the_bearer_from_then_on(asking: Server, site: Site) -> None:
    user = next(_numbers)
    old, new = asking.token(user), asking.token(user, expires_in=7200)
    site.channels = {"thread.2": {old}, "thread.3": {new}}
    with greeted(asking, old) as client:
        assert may(client, "thread.2")
        assert client.ask(type="auth", id=1, token=new)["event"] == "authenticated"
        assert may(client, "thread.3")
        # what only the token before was allowed to hear has ended
        told = [one["data"] for one in client.seen if one.get("event") == "unsubscribed"]
        assert [(data["channel"], data["reason"]) for data in told] == [("thread.2", "Unauthorized")]


def test_a_user_s_tokens_may_hear_different_things(asking: Server, site: Site) -> None:
    user = next(_numbers)
    rich, poor = asking.token(user), asking.token(user, expires_in=7200)
    site.channels = {"thread.4": {rich}}
    with greeted(asking, rich) as one, greeted(asking, poor) as other:
        for _ in range(2):
            assert may(one, "thread.4")
            assert not may(other, "thread.4")
        assert len(asked_of(site, CHANNELS)) == 2


def test_when_the_site_does_not_decide_nobody_is_disconnected(
    site: Site, start_server: StartServer, connect_node: ConnectNode
) -> None:
    server = start_server(LARAVEL_API_URL=site.url, CHANNEL_AUTH="laravel", LARAVEL_TIMEOUT="500")
    _, token = enrol(site)
    site.channels = {"thread.1": {token}}
    browser = connect_node(server.url, token).connected()
    with greeted(server, token) as native:
        failing = [Answer(500), Answer(404), Answer(stall=-1), Answer(200, b"{}", stall=1), Answer(hang_up=True)]
        for number, answer in enumerate(failing):
            site.always = answer
            for name in (f"thread.{number + 10}", f"private-thread.{number + 10}"):
                refusal = browser.ask("subscribe", {"channel": name})
                assert (refusal["code"], refusal["error"]) == ("SERVER_ERROR", "Temporarily unavailable"), answer
                error = browser.message("subscription_error", lambda said, name=name: said["channel"] == name)
                assert error["code"] == "SERVER_ERROR"
            site.always = None
            site.release()
            # never five failures in a row: what happens then is shown elsewhere
            assert not may(native, f"thread.{number + 20}")
        said = native.ask(type="subscribe", id=1, channel="thread.1")
        assert said["type"] == "reply"
        site.script.append(Answer(503))
        said = native.ask(type="subscribe", id=2, channel="thread.9")
        assert (said["type"], said["code"], said["error"]) == ("error", "SERVER_ERROR", "Temporarily unavailable")
    assert browser.ask("subscribe", {"channel": "thread.1"})["status"] == "success"
    assert browser.state["connected"]
    assert not [one for one in browser.seen if one["event"] == "disconnect"]


def test_decisions_are_remembered_until_they_are_revoked(asking: Server, site: Site, connect_node: ConnectNode) -> None:
    user, token = enrol(site)
    site.channels = {"thread.1": {token}, "private-thread.1": {token}}

    def asked() -> int:
        return len(asked_of(site, CHANNELS))

    with greeted(asking, token) as client:
        assert may(client, "thread.1")
        for _ in range(3):
            client.ask(type="unsubscribe", id=1, channel="thread.1")
            assert may(client, "thread.1")
        other = connect_node(asking.url, token).connected()
        assert other.ask("subscribe", {"channel": "thread.1"})["status"] == "success"
        assert asked() == 1
        assert may(client, "private-thread.1")
        assert asked() == 2

        site.channels = {}
        revoked = asking.post("/api/channels/revoke", {"channel": "thread.1", "user_id": user})
        assert revoked.json()["unsubscribed"] == 2, revoked.text
        assert client.event("unsubscribed")["data"]["reason"] == "Revoked"
        other.message("unsubscribed")
        assert not may(client, "thread.1")
        assert not may(client, "private-thread.1")
        assert asked() == 4


def test_a_revoked_user_is_asked_about_again(asking: Server, site: Site) -> None:
    user, token = enrol(site)
    site.channels = {"thread.1": {token}}
    with greeted(asking, token) as client:
        assert may(client, "thread.1")
        assert asking.post("/api/auth/revoke", {"user_id": user}).json()["disconnected"] == 1
        client.closed()
    site.channels = {}
    with greeted(asking, token) as client:
        assert not may(client, "thread.1")
    assert site.paths() == [VERIFY, CHANNELS, VERIFY, CHANNELS]
    # the number of a token of Sanctum's is what stands before its bar
    del site.users[token]
    assert asking.post("/api/auth/revoke", {"token_id": user}).status_code == 200
    with NativeClient.open(asking.ws_url, header=token) as client:
        assert client.next()["error"] == "Authentication failed: Invalid token"


def test_tokens_are_told_to_nobody(asking: Server, site: Site) -> None:
    user, token = enrol(site)
    site.channels = {"thread.1": {token}}
    with greeted(asking, token) as client:
        assert may(client, "thread.1")
        told = [asking.mechamapctl(*more, name).stdout for more in ((), ("--json",)) for name in _COMMANDS]
        assert str(user) in "".join(told), "the connection is listed"
        paths = ["/", "/api/health", "/api/status", "/api/channels/stats", "/api/channels/thread.1"]
        told += [asking.get(path, key=True).text for path in paths]
        told.append(asking.post("/api/test-auth", {}, key=False, Authorization=f"Bearer {token}").text)
        assert f'"id":{user}' in told[-1]
        told.append(str(client.ask(type="auth", id=1, token=token)))
        site.script.append(Answer(500))
        client.ask(type="subscribe", id=2, channel="thread.2")
        told.append(asking.output())
    for one in told:
        assert SECRET not in one


_COMMANDS = ("status", "connections", "channels", "logs")


# -- when it is away -------------------------------------------------------------------------------


def test_a_site_that_is_away_is_left_alone_and_found_again(
    start_server: StartServer, start_site: StartSite, connect_node: ConnectNode
) -> None:
    port = free_port()
    server = start_server(LARAVEL_API_URL=f"http://127.0.0.1:{port}", CHANNEL_AUTH="laravel")
    for number in range(3):
        assert turned_away(server, connect_node, token_of(number + 1)) == (UNAVAILABLE, "SERVER_ERROR", True)
    until(lambda: "ConnectionRefusedError" in server.output(), server.output)
    site = start_site(port=port)
    token = token_of(9)
    site.users[token] = user_of(9)

    def let_in() -> bool:
        with NativeClient.open(server.ws_url, header=token) as client:
            return bool(client.next()["type"] == "connected")

    until(let_in, server.output)
    assert site.accepted == 1
    connect_node(server.url, token).connected()


def test_stopping_does_not_wait_for_a_site_that_does_not_answer(start_server: StartServer) -> None:
    deaf = Deaf()
    try:
        server = start_server(LARAVEL_API_URL=deaf.url, LARAVEL_TIMEOUT="60000")
        with ExitStack() as stack:
            for number in range(30):
                stack.enter_context(NativeClient.open(server.ws_url, header=token_of(number + 1)))
            server.stop()
        assert "Traceback" not in server.output()
    finally:
        deaf.end()


# -- TLS -------------------------------------------------------------------------------------------


def test_an_authority_of_ones_own(
    tmp_path: Path, start_server: StartServer, start_site: StartSite, connect_node: ConnectNode
) -> None:
    certificates = Certificates(tmp_path / "ours")
    site = start_site(certificates.issue("site"))
    user, token = enrol(site)
    trusting = start_server(LARAVEL_API_URL=site.url, LARAVEL_CA=certificates.ca)
    assert connect_node(trusting.url, token).message("connected")["userId"] == user
    with NativeClient.open(trusting.ws_url, header=token) as client:
        assert client.greeted()["userId"] == user
    assert len(site.asked) == 1
    trusting.stop()

    wary = start_server(LARAVEL_API_URL=site.url)
    assert turned_away(wary, connect_node, token) == (UNAVAILABLE, "SERVER_ERROR", True)
    assert len(site.asked) == 1, "a stranger is told nothing"
    assert "certificate verify failed" in wary.output()


def does_not_start(folder: Path, settings: dict[str, str | None]) -> str:
    """What a server says that cannot start."""
    started = time.monotonic()
    with pytest.raises(AssertionError) as fault:
        Server.start(folder, settings)
    assert time.monotonic() - started < 10
    text = str(fault.value)
    assert "Traceback" not in text, text
    return text


@pytest.mark.parametrize("content", [None, "", "no certificate", "key"])
def test_a_bad_file_of_authorities_stops_the_start(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "authorities.pem"
    if content == "key":
        file.write_bytes((Certificates(tmp_path / "ours").folder / "ca.key").read_bytes())
    elif content is not None:
        file.write_text(content)
    text = does_not_start(tmp_path, {"LARAVEL_API_URL": "https://127.0.0.1:9", "LARAVEL_CA": str(file)})
    assert "LARAVEL_CA" in text


# -- without one -----------------------------------------------------------------------------------


def test_the_mock_answers_in_the_sites_place(start_server: StartServer, connect_node: ConnectNode) -> None:
    server = start_server(
        MOCK_LARAVEL_API="true", MOCK_USER_ID="77", MOCK_USER_ROLE="moderator", CHANNEL_AUTH="laravel"
    )
    browser = connect_node(server.url, token_of(1))
    assert browser.message("connected")["userId"] == 77
    assert browser.ask("subscribe", {"channel": "group.123"})["status"] == "success"
    with greeted(server, token_of(2)) as native:
        assert native.ask(type="auth", id=1, token=token_of(2))["data"]["user"]["role"] == "moderator"
    with NativeClient.open(server.ws_url, header="no token") as native:
        assert native.next()["error"] == "Authentication failed: Invalid token"


def test_but_not_in_production(tmp_path: Path) -> None:
    text = does_not_start(tmp_path, {"NODE_ENV": "production", "MOCK_LARAVEL_API": "true"})
    assert "MOCK_LARAVEL_API" in text
