"""Strict, bounded JSON."""

import contextlib
import json as stdlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.wire import json

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)


@given(values)
def test_what_python_writes_is_read(value: object) -> None:
    try:
        raw = stdlib.dumps(value).encode()
        raw.decode()
        stdlib.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert json.decode(raw) == value


@given(st.binary(max_size=200))
def test_garbage_is_bad_json_and_nothing_else(raw: bytes) -> None:
    with contextlib.suppress(json.BadJSON):
        json.decode(raw)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'"\xff"', "not valid UTF-8"),
        (b"NaN", "not valid JSON"),
        (b"[" * 129 + b"]" * 129, "nested deeper"),
        (b"[" * 200_000, "nested deeper"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "nested deeper"),
        (b'"\\ud800"', "unpaired surrogate"),
        (b'["\\udc00\\ud83d"]', "unpaired surrogate"),
        (b'["\\ud83d" x]', "not valid JSON"),
    ],
)
def test_every_way_of_being_wrong_is_said(raw: bytes, why: str) -> None:
    with pytest.raises(json.BadJSON, match=why):
        json.decode(raw)


def test_an_unpaired_surrogate_is_told_apart_from_broken_json() -> None:
    with pytest.raises(json.UnpairedSurrogate):
        json.decode(b'{"message":"\\ud83d"}')
    with pytest.raises(json.BadJSON) as caught:
        json.decode(b'{"message":"\\ud83d"')
    assert not isinstance(caught.value, json.UnpairedSurrogate)
    assert json.decode(b'"\\\\ud800 \\ud83d\\ude00"') == "\\ud800 😀"


def test_brackets_in_strings_are_no_depth() -> None:
    assert json.decode(b'["' + b"[" * 500 + b'"]') == ["[" * 500]
    assert json.decode(b'["\\"' + b"[" * 500 + b'\\\\"]') == ['"' + "[" * 500 + "\\"]
    assert not json.too_deep(b"[[]," * 100 + b"[]" + b"]" * 100)
    assert json.too_deep(b"[" * 129 + b"]" * 129)


@given(st.integers(0, 4_000_000_000_000))
def test_timestamps_have_milliseconds_and_z(millis: int) -> None:
    text = json.timestamp(millis / 1000 + 0.0001)
    assert len(text) == 24 and text.endswith("Z") and text[19] == "."


def test_a_known_timestamp() -> None:
    assert json.timestamp(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
