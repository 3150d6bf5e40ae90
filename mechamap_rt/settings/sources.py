"""Where the texts of settings come from: the environment, the ``.env`` file, files that hold a secret."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from mechamap_rt.settings.faults import Fault
from mechamap_rt.settings.kinds import secret_list
from mechamap_rt.settings.option import Option

ENV_FILE = "--env-file"
"""The name under which faults of the ``.env`` file itself are reported."""

_LONGEST_SECRET = 64 * 1024
_LONGEST_ENV_FILE = 1024 * 1024

Origin = Literal["environment", "file"]


@dataclass(frozen=True, slots=True)
class Text:
    """What was written for one setting.

    :ivar name: the name it was written under: the option's, an alias or ``<name>_FILE``.
    :ivar text: never empty; blanks at the ends are kept for secrets only.
    """

    name: str
    text: str = field(repr=False)
    origin: Origin


@dataclass(slots=True)
class Sources:
    """Every name that is set, the environment's over the file's, and what reading them brought to light."""

    environment: Mapping[str, str]
    file: Mapping[str, str]
    faults: list[Fault]
    warnings: list[str]

    def origin(self, name: str) -> Origin | None:
        """Where ``name`` stands. An empty text in the environment hides the file's: it means unset."""
        if name in self.environment:
            return "environment" if self.environment[name].strip() else None
        return "file" if self.file.get(name, "").strip() else None

    def find(self, name: str) -> Text | None:
        """What is written under exactly this name."""
        origin = self.origin(name)
        if origin is None:
            return None
        return Text(name, self.environment[name] if origin == "environment" else self.file[name], origin)

    def pick(self, option: Option[Any]) -> Text | None:
        """What is written for an option, under whichever of its names; a secret's file is read.

        :raises UnusableSecretError: for a secret given twice, or in a file that cannot be read.
        """
        if option.file_name is not None:
            return self._pick_secret(option.name, option.file_name, option.kind is secret_list)
        found = [text for text in map(self.find, option.names) if text is not None]
        # Any name in the environment wins over any in the file; among equals, the preferred name.
        found.sort(key=lambda text: text.origin != "environment")
        if not found:
            return None
        first = found[0]
        if any(other.text.strip() != first.text.strip() for other in found[1:]):
            others = ", ".join(other.name for other in found[1:])
            self.warnings.append(f"{others}: not used, because {first.name} is set to something else")
        return Text(first.name, first.text.strip(), first.origin)

    def _pick_secret(self, name: str, file_name: str, listed: bool) -> Text | None:
        direct, path = self.find(name), self.find(file_name)
        if path is None:
            return direct
        if direct is not None:
            raise UnusableSecretError(Fault(file_name, f"must not be set together with {name}"))
        text = read_secret(file_name, path.text.strip(), listed)
        return Text(file_name, text, path.origin) if text else None


class UnusableSecretError(Exception):
    """A secret that cannot be had; holds the :class:`Fault`."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def read_secret(name: str, path: str, may_be_empty: bool = False) -> str:
    """The secret in the file ``path``, without one line break at its end.

    Neither the content nor the path (which may be a secret put in the wrong variable) gets into a message.

    :param name: the environment name that holds the path.
    :param may_be_empty: an empty file has none, for a list of which the last has been taken away.
    :raises UnusableSecretError: for a file that is missing, unreadable, empty, too long or not UTF-8.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read(_LONGEST_SECRET + 1)
        if len(content) > _LONGEST_SECRET:
            raise UnusableSecretError(Fault(name, "names a file that is too long for a secret"))
        secret = content.decode("utf-8")
    except UnicodeDecodeError:
        raise UnusableSecretError(Fault(name, "names a file that is not UTF-8 text")) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UnusableSecretError(Fault(name, f"names a file that cannot be read: {reason}")) from None
    except ValueError:
        raise UnusableSecretError(Fault(name, "must be the path of a file")) from None
    secret = secret.removesuffix("\n").removesuffix("\r")
    if not secret.strip():
        if may_be_empty:
            return ""
        raise UnusableSecretError(Fault(name, "names a file that is empty"))
    return secret


def gather(environ: Mapping[str, str], env_file: Path | None) -> Sources:
    """Read both sources. Faults of the file's syntax and access are noted, not raised."""
    sources = Sources(environ, {}, [], [])
    if env_file is None:
        return sources
    try:
        with open(env_file, "rb") as stream:
            content = stream.read(_LONGEST_ENV_FILE + 1)
        if len(content) > _LONGEST_ENV_FILE:
            sources.faults.append(Fault(ENV_FILE, "the file is too long"))
            return sources
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        sources.faults.append(Fault(ENV_FILE, "the file is not UTF-8 text"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        sources.faults.append(Fault(ENV_FILE, f"the file cannot be read: {reason}"))
    except ValueError:
        sources.faults.append(Fault(ENV_FILE, "not a file's path"))
    else:
        sources.file = _parse(text, sources.warnings)
    return sources


def _parse(text: str, warnings: list[str]) -> dict[str, str]:
    """The file's names. A line that is not ``NAME=value`` is a warning with its number, never its content."""
    bindings = list(parse_stream(io.StringIO(text)))
    bad = [binding.original.line for binding in bindings if binding.error]
    if bad:
        numbers = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
        warnings.append(f"{ENV_FILE}: not NAME=value, ignored: line {numbers}")
    good = "".join(binding.original.string for binding in bindings if not binding.error)
    # Interpolation would destroy passwords that have a $ in them.
    values = dotenv_values(stream=io.StringIO(good), interpolate=False)
    return {name: value for name, value in values.items() if value is not None}


def find_env_file(directory: Path | None = None) -> Path | None:
    """The ``.env`` file in ``directory`` (default: the current one), if there is one; the old service's rule."""
    path = (directory or Path()) / ".env"
    return path if path.is_file() else None
