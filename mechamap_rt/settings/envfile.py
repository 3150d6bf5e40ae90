"""A file of settings to start from: every one that there is, explained, as ``etc/mechamap.env``.

Made from the declarations, so that it says what the version says that it belongs to.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from mechamap_rt.settings.model import CATALOGUE, SECTIONS, Entry
from mechamap_rt.settings.option import Option

_WIDTH: Final = 116


class Advice(NamedTuple):
    """What stands in the file for a setting that a production site has to think about.

    :ivar value: what is filled in; empty for what nobody but the operator knows.
    :ivar text: what to do, one or two sentences.
    """

    value: str
    text: str


_MADE: Final = "Made by `openssl rand -base64 48`"

TO_BE_SET: Final[Mapping[str, Advice]] = MappingProxyType(
    {
        "NODE_ENV": Advice("production", "Leave it: development lets secrets pass that can be guessed."),
        "JWT_SECRET": Advice("", f"The one by which the site signs its pages' tokens. {_MADE}, if it has none."),
        "LARAVEL_API_KEY": Advice("", f"{_MADE}; the site needs it too."),
        "ADMIN_KEY": Advice("", f"{_MADE}; for nobody but administrators."),
        "CORS_ORIGIN": Advice("", "The site's own; without them only pages of this very host may."),
        "TRUST_PROXY": Advice("1", "One nginx on this host; 0 when browsers reach the server directly."),
        "DB_HOST": Advice("", "The site's database. Empty only if the site has none, or is asked over HTTP."),
        "DB_NAME": Advice("", "Needed with DB_HOST."),
        "DB_USER": Advice("", "An account of its own, with no more rights than docs/operating.rst grants."),
        "DB_PASSWORD": Advice("", "Needed unless the account has none."),
        "CLUSTER_ENABLED": Advice("true", "Needed for mechamapctl reload and scale."),
    }
)
"""The settings that are not commented out, and come first."""

_HEAD: Final = """\
Settings of mechamap_rt. Copy this file to /etc/mechamap/mechamap.env with mode 0640, readable by the server's group: it will have secrets. The server reads it with `twistd mechamap --env-file`, and mechamapctl with `mechamapctl --env-file`.

One NAME=value on a line. What is commented out stands there with its default, and an empty value is as good as none. A variable of the environment counts before the line with its name. `mechamapctl check-config` names everything that is wrong.

Written by `mechamapctl env-file`."""  # noqa: E501

_SECRETS: Final = """\
Every secret may stand in a file of its own instead, which the name with _FILE at its end names: JWT_SECRET_FILE=/run/secrets/jwt."""  # noqa: E501

_LEFTOVERS: Final = "These names of Node.js and PM2 are accepted, and have no effect:"


def env_file() -> str:
    """The whole file: first what is to be set, then every other setting by sections, commented out."""
    parts = [_comment(_HEAD), _rule("What a production site sets"), _comment(_SECRETS)]
    entries = {entry.option.name: entry for entry in CATALOGUE}
    parts += [_block(entries[name].option, advice) for name, advice in TO_BE_SET.items()]
    for section in SECTIONS:
        parts += _section(section)
    parts.append(_rule("Left over from Node.js"))
    parts.append(_comment(f"{_LEFTOVERS} {', '.join(name for name in entries if not _counts(entries[name]))}."))
    return "\n\n".join(parts) + "\n"


def _counts(entry: Entry) -> bool:
    return entry.option.effect == "now"


def _section(section: str) -> Iterator[str]:
    options = [entry.option for entry in CATALOGUE if entry.section == section and _counts(entry)]
    rest = [option for option in options if option.name not in TO_BE_SET]
    if rest:
        yield _rule(_title(SECTIONS[section]))
    if len(rest) < len(options):
        yield _comment(f"Above: {', '.join(option.name for option in options if option.name in TO_BE_SET)}.")
    yield from map(_block, rest)


def _title(section: type[Any]) -> str:
    first, _, _ = (section.__doc__ or "").strip().partition("\n")
    return first.rstrip(".").replace("``", "")


def _block(option: Option[Any], advice: Advice | None = None) -> str:
    """One setting: its meaning, what to do, its notation and default, and the line itself."""
    explained = "\n".join([option.doc, *([advice.text] if advice else []), _facts(option)])
    value = advice.value if advice else option.kind.format(option.default)
    line = f"{option.name}={value}"
    return f"{_comment(explained)}\n{line if advice else f'#{line}'}"


def _facts(option: Option[Any]) -> str:
    default = option.kind.format(option.default)
    facts = [option.kind.notation, f"default: {default or 'none'}"]
    if option.development is not None:
        facts.append(f"in development: {option.kind.format(option.development)}")
    if option.generate:
        facts.append("in development: made up at each start")
    if option.aliases:
        facts.append(f"also named {', '.join(option.aliases)}")
    return f"[{'; '.join(facts)}]"


def _comment(text: str) -> str:
    wrap = textwrap.TextWrapper(_WIDTH - 2, break_long_words=False, break_on_hyphens=False).wrap
    lines = (line for part in text.split("\n") for line in wrap(part) or [""])
    return "\n".join(f"# {line}".rstrip() for line in lines)


def _rule(title: str) -> str:
    return f"# -- {title} ".ljust(_WIDTH, "-")
