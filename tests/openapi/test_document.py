"""The description is sound, says what the code has, and running servers do as its examples say."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import jsonschema
import pytest
import requests
from twisted.internet import reactor

from mechamap_rt import __version__
from mechamap_rt.app import Realtime
from mechamap_rt.core.thresholds import THRESHOLDS
from mechamap_rt.http.openapi import GROUPS, describe
from mechamap_rt.http.openapi.operation import Operation, Who
from mechamap_rt.http.openapi.schemas import ERRORS, up_to
from mechamap_rt.http.replies import Error
from mechamap_rt.http.routing import Route
from mechamap_rt.place import alone
from mechamap_rt.process.helm import OwnHelm
from mechamap_rt.settings.loading import load
from tests.clients.native import NativeClient
from tests.conftest import StartServer
from tests.docs.asyncapi import nodes
from tests.server import ADMIN_KEY, REQUEST_LIMIT, SETTINGS, Server

SUMMARY_LENGTH = 50


@cache
def routes() -> tuple[Route, ...]:
    """Those of a server with everything switched on."""
    settings = load(SETTINGS, None).settings
    return Realtime(reactor, settings, alone(reactor, settings, OwnHelm())).web.router.routes


@cache
def document() -> dict[str, Any]:
    return describe(routes(), 1_000_000)


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(m.upper(), path, one) for path, item in document()["paths"].items() for m, one in item.items()]


def followed(schema: Any, strict: bool = False) -> Any:
    """A schema with its references replaced by what they name.

    :param strict: objects have no members but those that are described.
    """
    schema = copy.deepcopy(schema)
    if isinstance(schema, list):
        return [followed(each, strict) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        found = document()
        for part in schema["$ref"][2:].split("/"):
            found = found[part]
        return followed(found, strict)
    schema = {name: followed(value, strict) for name, value in schema.items()}
    if strict and "properties" in schema and isinstance(schema["properties"], dict):
        schema.setdefault("additionalProperties", False)
    return schema


ALL = [each for group in GROUPS for each in group.operations]


def described(each: Operation) -> dict[str, Any]:
    path = each.path.replace("<", "{").replace(">", "}")
    found: dict[str, Any] = document()["paths"][path][each.method.lower()]
    return found


def of_a_master(each: Operation) -> bool:
    """Is it for a master with workers, which the server of these tests is not?"""
    return each.method == "POST" and each.path.startswith("/api/cluster/")


def ask(server: Server, each: Operation, body: Any) -> Any:
    """The answer to an administrator, or where that is asked to whom has a token; it must be a success."""
    headers = {"X-Admin-Key": ADMIN_KEY}
    if each.who is Who.TOKEN:
        headers = {"Authorization": f"Bearer {server.token(1)}"}
    target = server.url + each.path.replace("<id>", "5").replace("<channel>", "thread.7")
    if "<publication>" in target:
        body, asked = None, {"channel": "private-user.5", "event": "e", "data": {}}
        published = requests.post(
            server.url + "/api/broadcast", json=asked, headers=headers, timeout=REQUEST_LIMIT
        ).json()
        target = target.replace("<publication>", published["id"]) + "?user=5"
    response = requests.request(each.method, target, json=body, headers=headers, timeout=REQUEST_LIMIT)
    assert response.status_code == (409 if of_a_master(each) else 200), response.text
    return response


# -- does it say what the code says? ---------------------------------------------------------------


def test_every_route_is_described_and_nothing_else() -> None:
    served = {(method, route.pattern) for route in routes() for method in route.methods}
    described = [(each.method, each.path) for group in GROUPS for each in group.operations]
    assert sorted(described) == sorted(served)
    assert len(operations()) == len(served)


def test_errors_are_those_of_the_code() -> None:
    assert set(ERRORS) == set(Error)
    assert set(document()["components"]["responses"]) == {error.code for error in Error}


def test_thresholds_are_those_of_the_code() -> None:
    body = document()["paths"]["/api/monitoring/thresholds"]["put"]["requestBody"]["content"]["application/json"]
    bounds = {name: (one["minimum"], one["maximum"]) for name, one in body["schema"]["properties"].items()}
    assert bounds == {name: (one.least, one.most) for name, one in THRESHOLDS.items()}


@pytest.mark.parametrize("most", [10, 19, 105, 2**63 - 1])
def test_digits_up_to(most: int) -> None:
    schema = jsonschema.Draft202012Validator({"pattern": up_to(most)})
    for number in (1, 9, 10, most // 10, most - 1, most):
        assert schema.is_valid(str(number))
    for text in ("0", "01", "", "-1", str(most + 1), str(most * 10), str(most + 10 ** (len(str(most)) - 1))):
        assert not schema.is_valid(text)


# -- is it sound? ----------------------------------------------------------------------------------


def test_it_is_openapi() -> None:
    found = document()
    assert (found["openapi"], found["info"]["version"]) == ("3.1.0", __version__)
    names = [one["operationId"] for _, _, one in operations()]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in found["tags"]}
    schemes = set(found["components"]["securitySchemes"])
    for method, path, one in operations():
        assert set(one["tags"]) <= tags
        assert {name for each in one["security"] for name in each} <= schemes
        assert 0 < len(one["summary"]) <= SUMMARY_LENGTH, (method, path)
        assert one["description"].endswith((".", "?")), (method, path)
        assert "200" in one["responses"]
        given = [followed(each) for each in one["parameters"]]
        assert {each["name"] for each in given if each["in"] == "path"} == {
            part[1:-1] for part in path.split("/") if part.startswith("{")
        }


def test_every_reference_leads_somewhere_and_nothing_is_left_lying_about() -> None:
    referred = {node["$ref"] for _, node in nodes(document()) if "$ref" in node}
    for kind, parts in document()["components"].items():
        if kind != "securitySchemes":
            assert [name for name in parts if f"#/components/{kind}/{name}" not in referred] == [], kind
    for reference in referred:
        followed({"$ref": reference})


def test_schemas_are_schemas() -> None:
    for name, schema in document()["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        for example in schema.get("examples", ()):
            jsonschema.validate(example, followed(schema), jsonschema.Draft202012Validator)
        assert name[0].isupper()


# -- does the server do as it says? ----------------------------------------------------------------


@pytest.mark.parametrize("each", ALL, ids=lambda each: f"{each.method} {each.path}")
def test_examples_are_accepted_and_answers_have_no_member_that_is_not_described(
    server: Server, each: Operation
) -> None:
    content = described(each)["responses"]["409" if of_a_master(each) else "200"]["content"]
    schema = followed(content[each.media_type]["schema"], strict=not of_a_master(each))
    for body in [None] if each.body is None else each.body.examples.values():
        if each.body is not None:
            jsonschema.validate(body, followed(each.body.schema), jsonschema.Draft202012Validator)
        response = ask(server, each, body)
        assert response.headers["Content-Type"].startswith(each.media_type)
        if each.media_type == "application/json":
            jsonschema.validate(response.json(), schema, jsonschema.Draft202012Validator)


def test_connections_are_as_described(server: Server) -> None:
    schema = followed({"$ref": "#/components/schemas/Connection"}, strict=True)
    with NativeClient.open(server.ws_url, header=server.token(5)) as client:
        client.greeted()
        found = server.get("/api/connections/user/5", X_Admin_Key=ADMIN_KEY).json()["connections"]
        channel = server.get("/api/channels/user.5", key=True).json()
    assert len(found) == len(channel["subscribers"]) == 1
    jsonschema.validate(found[0], schema, jsonschema.Draft202012Validator)


def test_a_server_describes_what_it_has(server: Server, start_server: StartServer) -> None:
    assert server.get("/api/openapi.json").json()["paths"].keys() == document()["paths"].keys()
    home = server.get("/").json()["endpoints"]
    assert (home["openapi"], home["docs"]) == ("/api/openapi.json", "/docs")
    plain = start_server(METRICS_ENABLED="false", DEMO_ENABLED="false").get("/api/openapi.json").json()
    missing = document()["paths"].keys() - plain["paths"].keys()
    assert all(path.startswith(("/api/monitoring/", "/metrics", "/console/")) for path in missing)
    assert not any("monitoring" in path or "metrics" in path for path in plain["paths"])
    assert "Monitoring" not in [tag["name"] for tag in plain["tags"]]
    assert "Thresholds" not in plain["components"]["schemas"]
