"""Channel names and the resources they name.

Laravel prefixes names, browsers often do not: ``X``, ``private-X`` and ``presence-X`` name one resource.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MAX_LENGTH: Final = 164

_NAME = re.compile(rf"[A-Za-z0-9_\-=@,.;:]{{1,{MAX_LENGTH}}}")
_PREFIXES: Final = ("private-", "presence-")


class InvalidChannel(ValueError):
    """Not a channel's name; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One name of one resource.

    :ivar name: as the client or the backend wrote it.
    :ivar resource: what it names, without the prefix.
    """

    name: str
    resource: str

    @property
    def presence(self) -> bool:
        """Does a subscription by this name ask for the member list?"""
        return self.name.startswith("presence-")

    @property
    def kind(self) -> str:
        """The resource's first segment: ``thread`` of ``thread.7``."""
        return self.resource.partition(".")[0]


@lru_cache(maxsize=16384)
def parse(name: str) -> Channel:
    """The channel that ``name`` names.

    :raises InvalidChannel: it is empty, too long, or has characters that names do not have.
    """
    if not isinstance(name, str):
        raise InvalidChannel("a string is required")
    if _NAME.fullmatch(name) is None:
        raise InvalidChannel(f"1 to {MAX_LENGTH} characters of A-Z a-z 0-9 _ - = @ , . ; :")
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            resource = name.removeprefix(prefix)
            if not resource:
                raise InvalidChannel("a prefix alone names nothing")
            return Channel(name, resource)
    return Channel(name, name)
