"""Groups, typing and limits over three workers and the site's MariaDB: who is where makes no difference."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import pytest

from mechamap_rt.commands.typing import EXPIRY, INTERVAL
from tests.auth.people import number, person
from tests.clients.native import NativeClient
from tests.clients.node import NodeClient
from tests.conftest import CLUSTER, ConnectNode, StartServer
from tests.e2e.test_python_socketio import Client
from tests.mariadb import MariaDB
from tests.redis_server import RedisServer
from tests.server import Server

#: Of the names of workers, with which the ids of their connections begin.
NAME = 6
#: Requests of one connection that are asked at once; more than 128 that wait would be refused for that.
PORTION = 100
#: Devices of one user that are opened until two workers have some.
MANY = 60


@pytest.fixture(scope="module")
def site(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server.start(tmp_path_factory.mktemp("site"), CLUSTER | mariadb.settings())
    try:
        yield running
        assert "Traceback" not in running.output()
        running.stop()
    finally:
        running.end()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is opened is closed."""
    with ExitStack() as one:
        yield one


def group(mariadb: MariaDB, *members: int, inactive: int | None = None) -> int:
    """A new group of these users."""
    ident = number()
    mariadb.sql("INSERT INTO conversations (id, title, is_group) VALUES (%s, 'test', 1)", ident)
    for user in members:
        statement = "INSERT INTO group_members (conversation_id, user_id, is_active) VALUES (%s, %s, %s)"
        mariadb.sql(statement, ident, user, int(user != inactive))
    return ident


def native(stack: ExitStack, server: Server, token: str) -> NativeClient:
    client = stack.enter_context(NativeClient.open(server.ws_url, header=token))
    client.greeted()
    return client


def worker(client: NativeClient) -> str:
    return str(client.seen[0]["socketId"][:NAME])


def spread(stack: ExitStack, server: Server, token: str, workers: int = 2) -> list[NativeClient]:
    """Native devices of one user, one on each of so many workers."""
    found: dict[str, NativeClient] = {}
    for _ in range(MANY):
        client = native(stack, server, token)
        found.setdefault(worker(client), client)
        if len(found) == workers:
            return [*found.values()]
    raise AssertionError(f"{MANY} devices are not on {workers} workers")


def ask(client: NativeClient, event: str, data: Any = None) -> dict[str, Any]:
    return client.ask(type="event", id=event, event=event, data=data)


def test_typing_of_two_devices_on_two_workers(site: Server, mariadb: MariaDB, stack: ExitStack) -> None:
    """Watched from two workers: one start in two seconds, and an end when the last device stops."""
    author, watcher = person(mariadb), person(mariadb)
    team = group(mariadb, author, watcher)
    devices = spread(stack, site, mariadb.token(author))
    watchers = spread(stack, site, mariadb.token(watcher))
    for client in (*devices, *watchers):
        assert ask(client, "join_group", team)["type"] == "reply"
    first, second = devices
    for _ in range(5):
        for device in devices:
            assert ask(device, "group_typing_start", team)["type"] == "reply"
    assert ask(first, "group_typing_stop", team)["type"] == "reply"
    # the other one types on; what it says now is heard after anything that the stop may have caused
    said = ask(second, "group_message", {"group_id": team, "message": "typed"})
    for client in watchers:
        events = heard_until(client, "group_message")
        assert (events.count("group_typing_start"), events.count("group_typing_stop")) == (1, 0)
    assert ask(second, "group_typing_stop", team)["type"] == "reply"
    assert ask(first, "group_typing_start", team)["type"] == "reply"
    for client in watchers:
        stopped, begun = client.event("group_typing_stop"), client.event("group_typing_start")
        assert stopped["data"]["user_id"] == begun["data"]["user_id"] == author
        started = next(one for one in client.seen if one.get("event") == "group_typing_start")
        apart = moment(begun) - moment(started)
        assert INTERVAL - 0.1 <= apart < EXPIRY
    first.connection.close()
    for client in watchers:
        assert client.event("group_typing_stop")["data"]["user_id"] == author
    assert said["data"]["group_id"] == team


def heard_until(client: NativeClient, event: str) -> list[str]:
    """The events that come until one of that name."""
    mark = len(client.seen)
    client.event(event)
    return [one["event"] for one in client.seen[mark:]]


def moment(message: dict[str, Any]) -> float:
    return datetime.fromisoformat(message["data"]["timestamp"]).timestamp()


