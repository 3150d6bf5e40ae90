"""docs/asyncapi.yaml: a sound AsyncAPI 3 document, and what a running server really says over the native protocol."""

from __future__ import annotations

import copy
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from websockets.exceptions import InvalidStatus

from mechamap_rt.commands.table import MAX_SUBSCRIPTIONS, ClientCommands
from mechamap_rt.errors import Code, Disconnect
from mechamap_rt.wire import native
from tests.clients.crowd import Member
from tests.clients.native import LIMIT, Message, NativeClient
from tests.server import MAX_BODY, Server

PATH = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PATH.read_text("utf-8"))
REALTIME: dict[str, Any] = DOCUMENT["channels"]["realtime"]

#: The fields that AsyncAPI 3.0 knows (of those with a meaning here); others begin with ``x-``.
FIELDS = {
    "document": {"asyncapi", "id", "info", "servers", "defaultContentType", "channels", "operations", "components"},
    "info": {"title", "version", "description", "termsOfService", "contact", "license", "tags", "externalDocs"},
    "server": {
        *("host", "protocol", "protocolVersion", "pathname", "description", "title", "summary"),
        *("variables", "security", "tags", "externalDocs", "bindings"),
    },
    "channel": {
        *("address", "messages", "title", "summary", "description", "servers", "parameters"),
        *("tags", "externalDocs", "bindings"),
    },
    "operation": {
        *("action", "channel", "title", "summary", "description", "security", "tags", "externalDocs"),
        *("bindings", "traits", "messages", "reply"),
    },
    "reply": {"address", "channel", "messages"},
    "message": {
        *("headers", "payload", "correlationId", "contentType", "name", "title", "summary", "description"),
        *("tags", "externalDocs", "bindings", "examples", "traits"),
    },
    "example": {"headers", "payload", "name", "summary"},
    "components": {"schemas", "messages", "securitySchemes"},
}
#: What each type of a security scheme must say.
SECURITY = {"http": {"scheme"}, "httpApiKey": {"name", "in"}, "apiKey": {"in"}}


# -- reading the document --------------------------------------------------------------------------


