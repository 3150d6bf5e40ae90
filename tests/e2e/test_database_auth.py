"""The site's database behind the server: who gets in, over both protocols, and what is written there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.auth.people import number, person
from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import ConnectNode, StartServer
from tests.mariadb import MariaDB
from tests.server import Server


@pytest.fixture(scope="module")
def site(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks the database."""
    running = Server.start(tmp_path_factory.mktemp("site"), mariadb.settings())
    try:
        yield running
        assert "Traceback" not in running.output()
        running.stop()
    finally:
        running.end()


def refused_natively(server: Server, token: str) -> str:
    """What a native client is told before it is sent away."""
    with NativeClient.open(server.ws_url) as client:
        client.send(type="auth", id=1, token=token)
        answer = client.next()
        assert answer["type"] == "error", answer
        assert answer["code"] == "AUTH_FAILED"
        code, _ = client.closed()
        assert code == 4001
        message: str = answer["error"]
        return message


def refused(server: Server, connect_node: ConnectNode, token: str) -> str:
    """What clients of both protocols are told, which must be the same."""
    natively = refused_natively(server, token)
    client = connect_node(server.url, token)
    told = client.wait("connect_error")["message"]
    assert told == natively
    assert not client.state["active"], "the client stays away"
    return natively


def greeted(server: Server, token: str) -> NativeClient:
    client = NativeClient.open(server.ws_url, header=token)
    client.greeted()
    return client


def whoami(server: Server, token: str) -> dict[str, Any]:
    """The user as ``authenticate`` tells."""
    with greeted(server, token) as client:
        answer = client.ask(type="auth", id=2, token=token)
        assert answer["event"] == "authenticated", answer
        data: dict[str, Any] = answer["data"]
        return data


# -- who gets in -----------------------------------------------------------------------------------


