"""Routes and what is said of them, put together as one OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from mechamap_rt import __version__
from mechamap_rt.http.openapi import administration, information, monitoring, presence, publishing, revoking, steering
from mechamap_rt.http.openapi.answers import HEADERS, errors_of, response, responses
from mechamap_rt.http.openapi.operation import Group, Operation
from mechamap_rt.http.openapi.schemas import IDENT, PUBLICATION, SHARED, Schema, ref
from mechamap_rt.http.routing import Route

GROUPS: Final[Sequence[Group]] = (
    publishing.GROUP,
    presence.GROUP,
    revoking.GROUP,
    information.GROUP,
    administration.GROUP,
    steering.GROUP,
    monitoring.GROUP,
)
_ABOUT: Final = (
    "For the site's backend, its administrators and whatever watches over the server. Browsers use Socket.IO or the "
    "native protocol instead.\n\nErrors are JSON of one shape: `success`, `error` for programs, `message` for people, "
    "and `details` with every field that is wrong. Members may be added to answers; members of a request that are not "
    "known are not looked at, but for thresholds."
)
_SECURITY: Final[Mapping[str, Any]] = {
    "backendKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-WebSocket-API-Key",
        "description": "The backend's key, `LARAVEL_API_KEY`.",
    },
    "adminKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Admin-Key",
        "description": "The administrators' key, `ADMIN_KEY`. It opens what the backend's key opens, too.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The backend's key, or a JWT: one with an administrator's role is as good as the "
        "administrators' key, one with the permission `broadcast` as the backend's. A token of Laravel Sanctum is "
        "worth nothing here but to `POST /api/test-auth`.",
    },
}
_VARIABLES: Final[Mapping[str, Schema]] = {
    "id": {"description": "The user's id.", "schema": IDENT, "example": 5},
    "channel": {
        "description": "The channel, by any of its names.",
        "schema": ref("ChannelName"),
        "example": "thread.7",
    },
    "publication": {
        "description": "The publication's id, as the answer to its publisher had it.",
        "schema": PUBLICATION,
        "example": "a1b001-19uac3zv1",
    },
}
_REQUEST_ID: Final = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "The request's id, for the log and the answer: up to 128 characters of `A-Za-z0-9._:/+=@-`, the "
    "first a letter or digit. Any other is replaced by one of the server's.",
    "schema": {"type": "string"},
    "example": "6f1c2a90d3b74e58",
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Made up by the caller for each publication, and the same when it is tried again: it is published "
    "once, and the second request gets the answer of the first.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "example": "order-99-paid",
}
_PARAMETERS: Final = {"RequestId": _REQUEST_ID, "IdempotencyKey": _IDEMPOTENCY_KEY}


def describe(routes: Iterable[Route], max_body: int) -> dict[str, Any]:
    """The document of a server that has these routes.

    :param max_body: bytes of a request's body.
    """
    known = {(each.method, each.path): (group, each) for group in GROUPS for each in group.operations}
    paths: dict[str, Any] = {}
    named: dict[str, Group] = {}
    exempt = {(method, route.pattern): route.exempt for route in routes for method in route.methods}
    for key, (group, each) in known.items():
        if key in exempt:
            named[group.name] = group
            path = each.path.replace("<", "{").replace(">", "}")
            paths.setdefault(path, {})[each.method.lower()] = _operation(group, each, exempt[key])
    schemas = dict(SHARED)
    for group in named.values():
        schemas |= group.schemas
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mechamap_rt",
            "version": __version__,
            "summary": "The HTTP API of the realtime layer",
            "description": f"{_ABOUT}\n\nA request's body has at most {max_body:,} bytes.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": group.name, "description": group.description} for group in named.values()],
        "paths": paths,
        "components": {
            "schemas": _needed(schemas, paths),
            "parameters": _PARAMETERS,
            "headers": HEADERS,
            "responses": responses(),
            "securitySchemes": _SECURITY,
        },
    }


def _operation(group: Group, each: Operation, exempt: bool) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True} | variable
        for name, variable in _VARIABLES.items()
        if f"<{name}>" in each.path
    ]
    parameters += [{"name": name, "in": "query"} | parameter for name, parameter in each.query.items()]
    if each.idempotent:
        parameters.append({"$ref": "#/components/parameters/IdempotencyKey"})
    parameters.append({"$ref": "#/components/parameters/RequestId"})
    found: dict[str, Any] = {
        "operationId": each.name,
        "tags": [group.name],
        "summary": each.summary,
        "description": each.description,
        "x-who": each.who.sentence,
        "security": each.who.security,
        "parameters": parameters,
    }
    if each.body is not None:
        examples = {name: {"value": value} for name, value in each.body.examples.items()}
        content = {"application/json": {"schema": each.body.schema, "examples": examples}}
        found["requestBody"] = {"required": each.body.required, "content": content}
    replayed = ("Idempotent-Replayed",) if each.idempotent else ()
    answers = {"200": response("It is done." if each.method != "GET" else "The answer.", each, exempt, replayed)}
    for status, (text, schema) in each.also.items():
        answers[str(status)] = response(text, each, exempt, schema=schema)
    for error in errors_of(each, exempt):
        answers[str(error.status)] = {"$ref": f"#/components/responses/{error.code}"}
    return found | {"responses": dict(sorted(answers.items()))}


def _needed(schemas: Mapping[str, Schema], paths: Any) -> dict[str, Schema]:
    """Those that something refers to, in the order they have."""
    found = {"Error", "WrongField"}
    waiting = [*_references(paths), *_references(_VARIABLES)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _references(schemas[name])
    return {name: schema for name, schema in schemas.items() if name in found}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        target = value.get("$ref")
        if isinstance(target, str) and target.startswith("#/components/schemas/"):
            yield target.rpartition("/")[2]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _references(each)
