"""From an environment to :class:`Settings`, or to every fault there is in it."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mechamap_rt.settings import checks, kinds
from mechamap_rt.settings.draft import Draft
from mechamap_rt.settings.faults import BadValue, Fault, SettingsError, plain, quote
from mechamap_rt.settings.model import CATALOGUE, SECTIONS, Entry, Settings, Source
from mechamap_rt.settings.names import KNOWN, is_foreign, strangers
from mechamap_rt.settings.sources import Sources, Text, UnusableSecretError, gather

_SECRET_BYTES = 32
_NOTHING: Mapping[str, str] = MappingProxyType({})
_TELLING = 4
"""From how many characters on a part of a secret would give it away."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that can be used, and what is remarkable about them.

    :ivar warnings: sentences for the operator, without secrets.
    """

    settings: Settings
    warnings: tuple[str, ...]


def load(
    environ: Mapping[str, str],
    env_file: Path | None,
    made_up: Mapping[str, str] = _NOTHING,
    first: bool = True,
) -> Loaded:
    """Read every setting.

    A name in ``environ`` hides the same name in ``env_file``, even when it is empty, which means unset.
    In development, missing shared secrets are made up (``settings.generated``).

    :param env_file: a file of ``NAME=value`` lines, which must exist; None for none.
    :param made_up: secrets that were made up before, to be kept where there still is none.
    :param first: look at the files too that the server's first process opens, its certificate, its log and the
        manhole's keys? A worker is given a certificate that is good, and has neither of the others.
    :raises SettingsError: with every fault.
    """
    sources = gather(environ, env_file)
    reading = _Reading(sources, made_up)
    settings = reading.compose()
    draft = Draft(settings, frozenset(reading.texts), frozenset(reading.faulty))
    found = [*sources.faults, *reading.faults]
    if not sources.faults:
        # Without the file, every check would complain about what is in it.
        found += checks.faults(draft, first)
    unknown = strangers(environ, sources.file)
    remarks = (*sources.warnings, *reading.leftovers(), *unknown, *checks.remarks(draft))
    if found:
        raise SettingsError(sorted(found, key=_place), remarks)
    return Loaded(settings, remarks)


_ORDER = {name: place for place, entry in enumerate(CATALOGUE) for name in entry.option.names}


def _place(fault: Fault) -> int:
    """Faults come in the order of the settings; those of the ``.env`` file itself first."""
    return _ORDER.get(fault.name.removesuffix("_FILE"), -1)


class _Reading:
    """One pass over the catalogue.

    :ivar texts: what was written, by option name.
    :ivar values: what was understood, by option name.
    :ivar faulty: names of options that were written and not understood.
    """

    def __init__(self, sources: Sources, made_up: Mapping[str, str]) -> None:
        self._made_up = made_up
        self.faults: list[Fault] = []
        self.faulty: set[str] = set()
        self.texts: dict[str, Text] = {}
        self.values: dict[str, Any] = {}
        self._names = (*sources.environment, *sources.file)
        for entry in CATALOGUE:
            self._collect(sources, entry)
        self._hidden = self._secrets(sources)
        for entry in CATALOGUE:
            if self._has(entry):
                self._understand(entry, self.texts[entry.option.name])

    def _has(self, entry: Entry) -> bool:
        return entry.option.name in self.texts

    def _collect(self, sources: Sources, entry: Entry) -> None:
        try:
            text = sources.pick(entry.option)
        except UnusableSecretError as unusable:
            self.faulty.add(entry.option.name)
            self.faults.append(unusable.fault)
        else:
            if text is not None:
                self.texts[entry.option.name] = text

    def _understand(self, entry: Entry, text: Text) -> None:
        option = entry.option
        try:
            self.values[option.name] = option.kind.parse(text.text)
        except BadValue as bad:
            self.faulty.add(option.name)
            culprit = text.text if bad.culprit is None else bad.culprit
            show = not option.secret and self._may_show(text.text, culprit)
            self.faults.append(Fault(text.name, f"{bad.reason}, not {quote(culprit)}" if show else bad.reason))

    def _secrets(self, sources: Sources) -> list[str]:
        """Everything secret that was written, the unusable included."""
        options = [entry.option for entry in CATALOGUE if entry.option.secret]
        found = [self.texts.get(option.name) for option in options]
        found += [sources.find(option.name) for option in options]
        texts = [text.text for text in found if text is not None]
        # of a list each by itself, and harmless where it is none
        return [*texts, *(part for text in texts for part in kinds.secrets_in(text) if part != text)]

    def _may_show(self, text: str, culprit: str) -> bool:
        """Whether a message may repeat ``culprit``, a part of ``text``.

        A text with an ``@`` may be an address with a password in it; and a secret may have been put in the
        wrong place, as a whole or in part.
        """
        whole = any(secret in text for secret in self._hidden)
        part = len(culprit) >= _TELLING and any(culprit in secret for secret in self._hidden)
        return "@" not in text and not whole and not part

    def compose(self) -> Settings:
        """The settings, with the defaults of their mode for what is missing or faulty."""
        production = self.values.get("NODE_ENV") == "production"
        sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        where: dict[str, Source] = {name: text.origin for name, text in self.texts.items()}
        for section, attribute, option in CATALOGUE:
            value = self.values.get(option.name)
            if option.name not in self.values:
                value = option.default_in(production)
                if option.generate and not production and option.name not in self.faulty:
                    value = self._made_up.get(option.name) or secrets.token_urlsafe(_SECRET_BYTES)
                    where[option.name] = "generated"
            sections[section][attribute] = value
        return Settings(
            **{section: SECTIONS[section](**values) for section, values in sections.items()},
            generated=frozenset(name for name, source in where.items() if source == "generated"),
            sources=MappingProxyType(where),
        )

    def leftovers(self) -> Iterable[str]:
        """One warning for all names of the old service's platform."""
        accepted = [entry.option.name for entry in CATALOGUE if entry.option.effect == "accepted" and self._has(entry)]
        foreign = sorted({plain(name) for name in self._names if is_foreign(name) and name not in KNOWN})
        if accepted or foreign:
            yield f"no effect, because there is no Node.js here: {', '.join(accepted + foreign)}"
