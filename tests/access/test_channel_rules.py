"""Resources of an operator's own, in a real server with a table of its own in MariaDB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.auth.people import number, person
from tests.clients.native import NativeClient
from tests.conftest import ConnectNode
from tests.mariadb import ACCOUNT, MariaDB
from tests.server import Server

RULES = (
    "project.<id>=member:project_user(project_id,user_id); crew.<id>=member:project_user(project_id,user_id,active);"
    " kiosk.<rest>=everyone; desk.<id>=owner; desk.<id>.x=owner; staff.<rest>=role:senior; room.<name>.a=everyone;"
    " gone.<id>=member:no_such_table(a,b); secret.<id>=member:secrets(a,b); thread.<id>=everyone"
)


@pytest.fixture(scope="module")
def site(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    mariadb.sql(
        "CREATE TABLE project_user (project_id BIGINT UNSIGNED NOT NULL, user_id BIGINT UNSIGNED NOT NULL,"
        " active TINYINT(1) NOT NULL DEFAULT 1, UNIQUE KEY (project_id, user_id))"
    )
    mariadb.sql("CREATE TABLE secrets (a BIGINT UNSIGNED NOT NULL, b BIGINT UNSIGNED NOT NULL)")
    mariadb.sql(f"GRANT SELECT ON project_user TO '{ACCOUNT}'@'%'")
    settings = mariadb.settings(CHANNEL_RULES=RULES, AUTH_SWEEP_INTERVAL="1000")
    running = Server.start(tmp_path_factory.mktemp("site"), settings)
    try:
        yield running
        assert "Traceback" not in running.output()
        running.stop()
    finally:
        running.end()
        mariadb.sql("DROP TABLE project_user, secrets")


def may(client: NativeClient, channel: str) -> bool:
    answer = client.ask(type="subscribe", id=channel, channel=channel)
    if answer["type"] == "error":
        assert answer["error"] == "Unauthorized", answer
        return False
    assert answer["event"] == "subscribed"
    return True


def signed_in(site: Server, mariadb: MariaDB, user: int) -> NativeClient:
    client = NativeClient.open(site.ws_url, header=mariadb.token(user))
    client.greeted()
    return client


def test_members_of_an_own_table(site: Server, mariadb: MariaDB, connect_node: ConnectNode) -> None:
    active, resting, stranger, admin = person(mariadb), person(mariadb), person(mariadb), person(mariadb, "super_admin")
    project = number()
    insert = "INSERT INTO project_user (project_id, user_id, active) VALUES (%s, %s, %s)"
    mariadb.sql(insert, project, active, 1)
    mariadb.sql(insert, project, resting, 0)
    expected = {active: (True, True), resting: (True, False), stranger: (False, False), admin: (False, False)}
    for user, answers in expected.items():
        with signed_in(site, mariadb, user) as client:
            for prefix in ("", "private-", "presence-"):
                found = (may(client, f"{prefix}project.{project}"), may(client, f"{prefix}crew.{project}"))
                assert found == answers, (user, prefix)
            for odd in (
                f"project.{project + 10**6}",
                "project.0",
                "project.x",
                f"project.0{project}",
                f"project.{2**63}",
            ):
                assert not may(client, odd)
    node = connect_node(site.url, mariadb.token(active)).connected()
    assert node.ask("subscribe", {"channel": f"private-project.{project}"})["status"] == "success"
    assert node.ask("subscribe", {"channel": f"crew.{project}"})["status"] == "success"
    site.publish(f"project.{project}", "saved", {"by": 7})
    assert node.message("saved")["by"] == 7
    # rows of an own table are looked at like the site's
    mariadb.sql("UPDATE project_user SET active = 0 WHERE user_id = %s", active)
    assert node.message("unsubscribed")["channel"] == f"crew.{project}"
    mariadb.sql("DELETE FROM project_user WHERE user_id = %s", active)
    told = node.message("unsubscribed", lambda data: data["channel"] != f"crew.{project}")
    assert (told["channel"], told["reason"]) == (f"private-project.{project}", "Unauthorized")


def test_the_other_rules(site: Server, mariadb: MariaDB) -> None:
    guest, senior = person(mariadb, "guest"), person(mariadb, "verified_partner")
    with signed_in(site, mariadb, guest) as low, signed_in(site, mariadb, senior) as high:
        for client, user, ranked in ((low, guest, False), (high, senior, True)):
            for channel, expected in (
                ("kiosk.hall", True),
                ("kiosk.a.b", True),
                ("kiosk", False),
                (f"desk.{user}", True),
                (f"private-desk.{user}.x", True),
                (f"desk.{user}.y", False),
                (f"desk.{user + 1}", False),
                ("staff.news", ranked),
                ("staff.a.b", ranked),
                ("room.blue.a", True),
                ("room.blue.red.a", False),
            ):
                assert may(client, channel) is expected, (user, channel)


def test_the_site_s_own_rules_stay_as_they_are(site: Server, mariadb: MariaDB) -> None:
    with signed_in(site, mariadb, person(mariadb)) as client:
        assert may(client, "thread.1")
        assert not may(client, "thread.3"), "thread.<id>=everyone has no effect"


def test_a_table_that_is_not_there_or_not_allowed_harms_nobody_else(site: Server, mariadb: MariaDB) -> None:
    with signed_in(site, mariadb, person(mariadb)) as client:
        for channel in ("gone.1", "secret.1"):
            answer = client.ask(type="subscribe", id=1, channel=channel)
            assert (answer["type"], answer["code"]) == ("error", "SERVER_ERROR"), answer
            assert "table" not in str(answer).lower()
        assert may(client, "thread.1")
        assert may(client, "kiosk.x")
    # not allowed; of a table that it may not see the account is not told that there is none
    assert "1142" in site.output()
