"""What the checks between settings look at."""

from __future__ import annotations

from dataclasses import dataclass

from mechamap_rt.settings.model import Settings


@dataclass(frozen=True, slots=True)
class Draft:
    """Settings in which faulty values are replaced by their defaults.

    :ivar given: the names of the options that were set.
    :ivar faulty: the names whose values cannot be trusted; a check that needs one of them says nothing.
    """

    settings: Settings
    given: frozenset[str]
    faulty: frozenset[str]

    def sound(self, *names: str) -> bool:
        """Whether all the named options could be read."""
        return self.faulty.isdisjoint(names)

    @property
    def production(self) -> bool:
        """Whether the mode is, beyond doubt, production."""
        return self.sound("NODE_ENV") and self.settings.server.production
