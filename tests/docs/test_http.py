"""The tables of docs/http.rst say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from mechamap_rt.core import channels, ledger
from mechamap_rt.http import idempotency
from mechamap_rt.http.openapi.answers import HEADERS
from mechamap_rt.http.replies import Error

PAGE = (Path(__file__).parents[2] / "docs" / "http.rst").read_text("utf-8")


def test_errors() -> None:
    documented = re.findall(r"^(\d{3})    ``([A-Z_]+)``", PAGE, re.MULTILINE)
    assert [(int(status), code) for status, code in documented] == sorted((one.status, one.code) for one in Error)


def test_headers() -> None:
    for name in HEADERS:
        assert f"``{name}" in PAGE or name == "WWW-Authenticate", name


def test_numbers() -> None:
    assert f"1 to {channels.MAX_LENGTH} characters of" in PAGE
    assert (ledger.KEPT, idempotency.PATIENCE) == (600, 5)
    assert "kept for ten minutes" in PAGE
    assert "up to five seconds" in PAGE