def nodes(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every object in ``value``, with its path."""
    if isinstance(value, dict):
        yield path, value
        for name, member in value.items():
            yield from nodes(member, (*path, str(name)))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from nodes(item, (*path, str(at)))


def resolve(reference: dict[str, Any]) -> Any:
    """What a ``$ref`` points to; through a second one, if there is one."""
    assert reference["$ref"].startswith("#/"), "references stay in the document"
    found: Any = DOCUMENT
    for part in reference["$ref"][2:].split("/"):
        found = found[part]
    return resolve(found) if "$ref" in found else found


def named(references: list[dict[str, Any]]) -> list[str]:
    """The names of the channel's messages that ``references`` point to."""
    prefix = "#/channels/realtime/messages/"
    assert all(reference["$ref"].startswith(prefix) for reference in references)
    return [reference["$ref"].removeprefix(prefix) for reference in references]


def names_by_direction() -> tuple[list[str], list[str]]:
    """The messages that the server receives, and those that it sends."""
    received: dict[str, None] = {}
    sent: dict[str, None] = {}
    for operation in DOCUMENT["operations"].values():
        mine = received if operation["action"] == "receive" else sent
        mine.update(dict.fromkeys(named(operation["messages"])))
        sent.update(dict.fromkeys(named(operation.get("reply", {}).get("messages", []))))
    return list(received), list(sent)


RECEIVED, SENT = names_by_direction()


def as_this_server_is() -> dict[str, Any]:
    """The schemas without the members that only later versions may send."""
    components = copy.deepcopy(DOCUMENT["components"])
    for _, node in nodes(components["schemas"]):
        if node.get("x-may-grow"):
            node["additionalProperties"] = False
    return components


COMPONENTS = as_this_server_is()


@cache
def validator(name: str) -> jsonschema.Draft7Validator:
    payload = DOCUMENT["components"]["messages"][name]["payload"]
    checker = jsonschema.Draft7Validator.FORMAT_CHECKER
    return jsonschema.Draft7Validator({"components": COMPONENTS, "allOf": [payload]}, format_checker=checker)


def fitting(message: Any, candidates: list[str]) -> list[str]:
    return [name for name in candidates if validator(name).is_valid(message)]


def the_one(message: Any, candidates: list[str]) -> str:
    """The one message of the document that ``message`` is."""
    found = fitting(message, candidates)
    if len(found) != 1:
        faults = {name: jsonschema.exceptions.best_match(validator(name).iter_errors(message)) for name in candidates}
        told = "\n".join(f"{name}: {fault.message}" for name, fault in faults.items() if fault is not None)
        raise AssertionError(f"{message} fits {found or 'nothing'}, should fit one:\n{told}")
    return found[0]


# -- is it sound? ----------------------------------------------------------------------------------


def check_fields(kind: str, value: dict[str, Any], *required: str) -> None:
    unknown = {name for name in value if not name.startswith("x-")} - FIELDS[kind]
    assert not unknown, f"no field of a {kind}: {unknown}"
    assert set(required) <= set(value), f"a {kind} needs {required}"


def test_structure() -> None:
    check_fields("document", DOCUMENT, "asyncapi", "info", "channels", "operations")
    assert DOCUMENT["asyncapi"] == "3.0.0"
    check_fields("info", DOCUMENT["info"], "title", "version")
    check_fields("components", DOCUMENT["components"])
    for server in DOCUMENT["servers"].values():
        check_fields("server", server, "host", "protocol", "security")
        variables = server.get("variables", {})
        assert [part for part in variables if "{" + part + "}" not in server["host"]] == []
    for channel in DOCUMENT["channels"].values():
        check_fields("channel", channel, "address", "messages")
        for binding in channel["bindings"]["ws"]["query"], channel["bindings"]["ws"]["headers"]:
            jsonschema.Draft7Validator.check_schema(binding)
    for operation in DOCUMENT["operations"].values():
        check_fields("operation", operation, "action", "channel", "messages")
        assert operation["action"] in ("send", "receive")
        assert resolve(operation["channel"]) is REALTIME
        if "reply" in operation:
            check_fields("reply", operation["reply"], "messages")
            assert resolve(operation["reply"]["channel"]) is REALTIME
    for message in DOCUMENT["components"]["messages"].values():
        check_fields("message", message, "title", "payload", "examples")
        for example in message["examples"]:
            check_fields("example", example, "name", "payload")
    for scheme in DOCUMENT["components"]["securitySchemes"].values():
        assert SECURITY[scheme["type"]] <= set(scheme)


def test_every_reference_leads_somewhere() -> None:
    assert [path for path, node in nodes(DOCUMENT) if "$ref" in node and resolve(node) is None] == []


def test_nothing_is_left_lying_about() -> None:
    referred = {node["$ref"] for _, node in nodes(DOCUMENT) if "$ref" in node}
    for kind, parts in DOCUMENT["components"].items():
        assert [name for name in parts if f"#/components/{kind}/{name}" not in referred] == []
    assert set(REALTIME["messages"]) == {*RECEIVED, *SENT}, "every message belongs to an operation"
    assert set(RECEIVED).isdisjoint(SENT)


def test_schemas_are_schemas() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema.Draft7Validator.check_schema(schema)
        for path, node in nodes(schema):
            if node.get("type") == "object":
                assert "additionalProperties" in node, f"{name} {path}: may there be others or not?"
            assert not ("$ref" in node and len(node) > 1), f"{name} {path}: what stands beside a $ref is ignored"


@pytest.mark.parametrize("name", [*RECEIVED, *SENT])
def test_examples_are_of_their_message_and_no_other(name: str) -> None:
    candidates = RECEIVED if name in RECEIVED else SENT
    for example in DOCUMENT["components"]["messages"][name]["examples"]:
        assert the_one(example["payload"], candidates) == name


def test_the_check_for_unknown_members_bites() -> None:
    for name in SENT:
        for example in DOCUMENT["components"]["messages"][name]["examples"]:
            assert fitting(example["payload"] | {"surplus": 1}, SENT) == []


# -- does it say what the code says? ---------------------------------------------------------------


def test_close_codes_are_those_of_the_code() -> None:
    documented = [(row["code"], row["reason"], row["reconnect"]) for row in REALTIME["x-close-codes"]]
    assert documented == [(one.code, one.reason, one.reconnect) for one in Disconnect]


def test_error_codes_are_those_of_the_code() -> None:
    schema = DOCUMENT["components"]["schemas"]["ErrorCode"]
    assert schema["enum"] == list(schema["x-meanings"]) == list(Code)


def test_reasons_of_errors_are_reasons_of_closings() -> None:
    reasons = DOCUMENT["components"]["schemas"]["Error"]["properties"]["details"]["properties"]["reason"]["enum"]
    assert [one.reason for one in Disconnect if one.reason in reasons] == reasons


def test_events_are_those_of_the_code() -> None:
    nothing: Any = None
    commands = ClientCommands(
        node=nothing,
        policy=nothing,
        authenticator=nothing,
        typing=nothing,
        channel_limit=nothing,
        clock=time.time,
        extend=print,
    )
    schemas = DOCUMENT["components"]["schemas"]
    known = schemas["UnknownEvent"]["properties"]["event"]["not"]["enum"]
    assert sorted(known) == sorted(commands.table())
    by_name = schemas["RequestByEventName"]["properties"]["event"]["enum"]
    assert sorted([*by_name, *schemas["Done"]["properties"]["event"]["enum"]]) == sorted(known)


def test_requests_are_those_of_the_code() -> None:
    schemas = [resolve(DOCUMENT["components"]["messages"][name]["payload"]) for name in RECEIVED]
    assert {schema["properties"]["type"]["const"] for schema in schemas} == set(native.RequestType)


# -- does the server say it? -----------------------------------------------------------------------

#: Settings under which every limit is soon reached.
STRICT = {
    "CORS_ORIGIN": "https://site.example.com",
    "MAX_CONNECTIONS": "3",
    "MAX_CONNECTIONS_PER_USER": "1",
    "CONNECTION_ATTEMPTS_PER_MINUTE": "2",
    "CONNECTION_TIMEOUT": "200",
    "CLIENT_EVENTS_PER_MINUTE": "4",
    "CHANNEL_PUBLICATIONS_PER_MINUTE": "1",
    "WS_PING_INTERVAL": "200",
    "WS_PING_TIMEOUT": "800",
}
#: Closings that no client can provoke here: by a fault of the server or an administrator, and one that is never sent.
UNPROVOKED = {Disconnect.SERVER_ERROR.code, Disconnect.FORCED.code, Disconnect.GOING_AWAY.code}


class Heard:
    """What the scenarios have made the server hear and say."""

    def __init__(self) -> None:
        self.requests: set[str] = set()
        self.messages: set[str] = set()
        self.codes: set[str] = set()
        self.closings: set[int] = set()

    def note(self, message: Message) -> str:
        name = the_one(message, SENT)
        self.messages.add(name)
        if name == "error":
            self.codes.add(message["code"])
        return name

    def note_closing(self, code: int | None, reason: str | None) -> int:
        documented = {row["code"]: row["reason"] for row in REALTIME["x-close-codes"]}
        by_websocket = {row["code"] for row in REALTIME["x-websocket-close-codes"]}
        assert code in documented or code in by_websocket
        assert reason == documented[code] if code in documented and code != 1009 else reason
        self.closings.add(code)
        return code


class Client(NativeClient):
    """A client that holds whatever is said to the document."""

    heard: Heard

    def next(self) -> Message:
        message = super().next()
        self.heard.note(message)
        return message

    def send(self, **request: Any) -> None:
        self.heard.requests.add(the_one(request, RECEIVED))
        super().send(**request)

    def send_wrong(self, request: dict[str, Any]) -> Message:
        """Send what the document does not allow, and read the answer."""
        assert fitting(request, RECEIVED) == []
        self.connection.send(json.dumps(request))
        return self.next()

    def answers(self, **request: Any) -> str:
        """Ask, and name the message that is the answer; it must be one that the document announces."""
        name = the_one(self.ask(**request), SENT)
        asked = the_one(request, RECEIVED)
        operations = [one for one in DOCUMENT["operations"].values() if asked in named(one["messages"])]
        assert any(name in named(operation["reply"]["messages"]) for operation in operations)
        return name

    def refused(self, **request: Any) -> str:
        """Ask for what is refused, and give the code of the error."""
        assert self.answers(**request) == "error"
        code: str = self.seen[-1]["code"]
        return code

    def ends(self) -> int:
        """Read until the server closes; an error before it gives the same reason."""
        code, reason = self.closed()
        given = self.seen[-1].get("details", {}).get("reason") if self.seen else None
        assert given in (None, reason)
        return self.heard.note_closing(code, reason)


class Stage:
    """The servers that the scenarios play on, and what was heard."""

    def __init__(self, server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.server = server
        self.heard = Heard()
        self.played: set[Scenario] = set()
        self._paths = tmp_path_factory
        self._started: list[Server] = []
        self._strict: Server | None = None

    @property
    def strict(self) -> Server:
        if self._strict is None:
            self._strict = self.start(**STRICT)
        return self._strict

    def start(self, **settings: str) -> Server:
        server = Server.start(self._paths.mktemp("server"), settings)
        self._started.append(server)
        return server

    def open(self, server: Server | None = None, **options: Any) -> Client:
        client = Client.open((server or self.server).ws_url, **options)
        assert isinstance(client, Client)
        client.heard = self.heard
        return client

    def user(self, user_id: int = 1, server: Server | None = None, **claims: Any) -> Client:
        """A client that has been greeted."""
        client = self.open(server, header=(server or self.server).token(user_id, **claims))
        client.greeted()
        return client

    def ends_raw(self, data: bytes) -> int:
        """The close code that bytes behind a handshake are worth."""
        member = Member(self.server.port, self.server.token(1))
        try:
            member.socket.sendall(data)
            assert member.drain_to_close() is not None
            assert member.closed is not None
            return self.heard.note_closing(*member.closed)
        finally:
            member.socket.close()

    def play(self, scenario: Scenario) -> None:
        self.played.add(scenario)
        scenario(self)

    def end(self) -> None:
        for server in self._started:
            server.end()


Scenario = Callable[[Stage], None]
SCENARIOS: list[Scenario] = []


def scenario(play: Scenario) -> Scenario:
    SCENARIOS.append(play)
    return play


@pytest.fixture(scope="module")
def stage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    one = Stage(server, tmp_path_factory)
    try:
        yield one
    finally:
        one.end()


@pytest.mark.parametrize("play", SCENARIOS, ids=lambda play: play.__name__)
def test_what_is_said(stage: Stage, play: Scenario) -> None:
    stage.play(play)


def test_everything_in_the_document_was_said(stage: Stage) -> None:
    for play in SCENARIOS:
        if play not in stage.played:
            stage.play(play)
    heard = stage.heard
    assert heard.requests == set(RECEIVED)
    assert heard.messages == set(SENT)
    assert heard.codes == set(Code)
    documented = {row["code"] for part in ("x-close-codes", "x-websocket-close-codes") for row in REALTIME[part]}
    assert heard.closings == documented - UNPROVOKED


@scenario
def the_token_in_three_places(stage: Stage) -> None:
    token = stage.server.token(5)
    with stage.open(header=token) as client:
        client.greeted()
    with stage.open(query=f"Bearer%20{token}") as client:
        client.greeted()
    with stage.open() as client:
        assert client.answers(type="auth", id=1, token=token) == "connected"
    with stage.open(header=token, query="worthless") as client:
        client.greeted()


@scenario
def a_token_that_is_refused(stage: Stage) -> None:
    expired = stage.server.token(5, expires_in=-60)
    for token in ("worthless", expired, stage.server.token(5, permissions=[]), "x" * 9000):
        with stage.open() as client:
            assert client.refused(type="auth", id=1, token=token) == Code.AUTH_FAILED
            assert client.ends() == Disconnect.AUTH_FAILED.code
    with stage.open(header=expired, query=stage.server.token(5)) as client:
        assert client.ends() == Disconnect.AUTH_FAILED.code
        assert client.seen[-1]["error"] == "Authentication failed: Token expired"


@scenario
def before_the_token(stage: Stage) -> None:
    with stage.open() as client:
        assert client.refused(type="subscribe", id=1, channel="public.news") == Code.AUTH_FAILED
        assert client.answers(type="ping", id=2) == "pong"
        assert client.answers(type="auth", id=3, token=stage.server.token(5)) == "connected"


@scenario
def a_fresh_token(stage: Stage) -> None:
    with stage.user(5) as client:
        assert client.answers(type="auth", id=1, token=stage.server.token(5, email="ha@example.com")) == "authenticated"
        assert client.refused(type="auth", id=2, token=stage.server.token(6)) == Code.INVALID_TOKEN
        assert client.refused(type="auth", id=3, token="worthless") == Code.AUTH_FAILED
        assert client.answers(type="ping", id=4) == "pong"


@scenario
def subscriptions(stage: Stage) -> None:
    with stage.user() as client:
        for number, name in enumerate(("thread.1", "private-thread.1", "presence-thread.1", "public.a=b@c,d;e:f-g_h")):
            assert client.answers(type="subscribe", id=number, channel=name) == "subscribed"
            assert client.answers(type="unsubscribe", id=f"u{number}", channel=name) == "unsubscribed"
        assert client.answers(type="unsubscribe", id="never", channel="thread.1") == "unsubscribed"
        assert client.answers(type="subscribe", id="x" * 64, channel="public.news", unknown="member") == "subscribed"
        assert client.refused(type="subscribe", id=-(2**53) + 1, channel="user.2") == Code.PERMISSION_DENIED
        assert client.seen[-1]["error"] == "Unauthorized"
        client.send(type="subscribe", channel="public.news")
        assert "id" not in client.next()


@scenario
def too_many_subscriptions(stage: Stage) -> None:
    with stage.user() as client:
        for number in range(MAX_SUBSCRIPTIONS - 1):
            client.send(type="subscribe", id=number, channel=f"public.{number}")
        assert client.refused(type="subscribe", id="over", channel="public.over") == Code.RATE_LIMITED
        assert client.seen[-1]["field"] == "channel"


@scenario
def pings(stage: Stage) -> None:
    with stage.user() as client:
        for sent in (0, -1.5, 1795429800000, "", "x" * 64):
            assert client.answers(type="ping", id=1, timestamp=sent) == "pong"
            assert client.seen[-1]["timestamp"] == sent
        assert client.answers(type="ping", id=2) == "pong"


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
def requests_by_event_name(stage: Stage) -> None:
    with stage.user(1) as client:
        for event in ("subscribe", "subscribe_request", "join_channel"):
            for data in ("thread.1", {"channel": "thread.1"}):
                assert client.answers(type="event", id=1, event=event, data=data) == "subscribed"
        assert client.answers(type="event", id=2, event="unsubscribe", data="thread.1") == "unsubscribed"
        token = stage.server.token(1)
        for data in (token, f"Bearer {token}", {"token": token}):
            assert client.answers(type="event", id=3, event="authenticate", data=data) == "authenticated"
        assert client.answers(type="event", id=4, event="ping", data={"timestamp": 5}) == "pong"
        assert client.answers(type="event", id=5, event="ping") == "pong"


@scenario
def unknown_events(stage: Stage) -> None:
    with stage.user() as client:
        for event in ("unheard_of", "", "x" * 1000, "connect"):
            assert client.refused(type="event", id=1, event=event, data=[1]) == Code.VALIDATION_ERROR
            assert client.seen[-1]["field"] == "event"


@scenario
def publications(stage: Stage) -> None:
    data = {"id": 1, "nested": {"list": [1, None, "Xin chào 🛠️"]}}
    bodies = {
        "/api/broadcast": {"channel": "thread.1", "event": "one", "data": data, "class": "volatile"},
        "/api/broadcast/multi": {"broadcasts": [{"channel": "thread.1", "event": "two", "data": data, "key": "k"}]},
        "/api/broadcast/user/1": {"event": "three", "data": data},
        "/api/notify": {"action": "send_to_user", "user_id": 1, "data": data},
        "/api/laravel-broadcast": {
            "channels": [{"name": "private-thread.1"}],
            "event": "App\\Events\\CommentCreated",
            "data": [],
            "timestamp": "just now",
        },
    }
    with stage.user() as client:
        client.ask(type="subscribe", id=1, channel="presence-thread.1")
        for path, body in bodies.items():
            assert stage.server.post(path, body).status_code == 200
            message = client.next()
            assert the_one(message, SENT) == "publication"
            assert message["publication"]
            assert message["channel"] == ("presence-thread.1" if "thread.1" in json.dumps(body) else "private-user.1")
        assert message["data"] == {"timestamp": "just now", "source": "laravel"}


@scenario
def malformed_requests(stage: Stage) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "type"),
        ({"type": 5}, "type"),
        ({"type": "unheard-of"}, "type"),
        ({"type": "ping", "id": 1.5}, "id"),
        ({"type": "ping", "id": True}, "id"),
        ({"type": "ping", "id": 2**53}, "id"),
        ({"type": "ping", "id": "x" * 65}, "id"),
        ({"type": "auth"}, "token"),
        ({"type": "auth", "token": 5}, "token"),
        ({"type": "subscribe"}, "channel"),
        ({"type": "subscribe", "channel": 5}, "channel"),
        ({"type": "subscribe", "channel": "has a blank"}, "channel"),
        ({"type": "unsubscribe", "channel": "private-"}, "channel"),
        ({"type": "subscribe", "channel": "x" * 165}, "channel"),
        ({"type": "event"}, "event"),
        ({"type": "event", "event": 5}, "event"),
        ({"type": "event", "event": "user_activity", "data": {"activity": 5}}, "activity"),
        ({"type": "event", "event": "user_activity", "data": "x" * 129}, "activity"),
        ({"type": "event", "event": "typing_start"}, "channel"),
        ({"type": "event", "event": "typing_start", "data": {"channel": ""}}, "channel"),
        ({"type": "event", "event": "typing_stop", "data": {"thread_id": 0}}, "thread_id"),
        ({"type": "event", "event": "typing_stop", "data": {"thread_id": "01"}}, "thread_id"),
        ({"type": "event", "event": "subscribe"}, "channel"),
        ({"type": "event", "event": "join_channel", "data": ["thread.1"]}, "channel"),
    ]
    with stage.user() as client:
        for request, field in wrong:
            error = client.send_wrong(request)
            assert (error["code"], error["field"]) == (Code.VALIDATION_ERROR, field), request
            client.ask(type="ping", id=1)