def test_a_message_reaches_the_members_wherever_they_are(
    site: Server, mariadb: MariaDB, stack: ExitStack, connect_node: ConnectNode
) -> None:
    users = [person(mariadb) for _ in range(3)]
    stranger, former = person(mariadb), person(mariadb)
    team = group(mariadb, *users, former, inactive=former)
    natives = [device for user in users for device in spread(stack, site, mariadb.token(user))]
    browsers = [connect_node(site.url, mariadb.token(user)).connected() for user in users]
    python = Client().connect(site.url, auth={"token": mariadb.token(users[0])})
    stack.callback(python.io.disconnect)
    for client in natives:
        assert ask(client, "join_group", {"group_id": str(team)})["data"]["group_id"] == team
    both: list[NodeClient | Client] = [*browsers, python]
    for one in both:
        assert one.ask("join_group", {"group_id": team})["status"] == "success"
    for user in (stranger, former):
        outsider = native(stack, site, mariadb.token(user))
        for event in ("join_group", "group_message", "group_typing_start", "get_member_count"):
            error = ask(outsider, event, {"group_id": team, "message": "hello"})
            assert (error["code"], error["field"]) == ("PERMISSION_DENIED", "group_id")
    # a member need not have joined
    sender = native(stack, site, mariadb.token(users[1]))
    reply = ask(sender, "group_message", {"group_id": team, "message": "Chào", "timestamp": "2026-11-24T00:00:00Z"})
    for client in natives:
        told = client.event("group_message")
        assert (told["publication"], told["data"]["user"]["id"]) == (reply["data"]["id"], users[1])
        assert (told["data"]["message"], told["data"]["timestamp"]) == ("Chào", "2026-11-24T00:00:00Z")
    for browser in browsers:
        assert browser.message("group_message")["group_id"] == team
    assert python.wait("group_message")["group_id"] == team


def test_members_are_counted_in_the_sites_database(
    site: Server, mariadb: MariaDB, stack: ExitStack, connect_node: ConnectNode
) -> None:
    users = [person(mariadb) for _ in range(5)]
    team = group(mariadb, *users, inactive=users[4])
    devices = spread(stack, site, mariadb.token(users[0]))
    native(stack, site, mariadb.token(users[1]))
    native(stack, site, mariadb.token(users[4]))
    answer = ask(devices[0], "get_member_count", {"group_id": team})
    assert (answer["event"], answer["data"]["group_id"]) == ("member_count_updated", team)
    assert (answer["data"]["count"], answer["data"]["online"]) == (4, 2)
    browser = connect_node(site.url, mariadb.token(users[2])).connected()
    assert browser.ask("get_member_count", {"group_id": team})["online"] == 3
    # many who ask at once are few queries
    before = mariadb.count("Com_select")
    for client in devices:
        for at in range(50):
            client.send(type="event", id=at, event="get_member_count", data=team)
    counts: Counter[int] = Counter()
    for client in devices:
        counts.update(client.until(lambda message: "id" in message)["data"]["online"] for _ in range(50))
    assert counts == {3: 100}
    # a connection's own requests are carried out one after another, and each is one query then
    assert mariadb.count("Com_select") - before <= 2 * 50 + 10


def test_who_is_no_member_any_more_is_out(site: Server, mariadb: MariaDB, stack: ExitStack) -> None:
    member, other = person(mariadb), person(mariadb)
    team = group(mariadb, member, other)
    one, two = native(stack, site, mariadb.token(member)), native(stack, site, mariadb.token(other))
    for client in (two, one):
        ask(client, "join_group", team)
    ask(one, "group_typing_start", team)
    two.event("group_typing_start")
    mariadb.sql("UPDATE group_members SET is_active = 0 WHERE conversation_id = %s AND user_id = %s", team, member)
    body = {"channel": f"group.{team}", "user_id": member}
    assert site.post("/api/channels/revoke", body).json()["unsubscribed"] == 1
    told = {two.next()["event"] for _ in range(2)}
    assert told == {"group_typing_stop", "member_left"}
    assert one.event("unsubscribed")["data"]["reason"] == "Revoked"
    for event in ("join_group", "group_message", "get_member_count"):
        assert ask(one, event, {"group_id": team, "message": "still there"})["code"] == "PERMISSION_DENIED"


def test_debug_mode_counts_the_cluster(site: Server, mariadb: MariaDB, stack: ExitStack) -> None:
    admin = native(stack, site, mariadb.token(person(mariadb, "admin")))
    spread(stack, site, mariadb.token(person(mariadb)), 2)
    assert ask(admin, "debug_mode", {"enabled": True})["data"]["enabled"] is True
    stats = admin.event("connection_stats")["data"]
    assert stats["worker"] == worker(admin)
    total = site.get("/api/status").json()["connections"]["total"]
    assert stats["connections"] < stats["cluster"]["connections"] <= total


