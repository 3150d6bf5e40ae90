"""What people do with one another, as scenarios over the native protocol."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mechamap_rt.errors import Code
from tests.clients.native import COUNT
from tests.docs.asyncapi import SENT, the_one
from tests.docs.stage import Stage, scenario


@scenario
def typing(stage: Stage) -> None:
    with stage.user(1) as an, stage.user(2, name="Bình") as binh:
        assert an.refused(type="event", id=0, event="typing_start", data="thread.1") == Code.PERMISSION_DENIED
        for client in (an, binh):
            client.ask(type="subscribe", id=0, channel="presence-thread.1")
            client.ask(type="subscribe", id=0, channel="conversation.1")
        where = ({"thread_id": 1}, {"thread_id": "1"}, {"channel": "thread.1"}, "presence-thread.1", "conversation.1")
        for data in where:
            for event, news in (("typing_start", "user_typing"), ("typing_stop", "user_stopped_typing")):
                assert binh.answers(type="event", id=1, event=event, data=data) == "done"
                heard = an.event(news)
                assert (heard["data"]["userId"], heard["data"]["name"]) == (2, "Bình")
                assert heard["data"].get("thread_id") == (None if data == "conversation.1" else 1)
                assert heard["channel"] == ("conversation.1" if data == "conversation.1" else "presence-thread.1")


@scenario
def activity(stage: Stage) -> None:
    with stage.user(1) as an, stage.user(2) as binh:
        for client in (an, binh):
            client.ask(type="subscribe", id=0, channel="presence-thread.1")
        for data in ({"activity": "away"}, {"activity": None}, {}, "reading", None):
            assert binh.answers(type="event", id=1, event="user_activity", data=data) == "done"
            assert an.event("user_activity")["data"]["userId"] == 2
        assert binh.answers(type="event", id=2, event="user_activity") == "done"


@scenario
def presence(stage: Stage) -> None:
    with stage.user(51) as an, stage.user(52, name="Bình", avatar="/2.png") as binh:
        assert an.answers(type="subscribe", id=1, channel="presence-public.pair") == "subscribed"
        assert (an.seen[-1]["data"]["members"][0]["id"], an.seen[-1]["data"]["total"]) == (51, 1)
        assert binh.answers(type="subscribe", id=1, channel="presence-public.pair") == "subscribed"
        assert an.event("member_joined")["data"]["user"] == {"id": 52, "name": "Bình", "avatar": "/2.png"}
        assert an.event("user_online")["data"]["user_id"] == 52
        assert an.event("user.status")["data"]["status"] == "online"
        for data in ({"user_ids": [7, 52, 51]}, {"userIds": [7, 52, 51]}, [7, 52, 51]):
            assert an.answers(type="event", id=2, event="who_is_online", data=data) == "onlineUsers"
            assert an.seen[-1]["data"]["online"] == [52, 51]
        binh.ask(type="unsubscribe", id=3, channel="presence-public.pair")
        assert an.event("member_left")["data"]["total"] == 1


@scenario
def groups(stage: Stage) -> None:
    with stage.user(1) as an, stage.user(2, name="Bình") as binh, stage.user(77) as stranger:
        for data in (3, "3", {"group_id": 3}, {"group_id": "3"}):
            assert an.answers(type="event", id=1, event="join_group", data=data) == "subscribed"
        assert binh.answers(type="event", id=1, event="join_group", data=3) == "subscribed"
        assert (binh.seen[-1]["data"]["group_id"], binh.seen[-1]["data"]["total"]) == (3, 2)
        assert the_one(an.event("member_joined"), SENT) == "memberNews"
        for event in ("group_typing_start", "group_typing_stop"):
            assert binh.answers(type="event", id=2, event=event, data={"group_id": 3}) == "done"
            assert the_one(an.event(event), SENT) == "groupTypingNews"
        for stamp in ({}, {"timestamp": 5}, {"timestamp": {"a": 1}}):
            said = {"group_id": 3, "message": "Xin chào 🛠️"} | stamp
            assert binh.answers(type="event", id=3, event="group_message", data=said) == "groupMessageTaken"
            told = an.event("group_message")
            assert the_one(told, SENT) == "groupMessageNews"
            assert told["publication"] == binh.seen[-1]["data"]["id"]
        assert an.answers(type="event", id=4, event="get_member_count", data="3") == "memberCounted"
        assert (an.seen[-1]["data"]["count"], an.seen[-1]["data"]["online"]) == (3, 2)
        assert binh.answers(type="event", id=5, event="leave_group", data=3) == "unsubscribed"
        assert an.event("member_left")["data"]["user"]["id"] == 2
        said = {"group_id": 3, "message": "let me in"}
        for event in ("join_group", "group_message", "get_member_count", "group_typing_start"):
            assert stranger.refused(type="event", id=6, event=event, data=said) == Code.PERMISSION_DENIED
            assert stranger.seen[-1]["field"] == "group_id"


@scenario
def debug_mode(stage: Stage) -> None:
    with stage.user(8, role="admin") as admin, stage.user(1) as an:
        assert admin.answers(type="event", id=1, event="debug_mode", data={"enabled": True}) == "debugModeSet"
        for event in ("connection_stats", "memory_usage", "event_metrics"):
            assert admin.told("debugNews")["event"] == event
        assert admin.answers(type="event", id=2, event="debug_mode", data=False) == "debugModeSet"
        assert an.refused(type="event", id=1, event="debug_mode", data=True) == Code.PERMISSION_DENIED


@scenario
def notifications(stage: Stage) -> None:
    path = stage._paths.mktemp("database") / "site.sqlite"
    server = stage.start(DB_SQLITE_PATH=str(path))
    rows = [(ident, 1 + ident // 4, "x") for ident in (1, 2, 3, 4)]
    execute(path, "INSERT INTO notifications (id, user_id, type) VALUES (?, ?, ?)", rows)
    with stage.user(1, server) as an, stage.user(1, server) as other:
        an.counts = other.counts = True
        for client in (an, other):
            assert client.told("unreadCount")["data"]["unreadCount"] == 3
        for ident, data in ((1, {"notificationId": 1}), (1, "1"), (2, {"notification_id": "2"})):
            assert an.answers(type="event", id=1, event="notification_read", data=data) == "notificationMarked"
            assert (an.seen[-1]["data"]["notificationId"], an.seen[-1]["data"]["state"]) == (ident, "stored")
        assert [other.next()["event"] for _ in range(3)] == ["notification_read", "notification.read", COUNT]
        assert an.refused(type="event", id=2, event="notification_read", data=4) == Code.PERMISSION_DENIED
        assert an.answers(type="event", id=3, event="notifications_read_all") == "notificationsMarked"
        assert an.seen[-1]["data"]["count"] == 1
        assert other.event("notifications_read_all")["data"]["readBy"] == 1
        assert other.told("unreadCount")["data"]["unreadCount"] == 0
        execute(path, "ALTER TABLE notifications RENAME TO hidden")
        an.ask(type="event", id=4, event="notification_read", data=4)
        assert an.seen[-1]["data"]["state"] == "accepted"
        execute(path, "ALTER TABLE hidden RENAME TO notifications")
        assert an.event("error")["data"]["details"]["notificationId"] == 4


def execute(path: Path, statement: str, rows: Sequence[Sequence[Any]] = ((),)) -> None:
    """Run one statement on the embedded database of a server, for each of these rows."""
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.executemany(statement, rows) if rows[0] else database.execute(statement)
    finally:
        database.close()