@scenario
def ten_in_a_row_that_are_no_requests(stage: Stage) -> None:
    with stage.user() as client:
        nine = ("no json", "[]", "5", "null", '"text"', "{}", '{"type": "x"}', '{"type": "auth"}', '{"id": {}}')
        for text in (*nine, '{"type": "ping"}', *nine, "[" * 1000):
            client.connection.send(text)
        assert client.ends() == Disconnect.BAD_MESSAGE.code
        assert len(client.seen) == 1 + 9 + 1 + 10


@scenario
def a_fault_of_the_server(stage: Stage) -> None:
    folder = stage._paths.mktemp("database")
    with sqlite3.connect(folder / "other.sqlite") as database:
        database.execute("CREATE TABLE something_else (id INTEGER)")
    database.close()
    server = stage.start(DB_SQLITE_PATH=str(folder / "other.sqlite"))
    with stage.user(1, server) as client:
        assert client.refused(type="subscribe", id=1, channel="thread.1") == Code.SERVER_ERROR
        assert client.answers(type="ping", id=2) == "pong"
        server.stop()
        assert client.ends() == Disconnect.RESTART.code


@scenario
def too_many_requests(stage: Stage) -> None:
    with stage.user(11, stage.strict) as an:
        an.ask(type="subscribe", id=1, channel="presence-public.news")
        assert an.answers(type="event", id=2, event="user_activity", data="a") == "done"
        for what in ("events on this channel", "events"):
            assert an.refused(type="event", id=3, event="user_activity", data="b") == Code.RATE_LIMITED
            assert an.seen[-1]["error"] == f"Too many {what}"
            assert an.seen[-1]["details"]["retryAfter"] > 0
            an.ask(type="ping", id=4)
        assert an.refused(type="subscribe", id=5, channel="public.more") == Code.RATE_LIMITED


