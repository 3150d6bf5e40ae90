"""The project's pages are sound reStructuredText, and the tables of docs/protocols.rst say what the code says."""

from __future__ import annotations

import re
from functools import cache
from io import StringIO
from pathlib import Path

import docutils.nodes
import docutils.utils
import pytest
from docutils.core import publish_doctree

from mechamap_rt.auth import jwt
from mechamap_rt.commands import debug, dispatch, groups, table, typing
from mechamap_rt.core import batches, channels
from mechamap_rt.core.publication import _STATE, _VOLATILE, DeliveryClass, Priority
from mechamap_rt.core.rules import RESOURCES
from mechamap_rt.errors import Code, Disconnect
from mechamap_rt.http import bodies
from mechamap_rt.notifications import reading
from mechamap_rt.settings import serving
from mechamap_rt.settings.option import options_of
from mechamap_rt.transport import enginesession
from mechamap_rt.transport import native as native_sessions
from mechamap_rt.transport import socketio as socketio_sessions
from mechamap_rt.wire import engineio, json, native, socketio
from tests.docs.events import known_events

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.rst")), *sorted((ROOT / "docs").glob("*.rst"))]


def read(path: Path) -> tuple[docutils.nodes.document, str]:
    """A page, and all that docutils has to say against it."""
    complaints = StringIO()
    document = publish_doctree(
        path.read_text("utf-8"),
        source_path=str(path),
        settings_overrides={"warning_stream": complaints, "report_level": 1, "halt_level": 5},
    )
    return document, complaints.getvalue()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_restructured_text(path: Path) -> None:
    document, complaints = read(path)
    assert complaints == ""
    for reference in document.findall(docutils.nodes.reference):
        target, _, place = reference.get("refuri", "").partition("#")
        assert ":" in target or not target or (path.parent / target).exists(), f"{target} is not there"
        if place and target.endswith(".rst"):
            assert f'"{place}"' in repr(read(path.parent / target)[0].ids.keys()).replace("'", '"'), (
                f"{place} is not there"
            )
    for image in document.findall(docutils.nodes.image):
        assert (path.parent / image["uri"]).exists(), f"{image['uri']} is not there"


# -- the tables ------------------------------------------------------------------------------------


@cache
def protocols() -> docutils.nodes.document:
    return read(ROOT / "docs" / "protocols.rst")[0]


def rows(section: str, number: int = 0) -> list[tuple[str, ...]]:
    """The rows of a section's first table (or another), without its head, as text."""
    for found in protocols().findall(docutils.nodes.section):
        if found.next_node(docutils.nodes.title).astext() == section:
            body = list(found.findall(docutils.nodes.tbody))[number]
            return [tuple(text(entry) for entry in row.children) for row in body.children]
    raise AssertionError(f"docs/protocols.rst has no section {section!r}")


def text(node: docutils.nodes.Node) -> str:
    return " ".join(node.astext().split())


def test_rules() -> None:
    assert rows("Who may subscribe") == [(one.pattern, one.rule.value) for one in RESOURCES]


def test_close_codes() -> None:
    documented = [(int(code), reason, back != "no") for code, reason, back, _ in rows("Close codes")]
    assert documented == [(one.code, one.reason, one.reconnect) for one in Disconnect]


def test_error_codes() -> None:
    assert [row[0] for row in rows("Error codes")] == list(Code)


def test_client_events() -> None:
    assert sorted(row[0] for row in rows("Client events")) == known_events()


def test_native_requests() -> None:
    sent = [re.search(r'"type": "(\w+)"', row[0]) for row in rows("Requests")]
    assert [match[1] for match in sent if match] == list(native.RequestType)


def test_delivery_classes() -> None:
    documented = {row[0]: row[2] for row in rows("Delivery under pressure")}
    assert list(documented) == [one.name.lower() for one in DeliveryClass if one is not DeliveryClass.INTERNAL]
    assert set(documented["volatile"].split(", ")) == _VOLATILE
    assert {event for _, event in _STATE} == set(re.findall(r"\w+\.[\w.]+", documented["state"]))
    assert f"at most {bodies.MAX_KEY} characters" in rows("Delivery under pressure", 1)[1][1]


def test_priorities() -> None:
    documented = {row[0]: row[1] for row in rows("Priorities")}
    promised = {Priority.HIGH: "at once"} | {one: f"{seconds:g} s" for one, seconds in batches.PROMISED.items()}
    assert documented == {one.name.lower(): promised[one] for one in Priority}
    page = " ".join((ROOT / "docs" / "protocols.rst").read_text("utf-8").split())
    assert f"A batch has at most {batches.MAX_EVENTS} events" in page
    assert f"not more than {batches.MAX_BYTES};" in page


def test_limits_that_are_settings() -> None:
    options = {**options_of(serving.Limits), **options_of(serving.Ws)}
    defaults = {option.name: option.default for option in options.values()}
    for name, default, *_ in rows("Limits"):
        assert (name, int(default)) == (name, defaults[name])


def test_fixed_limits() -> None:
    limits = {
        "resources that one connection is subscribed to": table.MAX_SUBSCRIPTIONS,
        "requests of one connection that wait for the one in progress": dispatch.MAX_BACKLOG,
        "native requests that wait for authentication to end": native_sessions.MAX_WAITING,
        "channels that one connection types in": typing.MAX_AT_ONCE,
        "seconds until typing ends by itself": typing.EXPIRY,
        "seconds between two starts of typing that others are told of": typing.INTERVAL,
        "characters of a group's message": groups.MAX_MESSAGE,
        "connections of a process in debug mode": debug.MAX_SHOWN,
        "seconds that what was read waits to be stored": reading.PATIENCE,
        "levels of arrays and objects in JSON": json.MAX_DEPTH,
        "characters of a channel's name": channels.MAX_LENGTH,
        "characters of a native request's id": native.MAX_REQUEST_ID,
        "characters of a token": jwt.MAX_LENGTH,
        "native messages in a row that are not understood": native_sessions.MAX_BAD,
        "refused connects of one Socket.IO session": socketio_sessions.MAX_REFUSALS,
        "bytes of a Socket.IO namespace": socketio.MAX_NAMESPACE,
        "binary attachments of one Socket.IO packet": socketio.MAX_ATTACHMENTS,
        "packets of one polling body": engineio.MAX_PACKETS,
        "seconds in which an ended polling session is remembered": enginesession.LINGER,
    }
    assert {row[0].replace("’", "'"): int(row[1]) for row in rows("Limits", 1)} == limits
