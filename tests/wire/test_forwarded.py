"""Whom a limit on addresses counts."""

from __future__ import annotations

import pytest

from mechamap_rt.wire.forwarded import household


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("", ""),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_one_line_is_one(address: str, counted: str) -> None:
    assert household(address) == counted