@scenario
def too_many_connections(stage: Stage) -> None:
    with stage.user(21, stage.strict):
        with stage.open(stage.strict, header=stage.strict.token(21)) as second:
            assert second.ends() == Disconnect.USER_LIMIT.code
            assert second.seen[-1]["code"] == Code.RATE_LIMITED
        with stage.open(stage.strict, header=stage.strict.token(21)) as third:
            assert third.ends() == Disconnect.THROTTLED.code
            assert third.seen[-1]["code"] == Code.RATE_LIMITED
        with stage.user(22, stage.strict), stage.user(23, stage.strict), stage.open(stage.strict) as fourth:
            assert fourth.ends() == Disconnect.GLOBAL_LIMIT.code
            assert fourth.seen[-1]["code"] == Code.RATE_LIMITED


@scenario
def no_token_in_time(stage: Stage) -> None:
    with stage.open(stage.strict) as client:
        assert client.ends() == Disconnect.AUTH_TIMEOUT.code
        assert client.seen[-1]["code"] == Code.AUTH_FAILED


@scenario
def the_token_expires(stage: Stage) -> None:
    with stage.user(5, expires_in=2) as client:
        assert client.ends() == Disconnect.TOKEN_EXPIRED.code
        assert client.seen[-1]["code"] == Code.AUTH_FAILED


