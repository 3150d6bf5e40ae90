"""docs/asyncapi.yaml as the tests use it: its parts, and which of its messages something is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

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