def test_a_valid_token_of_either_kind(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    user = person(mariadb, "senior")
    for token in (mariadb.token(user), site.token(user)):
        with NativeClient.open(site.ws_url, header=token) as client:
            assert client.greeted()["userId"] == user
        with NativeClient.open(site.ws_url, query=token) as client:
            assert client.greeted()["userId"] == user
        for given in (token, f"Bearer {token}"):
            node = connect_node(site.url, given)
            assert node.message("connected")["userId"] == user


def test_names_arrive_with_all_their_letters(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    name = "Nguyễn Thị Ánh-Đào 🔧 “Kỹ sư” \\ ' \" <b>"
    user = person(mariadb, name=name, avatar="/ảnh/đ.png")
    token = mariadb.token(user)
    assert whoami(site, token)["user"]["name"] == name
    assert whoami(site, site.token(user, name="Mallory"))["user"]["name"] == name
    node = connect_node(site.url, token).connected()
    assert node.ask("authenticate", {"token": token})["user"]["name"] == name


def test_a_jwt_s_role_comes_from_the_row(site: Server, mariadb: MariaDB) -> None:
    member, admin = person(mariadb), person(mariadb, "admin")
    with greeted(site, site.token(member, role="super_admin")) as client:
        assert client.ask(type="subscribe", id=1, channel="admin.alerts")["type"] == "error"
    with greeted(site, site.token(admin, role="guest")) as client:
        assert client.ask(type="subscribe", id=1, channel="admin.alerts")["event"] == "subscribed"
    assert whoami(site, site.token(member, role="super_admin"))["user"]["role"] == "member"


def test_permissions_come_from_the_token_and_the_row(site: Server, mariadb: MariaDB) -> None:
    user = person(mariadb, permissions='["broadcast"]')
    assert whoami(site, mariadb.token(user))["permissions"] == ["receive_notifications", "broadcast"]
    jwt = site.token(user, permissions=["websocket:connect", "x"])
    assert whoami(site, jwt)["permissions"] == ["websocket:connect", "x", "broadcast"]


# -- who does not ----------------------------------------------------------------------------------


def test_wrong_secrets(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    user = person(mariadb)
    one, other = mariadb.token(user), mariadb.token(person(mariadb))
    (first, secret), (second, other_secret) = one.split("|"), other.split("|")
    wrong = "Authentication failed: Invalid token"
    assert refused(site, connect_node, f"{first}|{secret[:-1]}x") == wrong
    assert refused(site, connect_node, f"{first}|{other_secret}") == wrong, "the secret of another row"
    assert refused(site, connect_node, f"{second}|{secret}") == wrong
    assert refused(site, connect_node, f"{number()}|{secret}") == wrong
    assert refused_natively(site, f"{first}|{secret.upper()}") == wrong
    digest = mariadb.sql("SELECT token FROM personal_access_tokens WHERE id = %s", first)[0][0]
    assert refused_natively(site, f"{first}|{digest}") == wrong, "what the database holds opens nothing"
    with greeted(site, one), greeted(site, other):
        pass


def test_expired_tokens(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    user = person(mariadb)
    passed = datetime.now(UTC) - timedelta(seconds=5)
    assert refused(site, connect_node, mariadb.token(user, expires_at=passed)) == "Authentication failed: Token expired"
    assert refused(site, connect_node, site.token(user, expires_in=-5)) == "Authentication failed: Token expired"


def test_a_token_that_expires_ends_its_connections(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    user = person(mariadb)
    # the column has whole seconds
    end = (datetime.now(UTC) + timedelta(seconds=2.5)).replace(microsecond=0)
    sanctum, lasting = mariadb.token(user, expires_at=end), mariadb.token(user)
    with greeted(site, sanctum) as native, greeted(site, lasting) as extended, greeted(site, sanctum) as renewed:
        node = connect_node(site.url, sanctum).connected()
        assert renewed.ask(type="auth", id=1, token=lasting)["event"] == "authenticated"
        assert native.closed() == (4003, "token_expired")
        assert time.time() >= end.timestamp()
        assert node.message("force_disconnect")["reason"] == "token_expired"
        assert node.wait("disconnect")["reason"] == "io server disconnect"
        for alive in (extended, renewed):
            assert alive.ask(type="ping", id=7)["type"] == "pong"


def test_users_who_are_not_active(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    no = "Authentication failed: User account is not active"
    states = [{"status": "inactive"}, {"status": "banned"}, {"is_active": 0}, {"banned_at": "2026-01-01 00:00:00"}]
    for columns in states:
        user = person(mariadb, **columns)
        assert refused(site, connect_node, mariadb.token(user)) == no
        assert refused(site, connect_node, site.token(user)) == no
    assert refused(site, connect_node, mariadb.token(number())) == no, "a token of a user who is gone"
    assert refused(site, connect_node, site.token(number(), role="admin")) == no


def test_abilities(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    user = person(mariadb)
    for abilities in ('["*"]', '["websocket:receive-notifications"]', '["read", "*"]'):
        with greeted(site, mariadb.token(user, abilities)):
            pass
    malformed = ("", "[", "null", "*", '"*"', '{"0": "*"}', '[["*"]]', "[1]", '["*"')
    for place, abilities_ in enumerate(('["websocket:connect"]', '["read"]', "[]", None, *malformed)):
        token = mariadb.token(user, abilities_)
        told = refused(site, connect_node, token) if place < 4 else refused_natively(site, token)
        assert told == "Authentication failed: Insufficient permissions", abilities_


def test_a_token_of_another_model(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    token = mariadb.token(person(mariadb))
    for model in ("App\\Models\\Device", "app\\models\\user", "App\\Models\\UserX", "User", ""):
        mariadb.sql("UPDATE personal_access_tokens SET tokenable_type = %s WHERE id = %s", model, token.split("|")[0])
        assert refused_natively(site, token) == "Authentication failed: Invalid token"
    assert refused(site, connect_node, token) == "Authentication failed: Invalid token"


def test_no_token(site: Server, connect_node: ConnectNode) -> None:
    client = connect_node(site.url, None)
    assert client.wait("connect_error")["message"] == "Authentication failed: No token provided"


def test_a_live_connection_stays_its_user_s(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    user, other = person(mariadb), person(mariadb)
    token, bad = mariadb.token(user), mariadb.token(other)
    node = connect_node(site.url, token).connected()
    with greeted(site, token) as native:
        for wrong in (bad, bad + "x", mariadb.token(user, "[]"), site.token(other), "", "x"):
            answer = native.ask(type="auth", id=3, token=wrong)
            assert answer["type"] == "error", wrong
            assert node.ask("authenticate", {"token": wrong})["status"] == "error"
        assert native.ask(type="subscribe", id=4, channel=f"user.{user}")["event"] == "subscribed"
        assert native.ask(type="subscribe", id=5, channel=f"user.{other}")["type"] == "error"
    assert node.ask("subscribe", {"channel": f"user.{other}"})["status"] == "error"


# -- what it costs, and leaves ---------------------------------------------------------------------


def test_many_connects_with_one_token_are_one_query_and_one_write(start_server: StartServer, mariadb: MariaDB) -> None:
    server = start_server(**mariadb.settings())
    token, unused = mariadb.token(person(mariadb)), mariadb.token(person(mariadb))
    selects, updates = mariadb.count("Com_select"), mariadb.count("Com_update")
    began = time.monotonic()
    clients = [NativeClient.open(server.ws_url) for _ in range(60)]
    for client in clients:
        client.send(type="auth", id=1, token=token)
    for client in clients:
        client.greeted()
    # besides, each of the two pools may have asked whether its server is there; so may those of other servers
    # and the count of the user's notifications is asked once for all who come together
    assert mariadb.count("Com_select") - selects <= 1 + 6 + 4
    assert mariadb.count("Com_update") == updates, "not once a connect"
    for client in clients:
        client.connection.close()
    took = time.monotonic() - began
    assert took < 10, "the batch was not due yet"
    server.stop()
    # when the token was used, and when the user was seen
    assert mariadb.count("Com_update") == updates + 2
    rows = dict(
        mariadb.sql(
            "SELECT id, TIMESTAMPDIFF(SECOND, last_used_at, UTC_TIMESTAMP()) FROM personal_access_tokens"
            " WHERE id IN (%s, %s)",
            *(one.split("|")[0] for one in (token, unused)),
        )
    )
    used, not_used = (rows[int(one.split("|")[0])] for one in (token, unused))
    assert abs(used) <= took + 60
    assert not_used is None


def test_times_are_written_and_read_in_the_site_s_zone(start_server: StartServer, mariadb: MariaDB) -> None:
    """UTC+7: what is written there as 10:00 was 03:00 in UTC."""
    server = start_server(**mariadb.settings(DB_TIMEZONE="Asia/Ho_Chi_Minh"))
    user = person(mariadb)
    local = datetime.now(UTC) + timedelta(hours=7)
    passed = mariadb.token(user, expires_at=local - timedelta(minutes=1))
    coming = mariadb.token(user, expires_at=local + timedelta(minutes=1))
    assert refused_natively(server, passed) == "Authentication failed: Token expired"
    with greeted(server, coming):
        pass
    server.stop()
    moment = mariadb.sql("SELECT last_used_at FROM personal_access_tokens WHERE id = %s", coming.split("|")[0])[0][0]
    assert abs((moment - local.replace(tzinfo=None)).total_seconds()) < 60


def test_the_batch_is_written_in_time(site: Server, mariadb: MariaDB) -> None:
    """No later than the interval after the first use; this test comes last, so that others have used theirs too."""
    token = mariadb.token(person(mariadb))
    with greeted(site, token):
        pass
    ident = token.split("|")[0]

    def written() -> bool:
        row = mariadb.sql("SELECT last_used_at FROM personal_access_tokens WHERE id = %s", ident)
        return row[0][0] is not None

    until(written, lambda: "last_used_at is not written", 12.0)
