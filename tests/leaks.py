"""No secret is in any log: what every server of the tests has written is searched when it has ended.

The secrets are those of its settings (``secret=True``), what tests have handed out (:func:`remember`), and whatever
looks like a token. A leak fails the test that is running, or the last one of its module (``tests/conftest.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mechamap_rt.settings import CATALOGUE
from mechamap_rt.settings.kinds import secrets_in

NAMES: Final = frozenset(
    name for entry in CATALOGUE if entry.option.secret for name in (*entry.option.names, entry.option.file_name or "")
)
#: Shorter ones are words that stand in a log by chance.
SHORTEST: Final = 8
_LOOKS_LIKE_ONE: Final = re.compile(r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*|\b[0-9]+(?:\||%7C)\w{40,}")
#: What the demo shows on the terminal on purpose, and never in the log.
_SHOWN: Final = re.compile(r"^(?:  API key    \S+|    eyJ[\w.-]+)$", re.MULTILINE)

_handed_out: set[str] = set()
#: What was found and not told yet.
_found: list[str] = []


def remember(token: str) -> str:
    """A token that a test hands out: its secret part is in no log."""
    _handed_out.add(token.rpartition("|")[2])
    return token


def secrets_of(settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The name of each secret of an environment, and itself in every way in which it may be written."""
    for name in NAMES & settings.keys():
        text = settings[name]
        if name.endswith("_FILE"):
            text = Path(text).read_text("utf-8", errors="replace").strip() if Path(text).is_file() else ""
        for secret in {text, *secrets_in(text)}:
            if len(secret) >= SHORTEST:
                for written in {secret, quote(secret), quote(secret, ""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}:
                    yield name, written


def search(settings: Mapping[str, str], text: str) -> list[str]:
    """What secrets are in ``text``, and where."""
    text = _SHOWN.sub("", text)
    wanted = [*secrets_of(settings), *(("a token", token) for token in _handed_out)]
    wanted += [("what looks like a token", token) for token in set(_LOOKS_LIKE_ONE.findall(text))]
    return [f"{name} is in: {_around(text, secret)}" for name, secret in wanted if secret in text]


def _around(text: str, secret: str) -> str:
    at = text.index(secret)
    return text[text.rfind("\n", 0, at) + 1 :].split("\n", 1)[0][:500]


def look(pid: int, settings: Mapping[str, str], files: Iterable[Path]) -> None:
    """Search what the server with ``pid`` has written."""
    for path in files:
        if path.is_file():
            found = search(settings, path.read_text("utf-8", errors="replace"))
            _found.extend(f"{path.name} of the server with pid {pid}: {leak}" for leak in found)


def verify() -> None:
    """:raises AssertionError: a server that has ended since the last time has told a secret."""
    leaks = _found[:]
    _found.clear()
    assert not leaks, "\n".join(leaks)