def test_typing_of_two_devices_on_two_hosts(start_server: StartServer, stack: ExitStack) -> None:
    """The same over Redis, with the members of the demo."""
    redis = RedisServer()
    stack.callback(redis.end)
    settings = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis.port)}
    hosts = [start_server(**settings, HOST_ID=host) for host in ("aaa", "bbb")]
    first, second = (native(stack, server, server.token(1)) for server in hosts)
    watchers = [native(stack, server, server.token(2)) for server in hosts]
    for client in (*watchers, first, second):
        assert ask(client, "join_group", 3)["type"] == "reply"
    for _ in range(3):
        assert ask(first, "group_typing_start", 3)["type"] == "reply"
    # heard there before it is said there
    second.event("group_typing_start")
    assert ask(second, "group_typing_start", 3)["type"] == "reply"
    assert ask(first, "group_typing_stop", 3)["type"] == "reply"
    # the question whether the other types on goes before this
    for device in (first, second):
        ask(device, "group_message", {"group_id": 3, "message": "typed"})
    for client in watchers:
        events = [*heard_until(client, "group_message"), *heard_until(client, "group_message")]
        assert (events.count("group_typing_start"), events.count("group_typing_stop")) == (1, 0)
    assert ask(second, "group_typing_stop", 3)["type"] == "reply"
    for client in watchers:
        assert client.event("group_typing_stop")["data"]["user_id"] == 1
    for device in (first, second):
        ask(device, "group_message", {"group_id": 3, "message": "sent"})
    for client in watchers:
        heard_until(client, "group_message")
        heard_until(client, "group_message")
        assert [one.get("event") for one in client.seen].count("group_typing_stop") == 1


# -- limits ------------------------------------------------------------------------------------------


def pour(client: NativeClient, count: int, event: str, data: Any) -> Counter[str]:
    """Ask so often, as fast as it goes; how the answers were: ``reply``, or the code of an error."""
    answers: list[dict[str, Any]] = []
    for began in range(0, count, PORTION):
        portion = range(began, min(began + PORTION, count))
        for at in portion:
            client.send(type="event", id=at, event=event, data=data)
        answers += [client.until(lambda message: "id" in message and message["type"] != "event") for _ in portion]
    refused = [answer for answer in answers if answer.get("code") == "RATE_LIMITED"]
    assert all(answer["details"]["retryAfter"] > 0 for answer in refused), "never silence, and always when"
    return Counter(answer.get("code", answer["type"]) for answer in answers)


def pour_together(clients: list[NativeClient], count: int, event: str, data: Any) -> Counter[str]:
    """The same from several clients at once."""
    found: list[Counter[str]] = []
    threads = [
        threading.Thread(target=lambda client=client: found.append(pour(client, count, event, data)))
        for client in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(clients)
    return sum(found, Counter())


@pytest.mark.parametrize(
    ("event", "setting", "limit"),
    [
        ("user_activity", "CLIENT_EVENTS_PER_MINUTE", 100),
        ("no_such_event", "CLIENT_EVENTS_PER_MINUTE", 100),
        ("typing_stop", "TYPING_EVENTS_PER_MINUTE", 120),
    ],
)
def test_events_of_a_users_devices(
    start_cluster: StartServer, stack: ExitStack, event: str, setting: str, limit: int
) -> None:
    """By default, on two workers; another user is not harmed."""
    server = start_cluster(**{setting: None})
    devices = spread(stack, server, server.token(7))
    answers = pour_together(devices, 100, event, "private-user.7")
    # as many at once, and a few that were earned meanwhile
    taken = answers["reply"] + answers["VALIDATION_ERROR"]
    assert limit <= taken <= limit + 5
    assert answers["RATE_LIMITED"] == 200 - taken
    bystander = native(stack, server, server.token(8))
    assert pour(bystander, 10, event, "private-user.8")["RATE_LIMITED"] == 0


def test_publications_of_a_channel(start_cluster: StartServer, mariadb: MariaDB, stack: ExitStack) -> None:
    """By default a thousand of all members together, on whatever worker; another group is not harmed."""
    server = start_cluster(**mariadb.settings(), CHANNEL_PUBLICATIONS_PER_MINUTE=None)
    one, two = person(mariadb), person(mariadb)
    team, other = group(mariadb, one, two), group(mariadb, one)
    members = [*spread(stack, server, mariadb.token(one)), *spread(stack, server, mariadb.token(two))]
    answers = pour_together(members, 300, "group_message", {"group_id": team, "message": "x"})
    assert 1000 <= answers["reply"] <= 1100
    assert answers == {"reply": answers["reply"], "RATE_LIMITED": 1200 - answers["reply"]}
    assert pour(members[0], 10, "group_message", {"group_id": other, "message": "x"}) == {"reply": 10}


def test_told_without_being_asked(start_cluster: StartServer, connect_node: ConnectNode) -> None:
    """Who emits without an acknowledgement is told by an event, on each of the devices."""
    server = start_cluster(CLIENT_EVENTS_PER_MINUTE="2", TYPING_EVENTS_PER_MINUTE="2")
    devices: list[NodeClient] = []
    while len({one.message("connected")["socketId"][:NAME] for one in devices}) < 2:
        assert len(devices) < MANY
        devices.append(connect_node(server.url, server.token(7)).connected())
    for event, data in (("no_such_event", {}), ("typing_stop", {"channel": "private-user.7"})):
        marks = [one.mark for one in devices]
        for one in devices * 3:
            one.emit(event, data)
        for one, mark in zip(devices, marks, strict=True):
            error = one.message("error", lambda told: told["code"] == "RATE_LIMITED", after=mark)
            assert error["details"]["retryAfter"] > 0
