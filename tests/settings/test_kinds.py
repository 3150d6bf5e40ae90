"""Notations: what is read, what is refused, and that every value can be written and read again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechamap_rt.settings import kinds
from mechamap_rt.settings.faults import BadValue
from mechamap_rt.settings.kinds import GIB, KIB, MIB, Kind

SIZE = kinds.size(KIB, GIB)
MEMORY = kinds.megabytes(64 * MIB, 1024 * GIB, zero=True)
WORKERS = kinds.optional(kinds.integer(1, 8), "auto")
LIST = kinds.comma_list(kinds.choice("websocket", "polling"))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (kinds.integer(), "15000", 15000),
        (kinds.integer(), "2e6", 2_000_000),
        (kinds.integer(), "1.5E3", 1500),
        (kinds.integer(), "-0", 0),
        (kinds.milliseconds(), "15000", 15.0),
        (kinds.milliseconds(), "2e6", 2000.0),
        (kinds.milliseconds(0), "0", 0.0),
        (SIZE, "2e6", 2_000_000),
        (SIZE, "10m", 10 * MIB),
        (SIZE, "10 MB", 10 * MIB),
        (SIZE, "512k", 512 * KIB),
        (SIZE, "0.5g", 512 * MIB),
        (SIZE, "1g", GIB),
        (MEMORY, "3072", 3072 * MIB),
        (MEMORY, "2048M", 2048 * MIB),
        (MEMORY, "2g", 2048 * MIB),
        (MEMORY, "0", 0),
        (kinds.boolean, "TRUE", True),
        (kinds.boolean, "Yes", True),
        (kinds.boolean, "on", True),
        (kinds.boolean, "1", True),
        (kinds.boolean, "off", False),
        (kinds.boolean, "no", False),
        (kinds.boolean, "0", False),
        (kinds.duration, "24h", 86400.0),
        (kinds.duration, "7d", 604800.0),
        (kinds.duration, "3600", 3600.0),
        (kinds.duration, "2 days", 172800.0),
        (kinds.duration, "1.5h", 5400.0),
        (WORKERS, "auto", None),
        (WORKERS, "AUTO", None),
        (WORKERS, "3", 3),
        (LIST, "polling, websocket,", ("polling", "websocket")),
        (LIST, "polling,POLLING", ("polling",)),
        (kinds.secret, " pa$$ ’wörd# ", " pa$$ ’wörd# "),
        (kinds.secret_list, "a b, pa$$ ,a b,,", ("a b", "pa$$")),
        (kinds.secret_list, "one\r\n two \n\nthree,four\n", ("one", "two", "three", "four")),
    ],
)
def test_reads(kind: Kind[Any], text: str, value: object) -> None:
    parsed = kind.parse(text)
    assert parsed == value
    assert type(parsed) is type(value)
    assert kind.parse(kind.format(parsed)) == value


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (
            kinds.integer(),
            [
                "x",
                "-1",
                "1.5",
                "1e10",
                "1e999",
                "inf",
                "nan",
                "0x10",
                "1_000",
                "+1",
                "1e-99",
                "1e-400",
                "٣",
                "１",
                "1 ",
            ],
        ),
        (kinds.milliseconds(), ["0", "-5", "1.5", "15s", "1e11", "nan", "Infinity"]),
        (SIZE, ["1", "10x", "10mm", "m", "-10m", "infg", "2g", "0", "1025.5", "9" * 100, "1" + "m" * 100_000, "１m"]),
        (MEMORY, ["3", "1b", "3221225472"]),
        (kinds.boolean, ["2", "t", "tru", "ｔrue", "None"]),
        (kinds.duration, ["0", "-1h", "1 fortnight", "11y", "inf", "nan", "h", "1h30m", "0.1ms"]),
        (WORKERS, ["0", "9", "none"]),
        (LIST, ["flashsocket", "polling;websocket", ",", "polling websocket"]),
        (kinds.text, ["a\nb", "a\0", "\x1b[31m", "\u202e", "\udcff"]),
        (kinds.secret, ["a\nb", "a\0", "\udcff", "\x7f"]),
    ],
)
def test_refuses(kind: Kind[Any], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(BadValue):
            kind.parse(text)


def test_a_list_names_the_element_that_is_wrong() -> None:
    with pytest.raises(BadValue, match="each element must be one of websocket, polling") as caught:
        LIST.parse("polling,flash")
    assert caught.value.culprit == "flash"


@given(st.integers(0, 10**9))
def test_numbers_survive_writing(number: int) -> None:
    for kind in (kinds.integer(), kinds.milliseconds(0), kinds.size(0, GIB)):
        value = kind.parse(str(number))
        assert kind.parse(kind.format(value)) == value


@given(st.integers(64 * MIB, 1024 * GIB))
def test_memory_survives_writing(size: int) -> None:
    assert MEMORY.parse(MEMORY.format(size)) == size


@given(st.integers(1, 10 * 365 * 86400))
def test_durations_survive_writing(seconds: int) -> None:
    assert kinds.duration.parse(kinds.duration.format(float(seconds))) == seconds
