"""docs/asyncapi.yaml is a sound AsyncAPI 3 document, and says what the code says."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.node import Node
from mechamap_rt.errors import Code, Disconnect
from mechamap_rt.transport.native import RETURN_WITHIN
from mechamap_rt.wire import json as wire_json
from mechamap_rt.wire import native
from tests.docs.asyncapi import (
    DOCUMENT,
    FIELDS,
    REALTIME,
    RECEIVED,
    SECURITY,
    SENT,
    fitting,
    nodes,
    resolve,
    the_one,
)
from tests.docs.events import known_events


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
    excluded = DOCUMENT["components"]["schemas"]["UnknownEvent"]["properties"]["event"]["not"]["enum"]
    assert sorted(excluded) == known_events()
    requests = [resolve(DOCUMENT["components"]["messages"][name]["payload"]) for name in RECEIVED]
    events = [schema["properties"]["event"] for schema in requests if schema["properties"]["type"]["const"] == "event"]
    documented = [name for event in events for name in event.get("enum", [event.get("const")]) if name is not None]
    assert sorted(documented) == known_events()


def test_requests_are_those_of_the_code() -> None:
    schemas = [resolve(DOCUMENT["components"]["messages"][name]["payload"]) for name in RECEIVED]
    assert {schema["properties"]["type"]["const"] for schema in schemas} == set(native.RequestType)


@pytest.mark.parametrize("degraded", [True, False])
def test_the_state_of_the_service_is_that_of_the_code(degraded: bool) -> None:
    node = Node(MemoryBus(), "aaa001")
    node.on_state(degraded)
    sent = json.loads(native.EventEncoder().event("service_status", wire_json.encode(node.state())))
    assert the_one(sent, SENT) == "serviceStatus"
    assert sent["data"]["status"] == ("degraded" if degraded else "ok")


def test_the_longest_delay_is_that_of_the_code() -> None:
    delay = DOCUMENT["components"]["schemas"]["Reconnect"]["properties"]["delay"]
    assert (delay["minimum"], delay["exclusiveMaximum"]) == (0, 1000 * RETURN_WITHIN)
