"""What the site changes in its database and tells nobody: the sweep finds it, and ends what has lost its ground."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.auth.people import number, person
from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import ConnectNode, NewMariaDB, StartServer
from tests.mariadb import MariaDB
from tests.server import Server

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def site(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that looks once a second."""
    settings = mariadb.settings(AUTH_SWEEP_INTERVAL="1000")
    running = Server.start(tmp_path_factory.mktemp("site"), settings)
    try:
        yield running
        assert "Traceback" not in running.output()
        running.stop()
    finally:
        running.end()


def signed_in(server: Server, token: str, *channels: str) -> NativeClient:
    client = NativeClient.open(server.ws_url, header=token)
    client.greeted()
    for place, channel in enumerate(channels):
        answer = client.ask(type="subscribe", id=place, channel=channel)
        assert answer.get("event") == "subscribed", answer
    return client


def ended(client: NativeClient) -> str:
    """A subscription has been taken away, and this is how it is told; the channel."""
    data = client.event("unsubscribed")["data"]
    assert data["reason"] == "Unauthorized"
    assert TIMESTAMP.fullmatch(data["timestamp"])
    channel: str = data["channel"]
    return channel


def alive(client: NativeClient) -> None:
    assert client.ask(type="ping", id="alive")["type"] == "pong"
    events = [one for one in client.seen if one["type"] == "event" and one["event"] == "unsubscribed"]
    assert events == [], "nothing was taken from who lost nothing"


def test_a_deleted_token_and_users_who_may_not_be_here(
    site: Server, mariadb: MariaDB, connect_node: ConnectNode
) -> None:
    users = [person(mariadb) for _ in range(6)]
    deleted, banned, inactive, gone, poor, other = (mariadb.token(user) for user in users)
    with (
        signed_in(site, deleted) as one,
        signed_in(site, banned) as two,
        signed_in(site, inactive) as three,
        signed_in(site, gone) as four,
        signed_in(site, poor) as five,
        signed_in(site, site.token(users[1])) as jwt_of_banned,
        signed_in(site, site.token(users[0])) as jwt_of_deleted,
        signed_in(site, other) as stays,
        signed_in(site, site.token(users[5])) as stays_too,
    ):
        node = connect_node(site.url, deleted).connected()
        node_banned = connect_node(site.url, banned).connected()
        mariadb.sql("DELETE FROM personal_access_tokens WHERE id = %s", deleted.split("|")[0])
        mariadb.sql("UPDATE users SET banned_at = '2026-01-01' WHERE id = %s", users[1])
        mariadb.sql("UPDATE users SET status = 'inactive' WHERE id = %s", users[2])
        mariadb.sql("DELETE FROM users WHERE id = %s", users[3])
        mariadb.sql("UPDATE personal_access_tokens SET abilities = '[\"read\"]' WHERE id = %s", poor.split("|")[0])
        assert one.closed() == (4005, "token_revoked")
        for client in (two, three, four, jwt_of_banned):
            assert client.closed() == (4006, "account_inactive")
        assert five.closed() == (4005, "token_revoked")
        assert node.message("force_disconnect")["reason"] == "token_revoked"
        assert node.wait("disconnect")["reason"] == "io server disconnect"
        assert node_banned.message("force_disconnect")["reason"] == "account_inactive"
        for client in (jwt_of_deleted, stays, stays_too):
            alive(client)
    # what was remembered of them is forgotten with them
    for token, reason in ((deleted, "Invalid token"), (banned, "User account is not active")):
        with NativeClient.open(site.ws_url, header=token) as client:
            assert client.next()["error"] == f"Authentication failed: {reason}"


def test_a_number_that_the_site_uses_again_is_another_token(site: Server, mariadb: MariaDB) -> None:
    user, heir = person(mariadb), person(mariadb)
    token = mariadb.token(user)
    with signed_in(site, token) as client:
        mariadb.sql("UPDATE personal_access_tokens SET tokenable_id = %s WHERE id = %s", heir, token.split("|")[0])
        assert client.closed() == (4005, "token_revoked")


