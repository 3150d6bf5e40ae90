"""Sanctum tokens taken apart, and how one is compared with what is stored."""

from __future__ import annotations

import hmac
from hashlib import sha256
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.auth import sanctum
from mechamap_rt.auth.jwt import CONNECT

SECRET = "Ab0_" * 12
DIGEST = sha256(SECRET.encode()).hexdigest()


def test_the_parts_of_a_token() -> None:
    for ident in (1, 9, 10, 2**63 - 1):
        assert sanctum.parse(f"{ident}|{SECRET}") == (ident, DIGEST)
    for length, fits in ((39, False), (40, True), (255, True), (256, False)):
        assert (sanctum.parse("1|" + "a" * length) is not None) is fits


@pytest.mark.parametrize("ident", ["", "0", "00", "01", "-1", "+1", "1.0", "1e3", " 1", "1 ", "٣", "१", "１", "²"])
def test_numbers_that_are_none(ident: str) -> None:
    assert sanctum.parse(f"{ident}|{SECRET}") is None


@pytest.mark.parametrize("ident", [2**63, 2**64, 2**64 + 1, 10**19, 10**60])
def test_numbers_beyond_the_database_s(ident: int) -> None:
    assert sanctum.parse(f"{ident}|{SECRET}") is None


@pytest.mark.parametrize("odd", ["'", '"', "\\", "\0", "\n", "%s", "|", " ", "é", "-", "٣", "\ud800", "\u202e"])
def test_secrets_that_are_none(odd: str) -> None:
    for token in (f"1|{SECRET}{odd}", f"1|{odd}{SECRET}", f"1|{SECRET[:20]}{odd}{SECRET[20:]}", f"1{odd}|{SECRET}"):
        assert sanctum.parse(token) is None


@given(st.text(max_size=300))
def test_garbage_has_no_parts_or_sound_ones(text: str) -> None:
    parts = sanctum.parse(text)
    assert parts is None or (1 <= parts.id < 2**63 and len(parts.digest) == 64)


def test_only_the_stored_digest_is_genuine() -> None:
    parts = sanctum.Parts(1, DIGEST)
    assert sanctum.is_genuine(parts, DIGEST)
    assert sanctum.is_genuine(parts, DIGEST.upper()), "the column's letters may be of either case"
    for stored in (None, "", "0" * 64, "é" * 64, "0" * 63, DIGEST[:-1], DIGEST + "0", " " + DIGEST[1:], SECRET):
        assert not sanctum.is_genuine(parts, stored)
    for place in range(64):
        flipped = "0" if DIGEST[place] != "0" else "1"
        assert not sanctum.is_genuine(parts, DIGEST[:place] + flipped + DIGEST[place + 1 :])


def test_what_stands_for_no_row_is_nobody_s() -> None:
    nothing = sanctum.Parts(1, "0" * 64)
    for stored in (None, "", "short", "é" * 64):
        assert not sanctum.is_genuine(nothing, stored)


@pytest.mark.parametrize("stored", [DIGEST, "f" * 64, None, "", "short", "é" * 64])
def test_every_outcome_is_one_comparison_in_constant_time_of_digests(stored: str | None) -> None:
    """The comparison sees digests of one length only, and once, whatever there is to compare with."""
    with mock.patch.object(sanctum, "compare_digest", wraps=hmac.compare_digest) as compared:
        sanctum.is_genuine(sanctum.Parts(1, DIGEST), stored)
    ((left, right), _) = compared.call_args
    assert compared.call_count == 1
    assert left == DIGEST
    assert len(right) == 64
    assert SECRET not in (left, right)
    assert sanctum.compare_digest is hmac.compare_digest


def test_how_much_of_a_secret_is_right_is_not_in_what_is_compared() -> None:
    """Secrets that share all but the last character share no more of their digests than any two do."""
    real = sanctum.parse(f"1|{SECRET}")
    assert real is not None
    common = []
    for at in range(40, 48):
        near = sanctum.parse(f"1|{SECRET[:at] + 'z' + SECRET[at + 1 :]}")
        assert near is not None
        common.append(sum(left == right for left, right in zip(near.digest, real.digest, strict=True)))
    # four of 64 digits are equal by chance
    assert max(common) < 20


@pytest.mark.parametrize(
    ("abilities", "held", "expected"),
    [
        (("*",), (), ("receive_notifications",)),
        (("websocket:receive-notifications",), (), ("receive_notifications",)),
        (("read", "*"), ("a", "b"), ("receive_notifications", "a", "b")),
        (("websocket:connect",), (), ()),
        (("receive_notifications",), (), ()),
        (("read",), ("broadcast",), ("broadcast",)),
        ((), ("receive_notifications", "websocket:connect", "x"), ("x",)),
        (("**", "* ", "websocket:*"), (), ()),
    ],
)
def test_what_abilities_are_worth(abilities: tuple[str, ...], held: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert sanctum.permissions(abilities, held, CONNECT) == expected
