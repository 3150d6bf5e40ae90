"""Settings as text: for the operator, and for the environment of a worker process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from mechamap_rt.settings.model import CATALOGUE, Settings, Source


class Line(NamedTuple):
    """One setting, as the operator sees it.

    :ivar value: in the notation of the environment; a secret is ``(set)``, ``(not set)`` or ``(generated)``.
    """

    section: str
    name: str
    value: str
    source: Source
    doc: str


def describe(settings: Settings) -> list[Line]:
    """Every setting, in the order of declaration, without secrets."""
    lines: list[Line] = []
    for entry in CATALOGUE:
        section, _, option = entry
        source = settings.sources.get(option.name, "default")
        value = option.kind.format(entry.value_in(settings))
        if option.secret:
            value = "(generated)" if source == "generated" else "(set)" if value else "(not set)"
        lines.append(Line(section, option.name, value, source, option.doc))
    return lines


def masked(settings: Settings) -> Settings:
    """The settings with ``(set)`` in the place of each secret, so that looking at them tells none."""
    sections: dict[str, dict[str, Any]] = {}
    for entry in CATALOGUE:
        value = entry.value_in(settings)
        if entry.option.secret and value:
            hidden = ("(set)",) * len(value) if isinstance(value, tuple) else "(set)"
            sections.setdefault(entry.section, {})[entry.attribute] = hidden
    hiding = {name: replace(getattr(settings, name), **hidden) for name, hidden in sections.items()}
    return replace(settings, **hiding)


def environ_of(settings: Settings) -> dict[str, str]:
    """The environment that :func:`mechamap_rt.settings.load` reads as equal settings.

    For the workers' processes, which must have the same secrets as the master even when it made them up,
    and must not depend on files that only the master can read. Holds secrets: never log it.
    """
    texts = {
        entry.option.name: entry.option.kind.format(entry.value_in(settings))
        for entry in CATALOGUE
        if entry.option.effect == "now"
    }
    return {name: text for name, text in texts.items() if text}