@scenario
def no_sign_of_life(stage: Stage) -> None:
    member = Member(stage.strict.port, stage.strict.token(31))
    # a member answers pings when it takes messages out of its buffer: none before the end
    member.socket.settimeout(LIMIT)
    while Disconnect.HEARTBEAT.reason.encode() not in member.buffer:
        data = member.socket.recv(4096)
        assert data
        member.buffer += data
    member.messages()
    member.socket.close()
    assert member.closed is not None
    assert stage.heard.note_closing(*member.closed) == Disconnect.HEARTBEAT.code


@scenario
def reading_too_slowly(stage: Stage) -> None:
    with stage.open(header=stage.server.token(1), reads_ahead=1) as client:
        client.ask(type="subscribe", id=1, channel="public.big")
        # until the server has had enough: the kernel's buffers may take tens of megabytes
        body = {"text": "x" * 900_000}
        assert any(not stage.server.publish("public.big", "flood", body).json()["subscriberCount"] for _ in range(80))
        assert client.ends() == Disconnect.SLOW_CONSUMER.code


@scenario
def what_is_no_native_message(stage: Stage) -> None:
    with stage.user() as client:
        client.connection.send(b"\x00\x01")
        assert client.ends() == Disconnect.UNSUPPORTED_DATA.code
    with stage.user() as client:
        client.connection.send("x" * (MAX_BODY + 1))
        assert client.ends() == Disconnect.TOO_BIG.code
    assert stage.ends_raw(b"\x81\x81\0\0\0\0\xff") == 1007
    assert stage.ends_raw(b"\x81\x02{}") == 1002, "not masked"
    client = stage.user()
    client.connection.close(1000, "normal")
    stage.heard.note_closing(client.connection.close_code, client.connection.close_reason)


_UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@scenario
def refusals_of_the_handshake(stage: Stage) -> None:
    documented = {row["status"] for row in REALTIME["x-handshake-refusals"]}
    assert documented == {400, 403, 404, 426, 429, 503}
    token = stage.server.token(1)
    for path, subprotocols in (("/ws", ["other"]), ("/ws/", None)):
        with pytest.raises(InvalidStatus) as refused:
            Client.open(f"ws://127.0.0.1:{stage.server.port}{path}", header=token, subprotocols=subprotocols)
        assert refused.value.response.status_code in documented
    assert stage.server.get("/ws").status_code == 426
    assert stage.strict.get("/ws", **_UPGRADE, Origin="https://else.example.com").status_code == 403
    with stage.open(header=token, subprotocols=["other", native.SUBPROTOCOL]) as client:
        client.greeted()
