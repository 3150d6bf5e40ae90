"""What is wrong with a configuration, said without repeating what must stay secret."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN = 40
"""How many characters of a bad value a message repeats."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that stops the start.

    :ivar name: the environment name to correct (or ``--env-file``).
    :ivar message: what it must be; holds no secret and no control character.
    """

    name: str
    message: str

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


class SettingsError(Exception):
    """The configuration cannot be used.

    :ivar faults: every fault found, in the order of the settings.
    :ivar warnings: what was remarkable besides, as in ``Loaded.warnings``.
    """

    def __init__(self, faults: Sequence[Fault], warnings: Sequence[str] = ()) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)


class BadValue(ValueError):
    """A text that its kind cannot read; raised by ``Kind.parse`` only.

    :param reason: continues "<name> ...", such as ``must be true or false``; does not repeat the text.
    :param culprit: the part of the text that is wrong, when it is not all of it.
    """

    def __init__(self, reason: str, culprit: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.culprit = culprit


def quote(text: str) -> str:
    """``text`` fit for a message: in quotes, at most 40 characters of it, everything unusual escaped."""
    return ascii(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")


def plain(name: str) -> str:
    """An environment name fit for a message: as it is, unless it has unusual characters or length."""
    usual = name.isascii() and name.isprintable() and " " not in name and len(name) <= _SHOWN
    return name if usual else quote(name)
