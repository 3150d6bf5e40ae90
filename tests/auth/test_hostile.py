"""Tokens that nobody's site hands out: each is refused in the contract's words, and nobody else notices.

All of them go to one server with a real MariaDB, while a bystander stays connected.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt as pyjwt
import pytest
import requests
from websockets.exceptions import InvalidStatus

from tests.auth.people import person
from tests.clients.native import NativeClient
from tests.conftest import ConnectNode
from tests.mariadb import MariaDB
from tests.server import JWT_SECRET, LARAVEL_API_KEY, Server

INVALID = "Authentication failed: Invalid token"
#: In every secret that the tests send, and so in nothing that the server prints.
MARK = "Geheim"


@pytest.fixture(scope="module")
def site(mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server.start(tmp_path_factory.mktemp("site"), mariadb.settings(LOG_LEVEL="debug"))
    try:
        yield running
        output = running.output()
        assert "Traceback" not in output
        assert "Unhandled" not in output
        # development prints the keys of the demo once, where it says how to begin
        for secret in (MARK, JWT_SECRET, "tokenable", "SELECT"):
            assert secret not in output
        assert output.count(LARAVEL_API_KEY) <= 1
        running.stop()
    finally:
        running.end()


@pytest.fixture(scope="module")
def genuine(mariadb: MariaDB) -> str:
    """A token that is good: whatever is made of it must not be."""
    return mariadb.token(person(mariadb), secret=MARK + "a" * 42)


@pytest.fixture
def bystander(site: Server, genuine: str) -> Iterator[NativeClient]:
    """Somebody who must not notice anything."""
    with NativeClient.open(site.ws_url, header=genuine) as client:
        client.greeted()
        yield client
        assert client.ask(type="ping", id=1)["type"] == "pong"
        assert len(client.seen) == 2, client.seen


def told(server: Server, token: str) -> str:
    """What a native client is told that sends the token as its first message."""
    with NativeClient.open(server.ws_url) as client:
        client.send(type="auth", id=1, token=token)
        answer = client.next()
        assert (answer["type"], answer.get("code")) == ("error", "AUTH_FAILED"), answer
        assert client.closed()[0] == 4001
        message: str = answer["error"]
        return message


def worth(server: Server, token: str) -> requests.Response:
    """What ``/api/test-auth`` says."""
    return server.post("/api/test-auth", {}, key=False, Authorization=f"Bearer {token}")


# -- Sanctum ---------------------------------------------------------------------------------------

ODD = [
    "'",
    '"',
    "\\",
    "\0",
    "\n",
    "\r\n",
    "%s",
    "%",
    ";",
    "--",
    "/*",
    "`",
    "|",
    "\t",
    "é",
    "٣",
    "\u202e",
    "😀",
]


def test_odd_characters_anywhere(site: Server, genuine: str, bystander: NativeClient) -> None:
    ident, secret = genuine.split("|")
    for odd in ODD:
        tokens = [f"{ident}{odd}|{secret}", f"{ident}|{odd}{secret}", f"{ident}|{secret}{odd}x", f"{odd}x{genuine}"]
        if not odd.isspace():
            tokens += [odd, odd * 45, f"{ident}|{odd * 45}"]
        for token in tokens:
            assert told(site, token) == INVALID, token


@pytest.mark.parametrize(
    "attempt",
    [
        "1|' OR '1'='1",
        "1' OR 1=1 -- |{secret}",
        "1 OR 1=1|{secret}",
        "1) OR (1=1|{secret}",
        "1|{secret}' UNION SELECT 1,'App\\\\Models\\\\User',1 -- ",
        "1|%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s",
        "{id}|{secret}|{secret}",
        "|{secret}",
        "{id}|",
        "|",
        "||||",
        "{id}",
        "{secret}",
        "{id}||{secret}",
        "{id}.0|{secret}",
        "{id}e0|{secret}",
        "0x1|{secret}",
        "{id},1|{secret}",
        "{{id}}|{{secret}}",
        "Bearer Bearer {id}|{secret}",
    ],
)
def test_injections(site: Server, genuine: str, bystander: NativeClient, attempt: str) -> None:
    ident, secret = genuine.split("|")
    assert told(site, attempt.replace("{id}", ident).replace("{secret}", secret)) == INVALID


def test_numbers_that_are_no_row_s(site: Server, genuine: str, bystander: NativeClient) -> None:
    ident, secret = genuine.split("|")
    number = int(ident)
    scripts = [0x0660, 0x0966, 0xFF10, 0x1D7CE]
    other_digits = ["".join(chr(zero + int(digit)) for digit in ident) for zero in scripts]
    bad = [0, -number, 2**63 - 1, 2**63, 2**64 + number, 2**32 + number, 10**40 + number, f"-{ident}", f"+{ident}"]
    for one in [*bad, f"0{ident}", f"00{ident}", "", "NaN", "Infinity", "null", *other_digits]:
        assert told(site, f"{one}|{secret}") == INVALID, one


def test_tokens_of_every_length(site: Server, genuine: str, bystander: NativeClient) -> None:
    ident, _ = genuine.split("|")
    for length in (1, 39, 40, 255, 256, 8192, 8193, 100_000, 900_000):
        assert told(site, f"{ident}|{'x' * length}"[: max(length, 8)]) == INVALID


def test_a_token_of_a_megabyte_is_too_much_for_a_message(site: Server, bystander: NativeClient) -> None:
    with NativeClient.open(site.ws_url) as client:
        client.send(type="auth", id=1, token=MARK * 200_000)
        assert client.closed()[0] == 1009


def test_a_token_of_a_megabyte_in_the_request(site: Server, bystander: NativeClient) -> None:
    long = MARK + "x" * 1_000_000
    for place, status in (({"header": long}, 431), ({"query": long}, 431)):
        with pytest.raises(InvalidStatus) as caught:
            NativeClient.open(site.ws_url, **place)
        assert caught.value.response.status_code == status


def test_the_query_and_the_header_know_no_more(site: Server, genuine: str, bystander: NativeClient) -> None:
    for odd in ("%27", "%00", "%0A", "%25s", "%E2%80%AE", "%ff", "%"):
        with NativeClient.open(site.ws_url, query=genuine + odd + "x") as client:
            assert client.next()["error"] == INVALID, odd
            assert client.closed()[0] == 4001


def test_the_same_over_socket_io(
    site: Server, genuine: str, connect_node: ConnectNode, bystander: NativeClient
) -> None:
    for odd in ("'", "\\", "\0", "\n", "%s", "é", "٣"):
        client = connect_node(site.url, genuine + odd + "x")
        assert client.wait("connect_error")["message"] == INVALID
    for token in (5, True, [], {}, {"token": genuine}, [genuine], 1.5):
        client = connect_node(site.url, None, auth={"token": token})
        assert client.wait("connect_error")["message"].startswith("Authentication failed: "), token


# -- JWT -------------------------------------------------------------------------------------------


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(claims: Any, header: Any = None, digest: str = "sha256", secret: str = JWT_SECRET) -> str:
    """A JWT with whatever header, and a signature that fits it if that says HS…"""
    text = f"{part(header if header is not None else {'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}"
    return f"{text}.{part(hmac.digest(secret.encode(), text.encode(), digest))}"


@pytest.fixture(scope="module")
def claims(genuine: str, mariadb: MariaDB) -> dict[str, Any]:
    """Those of a good JWT, as the next test shows."""
    row = mariadb.sql("SELECT tokenable_id FROM personal_access_tokens WHERE id = %s", genuine.split("|")[0])
    permissions = ["receive_notifications"]
    return {"userId": row[0][0], "role": "member", "permissions": permissions, "exp": int(time.time()) + 600}


def test_the_forger_s_own_tools_make_good_tokens(site: Server, claims: dict[str, Any]) -> None:
    with NativeClient.open(site.ws_url, header=signed(claims)) as client:
        assert client.greeted()["userId"] == claims["userId"]


def test_algorithms(site: Server, claims: dict[str, Any], bystander: NativeClient) -> None:
    for name in ("none", "None", "NONE", "nOnE", "", None, 5, [], "HS256 ", "hs256"):
        header = {"alg": name, "typ": "JWT"}
        text = f"{part(header)}.{part(claims)}"
        for token in (text, f"{text}.", f"{text}.{part(b'x')}", signed(claims, header)):
            assert told(site, token) == INVALID, (name, token)
    for name, digest in (("HS512", "sha512"), ("HS384", "sha384"), ("HS512", "sha256")):
        assert told(site, signed(claims, {"alg": name, "typ": "JWT"}, digest)) == INVALID
    for name in ("RS256", "ES256", "PS256", "EdDSA"):
        assert told(site, signed(claims, {"alg": name, "typ": "JWT"})) == INVALID
    assert told(site, signed(claims, {"typ": "JWT"})) == INVALID
    for extra in ({"crit": ["x"], "x": 1}, {"b64": False, "crit": ["b64"]}):
        assert told(site, signed(claims, {"alg": "HS256", **extra})) == INVALID
    for ignored in (
        {"kid": "../../../etc/passwd"},
        {"kid": 5},
        {"jku": "http://127.0.0.1:1/"},
        {"jwk": {"kty": "oct"}},
    ):
        # what names another key has no effect: ours is the only one
        assert told(site, signed(claims, {"alg": "HS256", **ignored}, secret="x" * 40)) == INVALID


def test_ids_of_other_kinds(site: Server, claims: dict[str, Any], bystander: NativeClient) -> None:
    user = claims["userId"]
    kinds: list[Any] = [float(user), user + 0.5, True, False, [user], {"id": user}, 10**30, 2**63, -user, 0, ""]
    kinds += [f" {user}", f"{user} ", f"0{user}", f"+{user}", f"{user}.0", "٤١", "admin", f"{user} OR 1=1", "1e6"]
    for value in kinds:
        assert told(site, signed(claims | {"userId": value})) == INVALID, value
        rest = {name: given for name, given in claims.items() if name != "userId"}
        assert told(site, signed(rest | {"sub": value, "user_id": user})) == INVALID, value
    for good in ({"userId": str(user)}, {"userId": None, "sub": user}, {"userId": None, "sub": str(user)}):
        with NativeClient.open(site.ws_url, header=signed(claims | good)) as client:
            assert client.greeted()["userId"] == user


def test_ends_of_other_kinds(site: Server, claims: dict[str, Any], bystander: NativeClient) -> None:
    rest = {name: given for name, given in claims.items() if name != "exp"}
    for end in (None, "soon", [], {}, 10**400, float("inf"), float("nan"), -(10**400)):
        assert told(site, signed(rest | {"exp": end})).startswith("Authentication failed: "), end
    assert told(site, signed(rest)) == INVALID, "a token without an end"
    for passed in (0, True, -1, time.time() - 1):
        assert told(site, signed(rest | {"exp": passed})) == "Authentication failed: Token expired"
    assert told(site, signed(claims | {"nbf": time.time() + 600})) == INVALID


def test_bodies_of_other_kinds(site: Server, claims: dict[str, Any], bystander: NativeClient) -> None:
    deep = b"[" * 4000 + b"]" * 4000
    for body in (
        [],
        "x",
        5,
        None,
        True,
        [claims],
        b"",
        b"{",
        b"\xff\xfe",
        deep,
        b'{"userId":1,"exp":' + b"9" * 4000 + b"}",
    ):
        assert told(site, signed(body)).startswith("Authentication failed: "), body
    for header in ([], "x", 5, b"null", b"{", b"", deep):
        assert told(site, signed(claims, header)) == INVALID, header
    good = signed(claims)
    head, body_, signature = good.split(".")
    for token in (
        f"{head}.{body_}",
        f"{good}.{signature}",
        f"{head}..{signature}",
        f".{body_}.{signature}",
        "..",
        ".....",
    ):
        assert told(site, token) == INVALID
    tampered = f"{head}.{part(claims | {'role': 'admin'})}.{signature}"
    assert told(site, tampered) == INVALID
    wrong = pyjwt.encode(claims, "another-secret-of-at-least-32-bytes!", algorithm="HS256")
    assert told(site, wrong) == INVALID


# -- the HTTP API ----------------------------------------------------------------------------------


def test_what_a_token_is_worth(site: Server, claims: dict[str, Any], genuine: str, bystander: NativeClient) -> None:
    answer = worth(site, genuine)
    assert answer.status_code == 200
    body = answer.json()
    assert body["user"]["id"] == claims["userId"]
    assert (body["tokenType"], body["mayConnect"], body["expiresAt"]) == ("sanctum", True, None)
    body = worth(site, signed(claims)).json()
    assert (body["tokenType"], body["permissions"]) == ("jwt", ["receive_notifications"])
    assert body["expiresAt"] == time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(claims["exp"]))
    body = worth(site, signed(claims | {"permissions": []})).json()
    assert (body["success"], body["mayConnect"]) == (True, False)
    ident, secret = genuine.split("|")
    for token in (
        f"{ident}|{secret}'",
        f"{int(ident) + 10**9}|{secret}",
        "x",
        signed(claims, secret="x" * 40),
        "a b",
        "%s",
    ):
        answer = worth(site, token)
        assert answer.status_code == 401, token
        assert answer.json()["message"] == INVALID
        assert secret not in answer.text
    expired = worth(site, signed(claims | {"exp": 5}))
    assert (expired.status_code, expired.json()["message"]) == (401, "Authentication failed: Token expired")
    for headers in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer "}, {"Authorization": genuine}):
        answer = site.post("/api/test-auth", {}, key=False, **headers)
        assert answer.status_code == 401
        assert answer.json()["message"] == "Authentication failed: No token provided"
    assert site.get("/api/test-auth").status_code == 405
