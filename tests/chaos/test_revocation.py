"""Rights that are taken away while Redis is: the other host hears of it when Redis is back."""

from __future__ import annotations

from tests.chaos.conftest import StartCluster
from tests.chaos.test_redis import joined, killed, ready
from tests.clients.native import NativeClient
from tests.clients.waiting import until
from tests.redis_server import RedisServer
from tests.server import Server

#: Users: sent away, sent away and let in again, without the channel, and one whom nothing of it concerns.
AWAY, BACK, WITHOUT, NOBODY = 501, 502, 503, 504
CHANNEL = "public.taken"


def came(server: Server, user: int) -> NativeClient:
    client = NativeClient.open(server.ws_url, header=server.token(user))
    client.greeted()
    assert client.ask(type="subscribe", id=1, channel=CHANNEL)["event"] == "subscribed"
    return client


def taken(server: Server, path: str, **body: object) -> dict[str, object]:
    answer = server.post(path, body)
    assert answer.status_code == 200, answer.text
    said: dict[str, object] = answer.json()
    return said


def test_the_other_host_hears_of_it_when_redis_is_back(start: StartCluster, redis: RedisServer) -> None:
    one, other = start(2, **joined(redis, "aaa")), start(2, **joined(redis, "bbb"))
    users = AWAY, BACK, WITHOUT, NOBODY
    here = {user: came(one, user) for user in users}
    there = {user: came(other, user) for user in users}
    with killed(redis):
        until(lambda: ready(one) == ready(other) == "degraded", lambda: f"{ready(one)} {ready(other)}", 6)
        for user in (AWAY, BACK):
            said = taken(one, "/api/auth/revoke", user_id=user)
            assert (said["disconnected"], said["degraded"]) == (1, True)
        said = taken(one, "/api/channels/revoke", channel=CHANNEL, user_id=WITHOUT)
        assert (said["unsubscribed"], said["degraded"]) == (1, True)
        returned = came(one, BACK), came(other, BACK)
    until(lambda: ready(one) == ready(other) == "ready", lambda: f"{ready(one)} {ready(other)}", 10)
    for clients in (here, there):
        assert clients[AWAY].closed() == clients[BACK].closed() == (4005, "token_revoked")
        ended = clients[WITHOUT].event("unsubscribed")["data"]
        assert (ended["channel"], ended["reason"]) == (CHANNEL, "Revoked")
    # who has come since, or was never meant, is there still, and subscribed
    staying = [*returned, here[NOBODY], there[NOBODY]]
    assert one.publish(CHANNEL, "hello", {}).json()["subscriberCount"] == len(staying)
    for client in staying:
        client.event("hello")
    again = taken(one, "/api/auth/revoke", user_id=NOBODY)
    assert again["disconnected"] == 2 and "degraded" not in again
    for client in (*here.values(), *there.values(), *returned):
        client.__exit__(None, None, None)
