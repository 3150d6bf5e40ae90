"""JSON Web Tokens: what is believed, and what is not."""

import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.auth.jwt import JWTVerifier, bare, mint, require_connect
from mechamap_rt.errors import AuthRefused

SECRET = "0123456789abcdef0123456789abcdef"
VERIFIER = JWTVerifier(SECRET, "HS256")
GOOD = {"userId": 5, "role": "member", "permissions": ["receive_notifications"]}


def token(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256", **times: float) -> str:
    body = {"exp": time.time() + 60} | claims | times
    return jwt.encode(body, secret, algorithm=algorithm)


def refusal(text: str) -> str:
    with pytest.raises(AuthRefused) as caught:
        require_connect(VERIFIER.verify(text))
    assert str(caught.value).startswith("Authentication failed: ")
    return caught.value.reason


def test_the_claims_are_the_user() -> None:
    claims = GOOD | {"name": "Nguyễn", "email": "a@example.com", "avatar": "/a.png"}
    user = VERIFIER.verify(token(claims, exp=int(time.time()) + 60))
    assert (user.user_id, user.role, user.name, user.email) == (5, "member", "Nguyễn", "a@example.com")
    assert user.expires_at is not None and 58 < user.expires_at - time.time() <= 60
    assert VERIFIER.verify(token(GOOD)).name == "User 5"


@pytest.mark.parametrize("claims", [{"userId": 7}, {"sub": 7}, {"user_id": 7}, {"sub": "7"}, {"userId": 7, "sub": 8}])
def test_the_id_may_stand_in_three_places(claims: dict[str, Any]) -> None:
    assert VERIFIER.verify(token({"permissions": ["websocket:connect"]} | claims)).user_id == 7


@pytest.mark.parametrize(
    "user_id",
    [None, 0, -1, 2**63, 10**30, 1.5, True, "", "x", "05", "٥", "5 ", "5\n", [5], {"id": 5}, "5; DROP TABLE users"],
)
def test_ids_that_are_none(user_id: Any) -> None:
    assert refusal(token(GOOD | {"userId": user_id})) == "Invalid token"


@pytest.mark.parametrize(
    "permissions", [None, [], ["other"], "receive_notifications", {"receive_notifications": 1}, [7]]
)
def test_without_the_permission_nobody_comes_in(permissions: Any) -> None:
    assert refusal(token(GOOD | {"permissions": permissions})) == "Insufficient permissions"


def test_an_expired_token_says_so() -> None:
    assert refusal(token(GOOD, exp=time.time() - 1)) == "Token expired"


def test_claims_that_cannot_be_told_to_others_are_left_out() -> None:
    assert VERIFIER.verify(token(GOOD | {"name": "\ud800", "email": 7, "avatar": "x" * 5000})).name == "User 5"


@pytest.mark.parametrize("end", [10**400, -(10**400), "soon", None, [1]])
def test_an_end_that_is_no_time(end: Any) -> None:
    body = jwt.encode(GOOD | {"exp": 1}, SECRET).split(".")[0]
    assert body
    import base64
    import hashlib
    import hmac
    import json as stdlib

    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    signed = body + "." + part(stdlib.dumps(GOOD | {"exp": end}).encode())
    signature = part(hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha256))
    assert refusal(f"{signed}.{signature}") in ("Invalid token", "Token expired")


def test_a_token_must_have_an_end() -> None:
    assert refusal(jwt.encode(GOOD, SECRET, algorithm="HS256")) == "Invalid token"


def test_only_the_configured_algorithm_and_secret() -> None:
    assert refusal(token(GOOD, secret="f" * 40)) == "Invalid token"
    assert refusal(token(GOOD, algorithm="HS512", secret=SECRET * 2)) == "Invalid token"
    assert refusal(jwt.encode(GOOD | {"exp": time.time() + 60}, None, algorithm="none")) == "Invalid token"


@pytest.mark.parametrize("text", ["x", "a.b.c", "é", "x" * 10_000, "1|" + "a" * 40, ".", "..", "\x00"])
def test_what_is_no_token(text: str) -> None:
    assert refusal(text) == "Invalid token"


@given(st.text(max_size=200))
def test_garbage_is_refused_and_nothing_else(text: str) -> None:
    with pytest.raises(AuthRefused):
        VERIFIER.verify(text)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("abc", "abc"),
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("", None),
        ("Bearer ", None),
        (None, None),
        (5, None),
    ],
)
def test_with_and_without_bearer(given_: Any, expected: str | None) -> None:
    assert bare(given_) == expected


def test_what_is_minted_is_believed() -> None:
    assert VERIFIER.verify(mint(SECRET, "HS256", GOOD, time.time(), 60)).user_id == 5


OLD, OLDER = "abcdefabcdefabcdefabcdefabcdefab", "fedcbafedcbafedcbafedcbafedcbafe"


def test_previous_secrets_are_still_believed() -> None:
    verifier = JWTVerifier(SECRET, "HS256", (OLD, OLDER))
    for secret in (SECRET, OLD, OLDER):
        assert verifier.verify(token(GOOD, secret)).user_id == 5
        for wrong, reason in (
            (token(GOOD, secret, exp=time.time() - 1), "Token expired"),
            (token(GOOD | {"userId": "x"}, secret), "Invalid token"),
            (token(GOOD, secret, "HS384"), "Invalid token"),
        ):
            with pytest.raises(AuthRefused) as caught:
                verifier.verify(wrong)
            assert caught.value.reason == reason
    with pytest.raises(AuthRefused) as caught:
        verifier.verify(token(GOOD, "none-of-them-none-of-them-none-of"))
    assert caught.value.reason == "Invalid token"
    assert refusal(token(GOOD, OLD)) == "Invalid token"


def test_the_current_secret_costs_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    decode = jwt.decode

    def noting(text: str, secret: bytes, **options: Any) -> dict[str, Any]:
        tried.append(secret)
        claims: dict[str, Any] = decode(text, secret, **options)
        return claims

    monkeypatch.setattr(jwt, "decode", noting)
    JWTVerifier(SECRET, "HS256", (OLD, OLDER)).verify(token(GOOD))
    assert tried == [SECRET.encode()]
