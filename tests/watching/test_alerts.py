"""Alerts of a live server: raised, told by every way, held, cleared, remembered."""

from __future__ import annotations

import time
from typing import Any

import requests

from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.conftest import StartServer
from tests.redis_server import RedisServer
from tests.server import REQUEST_LIMIT, Server
from tests.watching.post import PASSWORD, SECRET, USER, Hook, Mailbox

LIMIT = 25.0


def alerts(server: Server) -> dict[str, Any]:
    found = requests.get(f"{server.url}/api/monitoring/alerts", timeout=REQUEST_LIMIT, headers={"Connection": "close"})
    data: dict[str, Any] = found.json()["data"]
    return data


def raised(server: Server) -> list[str]:
    return [alert["name"] for alert in alerts(server)["alerts"]]


def threshold(server: Server, **values: float) -> None:
    headers = {"X-Admin-Key": server.settings["ADMIN_KEY"]}
    url = f"{server.url}/api/monitoring/thresholds"
    assert requests.put(url, json=values, headers=headers, timeout=REQUEST_LIMIT).status_code == 200


def test_an_alert_from_its_beginning_to_its_end(start_cluster: StartServer) -> None:
    with Mailbox(login=True) as mailbox, Hook() as hook:
        # neither takes it at the first try
        mailbox.refuse = ["451 Come later"]
        hook.statuses = [503]
        server = start_cluster(
            workers=2,
            ALERT_WEBHOOK_URL=hook.url,
            ALERT_WEBHOOK_SECRET=SECRET,
            ALERT_EMAIL_TO="ops@example.org,night@example.org",
            ALERT_EMAIL_FROM="mechamap@example.org",
            SMTP_HOST="127.0.0.1",
            SMTP_PORT=str(mailbox.port),
            SMTP_USER=USER,
            SMTP_PASSWORD=PASSWORD,
        )
        with NativeClient.open(server.ws_url, header=server.token(1, role="admin")) as admin:
            admin.greeted()
            admin.ask(type="subscribe", id=1, channel="admin.alerts")
            threshold(server, memoryPerWorker=16 * 2**20)
            until(lambda: raised(server) == ["memoryPerWorker"], lambda: str(alerts(server)), LIMIT)
            told = admin.until(lambda message: message.get("event") == "alert")["data"]
            assert (told["name"], told["state"]) == ("memoryPerWorker", "raised")
            # every worker says so, and it is one alert; of both workers
            for _ in range(4):
                (alert,) = alerts(server)["alerts"]
                assert alert["message"].count(", ") >= 1
                assert alert["worst"] >= alert["value"] * 0.9
            assert server.control("status")["alerts"][0]["name"] == "memoryPerWorker"
            until(lambda: len(hook.posts) == len(mailbox.mails) == 1, lambda: "told", LIMIT)
            time.sleep(2)
            # held: said once
            assert (len(hook.posts), len(mailbox.mails)) == (1, 1)
            threshold(server, memoryPerWorker=2**30)
            until(lambda: len(hook.posts) == len(mailbox.mails) == 2, lambda: "told", LIMIT)
            told = admin.until(lambda message: message.get("event") == "alert")["data"]
            assert (told["name"], told["state"]) == ("memoryPerWorker", "cleared")
        until(lambda: bool(alerts(server)["history"]), lambda: "a history", 5)
        found = alerts(server)
        assert found["alerts"] == []
        assert [each["name"] for each in found["history"]] == ["memoryPerWorker"]
        assert found["history"][0]["until"] > found["history"][0]["since"]
        # those who come by a reload know it too
        server.control("reload", "--drain", "0s")
        until(lambda: [each["name"] for each in alerts(server)["history"]] == ["memoryPerWorker"], lambda: "history", 5)
        server.stop()
    assert hook.signed == [True, True]
    assert [post["alert"]["state"] for post in hook.posts] == ["raised", "cleared"]
    assert hook.posts[0]["text"].startswith("ALERT memoryPerWorker")
    assert mailbox.recipients[0] == ["ops@example.org", "night@example.org"]
    first, second = mailbox.mails
    assert (first["Subject"], second["Subject"]) == (
        "[mechamap] raised: memoryPerWorker",
        "[mechamap] cleared: memoryPerWorker",
    )
    assert first["From"] == "mechamap@example.org"
    assert "resident bytes of one process" in str(first.get_payload())
    output = server.output()
    assert "Alert memoryPerWorker" in output
    assert "could not be told by the webhook" in output
    assert "could not be told by mail" in output


def test_a_single_process_watches_itself(start_server: StartServer) -> None:
    with Hook() as hook:
        server = start_server(ALERT_WEBHOOK_URL=hook.url)
        threshold(server, memoryPerWorker=16 * 2**20)
        until(lambda: len(hook.posts) == 1, lambda: str(alerts(server)), LIMIT)
        assert raised(server) == ["memoryPerWorker"]
        health = requests.get(f"{server.url}/api/monitoring/health", timeout=REQUEST_LIMIT).json()["data"]
        assert health["status"] == "degraded"
        assert "memoryPerWorker" in health["problems"][0]
        server.stop()
    assert hook.posts[0]["alert"]["host"] == hook.posts[0]["alert"]["host"][:3]


def test_who_cannot_be_told_holds_up_nothing(start_server: StartServer) -> None:
    server = start_server(
        ALERT_WEBHOOK_URL="http://127.0.0.1:9/nobody",
        ALERT_EMAIL_TO="ops@example.org",
        SMTP_HOST="127.0.0.1",
        SMTP_PORT="9",
    )
    threshold(server, memoryPerWorker=16 * 2**20)
    until(lambda: raised(server) == ["memoryPerWorker"], lambda: str(alerts(server)), LIMIT)
    until(lambda: "could not be told by the webhook" in server.output(), server.output, LIMIT)
    assert server.publish("public.x", "e", {}).status_code == 200
    server.stop()


def test_a_bus_that_is_away_is_an_alert(start_cluster: StartServer) -> None:
    redis = RedisServer()
    try:
        server = start_cluster(workers=2, REDIS_HOST="127.0.0.1", REDIS_PORT=str(redis.port))
        redis.kill()
        until(lambda: {"bus_degraded", "canary_lost"} <= set(raised(server)), lambda: str(alerts(server)), LIMIT)
        server.stop()
    finally:
        redis.end()
