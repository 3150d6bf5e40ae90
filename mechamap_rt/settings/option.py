"""The declaration of one setting: everything that is known about it, in one place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from mechamap_rt.settings.kinds import Kind

T = TypeVar("T")

Effect = Literal["now", "accepted"]

_KEY = "mechamap_rt.option"


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """What a field of a section is in the environment.

    :ivar name: the environment name.
    :ivar kind: how its text is read and written.
    :ivar default: the value when nothing is set.
    :ivar doc: one sentence for the operator; says what 0 or an empty value means.
    :ivar development: the default in development, where it differs; None where it does not.
    :ivar aliases: other names for the same setting.
    :ivar secret: never shown; may come from the file that ``<name>_FILE`` names.
    :ivar generate: filled with a fresh random value in development when nothing is set.
    :ivar effect: ``accepted`` for a setting of the old service that means nothing to this one.
    """

    name: str
    kind: Kind[T]
    default: T
    doc: str
    development: T | None = None
    aliases: tuple[str, ...] = ()
    secret: bool = False
    generate: bool = False
    effect: Effect = "now"

    @property
    def names(self) -> tuple[str, ...]:
        """The environment names that set it, the preferred one first."""
        return (self.name, *self.aliases)

    @property
    def file_name(self) -> str | None:
        """The environment name of the path a secret can be read from; None for what is not secret."""
        return f"{self.name}_FILE" if self.secret else None

    def default_in(self, production: bool) -> T:
        """The value when nothing is set."""
        return self.default if production or self.development is None else self.development


def option(
    name: str,
    kind: Kind[T],
    default: T,
    doc: str,
    *,
    development: T | None = None,
    aliases: tuple[str, ...] = (),
    secret: bool = False,
    generate: bool = False,
    effect: Effect = "now",
) -> T:
    """A dataclass field that is set by the environment; the arguments are those of :class:`Option`.

    Its declared type is the value's, as with :func:`dataclasses.field`. A secret is left out of ``repr``.
    """
    declared = Option(name, kind, default, doc, development, aliases, secret, generate, effect)
    return dataclasses.field(default=default, repr=not secret, metadata={_KEY: declared})


def options_of(section: type[Any]) -> dict[str, Option[Any]]:
    """The options of a section class, by attribute, in the order of declaration."""
    return {field.name: field.metadata[_KEY] for field in dataclasses.fields(section) if _KEY in field.metadata}