def test_a_token_with_a_new_secret_is_another_token(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    user = person(mariadb)
    old, other = mariadb.token(user), mariadb.token(user)
    ident = old.split("|")[0]
    with signed_in(site, old) as client, signed_in(site, other) as stays:
        node = connect_node(site.url, old).connected()
        digest = hashlib.sha256(f"{ident:>048}".encode()).hexdigest().upper()
        mariadb.sql("UPDATE personal_access_tokens SET token = %s WHERE id = %s", digest, ident)
        assert client.closed() == (4005, "token_revoked")
        assert node.message("force_disconnect")["reason"] == "token_revoked"
        with NativeClient.open(site.ws_url, header=old) as late:
            assert late.next()["error"] == "Authentication failed: Invalid token"
        with signed_in(site, f"{ident}|{ident:>048}") as new:
            time.sleep(1.5)
            alive(new)
            alive(stays)


def test_a_token_whose_end_is_moved(site: Server, mariadb: MariaDB) -> None:
    """Nearer: the connection ends then. Further away: it stays."""
    user = person(mariadb)
    near = mariadb.token(user)
    far = mariadb.token(user, expires_at=datetime.now(UTC) + timedelta(seconds=3))
    with signed_in(site, near) as first, signed_in(site, far) as second:
        set_end = "UPDATE personal_access_tokens SET expires_at = %s WHERE id = %s"
        mariadb.sql(set_end, datetime.now(UTC) - timedelta(seconds=5), near.split("|")[0])
        mariadb.sql(set_end, datetime.now(UTC) + timedelta(hours=1), far.split("|")[0])
        assert first.closed() == (4003, "token_expired")
        # the far one's first end has passed when another token of that second has ended
        with signed_in(site, mariadb.token(user, expires_at=datetime.now(UTC) + timedelta(seconds=3))) as clock:
            assert clock.closed() == (4003, "token_expired")
        alive(second)


def test_a_role_that_changes(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    user = person(mariadb, "moderator")
    role = "notifications.role.moderator"
    channels = ("moderator.queue", "private-forum.2", "public.x", f"user.{user}", role)
    token = mariadb.token(user)
    node = connect_node(site.url, token).connected()
    assert node.ask("subscribe", {"channel": "presence-moderator.queue"})["status"] == "success"
    lost = ("moderator.queue", "private-forum.2", role)
    with signed_in(site, token, *channels) as by_token, signed_in(site, site.token(user), *channels) as by_jwt:
        mariadb.sql("UPDATE users SET role = 'member' WHERE id = %s", user)
        for client in (by_token, by_jwt):
            assert {ended(client) for _ in lost} == set(lost)
        assert node.message("unsubscribed")["channel"] == "presence-moderator.queue"
        site.publish("moderator.queue", "secret", {})
        site.publish("public.x", "hello", {})
        for client in (by_token, by_jwt):
            client.event("hello")
            assert [one for one in client.seen if one.get("event") == "secret"] == []
            answer = client.ask(type="subscribe", id=9, channel="moderator.queue")
            assert answer["error"] == "Unauthorized"
        assert node.messages("secret") == []
        # and back again: a new right may be used at once
        mariadb.sql("UPDATE users SET role = 'admin' WHERE id = %s", user)
        until(
            lambda: by_token.ask(type="subscribe", id=10, channel="admin.alerts").get("event") == "subscribed",
            lambda: "the new role has no effect",
        )


def test_rows_that_gave_a_right_to_a_channel(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    user, other = person(mariadb), person(mariadb)
    forum, thread, hidden, talk, seller = (number() for _ in range(5))
    mariadb.sql("INSERT INTO forums (id, is_private) VALUES (%s, 0)", forum)
    mariadb.sql("INSERT INTO threads (id, forum_id, user_id) VALUES (%s, %s, %s)", thread, forum, other)
    mariadb.sql("INSERT INTO threads (id, forum_id, user_id) VALUES (%s, 1, %s)", hidden, other)
    mariadb.sql("INSERT INTO marketplace_sellers (id, user_id) VALUES (%s, %s)", seller, user)
    for each in (user, other):
        mariadb.sql("INSERT INTO conversation_participants (conversation_id, user_id) VALUES (%s, %s)", talk, each)
        mariadb.sql("INSERT INTO group_members (conversation_id, user_id) VALUES (%s, %s)", talk, each)
    common = (f"private-conversation.{talk}", f"presence-group.{talk}", f"thread.{hidden}", f"forum.{forum}")
    token = mariadb.token(user)
    node = connect_node(site.url, token).connected()
    assert node.ask("subscribe", {"channel": f"conversation.{talk}"})["status"] == "success"
    with (
        signed_in(site, token, *common, f"thread.{thread}", f"seller.{seller}", "public.x") as client,
        signed_in(site, mariadb.token(other), *common, f"thread.{thread}", "public.x") as author,
    ):
        changes = {
            f"private-conversation.{talk}": ("DELETE FROM conversation_participants WHERE user_id = %s", user),
            f"presence-group.{talk}": ("UPDATE group_members SET is_active = 0 WHERE user_id = %s", user),
            f"thread.{hidden}": ("UPDATE threads SET hidden_at = '2026-01-01' WHERE id = %s", hidden),
            f"seller.{seller}": ("DELETE FROM marketplace_sellers WHERE id = %s", seller),
        }
        for statement, ident in changes.values():
            mariadb.sql(statement, ident)
        assert {ended(client) for _ in changes} == set(changes)
        told = node.message("unsubscribed")
        assert (told["channel"], told["reason"]) == (f"conversation.{talk}", "Unauthorized")
        alive(author)
        # a private forum is private for those who wrote in it, too
        mariadb.sql("UPDATE forums SET is_private = 1 WHERE id = %s", forum)
        for each in (client, author):
            assert {ended(each) for _ in range(2)} == {f"forum.{forum}", f"thread.{thread}"}
        for channel in (f"conversation.{talk}", f"group.{talk}", f"thread.{hidden}", "public.x"):
            site.publish(channel, "news", {"of": channel})
        assert client.event("news")["data"]["of"] == "public.x", "and of nothing else"
        assert author.event("news")["data"]["of"] == f"conversation.{talk}"
        assert node.messages("news") == []


def test_a_sweep_of_very_many_is_a_few_statements(start_server: StartServer, mariadb: MariaDB) -> None:
    """100 users, 100 connections, 300 subscriptions that rows decide about."""
    count = 100
    users = [number() for _ in range(count)]
    talk = number()
    people = [(user, f"N{user}", f"u{user}", f"u{user}@example.com", "member") for user in users]
    connection = mariadb.connect()
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO users (id, name, username, email, role) VALUES (%s, %s, %s, %s, %s)", people)
        for table in ("group_members", "conversation_participants"):
            rows = [(talk, user) for user in users]
            cursor.executemany(f"INSERT INTO {table} (conversation_id, user_id) VALUES (%s, %s)", rows)
    connection.close()
    server = start_server(**mariadb.settings(AUTH_SWEEP_INTERVAL="1000"))
    channels = (f"group.{talk}", f"conversation.{talk}", "thread.1")
    clients = [signed_in(server, server.token(user), *channels) for user in users]
    try:
        before = mariadb.count("Com_select")
        # somebody is banned, and then another: the sweep that finds the second has begun after the first was found
        for place in (0, 1, 2):
            mariadb.sql("UPDATE users SET banned_at = '2026-01-01' WHERE id = %s", users[place])
            assert clients[place].closed() == (4006, "account_inactive")
        spent = mariadb.count("Com_select") - before
        # a sweep is a query for the users, at most four for each kind of channel; each pool may be probed
        sweeps = 4
        assert spent <= sweeps * (1 + 3 * 4 + 2), f"{spent} queries in {sweeps} sweeps of {count} connections"
        for client in clients[3:]:
            alive(client)
    finally:
        for client in clients:
            client.connection.socket.close()


def test_nobody_loses_anything_while_the_database_is_away(start_server: StartServer, new_mariadb: NewMariaDB) -> None:
    database = new_mariadb()
    server = start_server(**database.settings(AUTH_SWEEP_INTERVAL="1000", DB_TIMEOUT="1000"))
    token = database.token(1)
    with signed_in(server, token, "conversation.1", "thread.1") as client:
        database.stop()
        until(lambda: "is away" in server.output(), server.output)
        with NativeClient.open(server.ws_url, header=f"1|{'a' * 48}") as stranger:
            assert stranger.next()["error"] == "Authentication failed: Temporarily unavailable"
        answer = server.post("/api/test-auth", {}, key=False, Authorization=f"Bearer 1|{'b' * 48}")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        # who is known comes in
        signed_in(server, token).connection.close()
        # two looks and more
        end = time.monotonic() + 2.2
        while time.monotonic() < end:
            alive(client)
        database.start()
        database.sql("DELETE FROM conversation_participants WHERE user_id = 1")
        assert ended(client) == "conversation.1"
