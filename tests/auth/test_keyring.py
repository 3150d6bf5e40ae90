"""Several secrets for one lock."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.auth import keyring
from mechamap_rt.auth.keyring import KeyRing

KEYS = st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=9, unique=True)


@given(KEYS, st.data())
def test_each_of_them_opens(keys: list[str], data: st.DataObject) -> None:
    ring = KeyRing(keys)
    place = data.draw(st.integers(0, len(keys) - 1))
    assert ring.find(keys[place].encode()) == place
    assert ring.matches(keys[place].encode())
    assert ring.fingerprints[place] == sha256(keys[place].encode()).hexdigest()[:8]


@given(KEYS, st.binary(max_size=40))
def test_nothing_else_does(keys: list[str], given_bytes: bytes) -> None:
    known = [key.encode() for key in keys]
    assert KeyRing(keys).matches(given_bytes) == (given_bytes in known)


def test_an_unset_key_is_never_given() -> None:
    assert not KeyRing([""]).matches(b"")
    assert not KeyRing([]).matches(b"")
    assert KeyRing(["", "b"]).find(b"b") == 0


def test_all_are_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = keyring.compare_digest

    def noting(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return compare(one, other)

    monkeypatch.setattr(keyring, "compare_digest", noting)
    assert KeyRing(["a", "b", "c"]).find(b"a") == 0
    assert compared == [b"a", b"b", b"c"]
