"""What must hold of secrets: in production a start is refused for it, in development it is remarked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from mechamap_rt.settings.draft import Draft
from mechamap_rt.settings.faults import Fault
from mechamap_rt.settings.strength import weakness, without_prefix

#: How many characters a secret must have in production.
_SHORTEST: Final = {"LARAVEL_API_KEY": 16, "JWT_SECRET": 32, "ADMIN_KEY": 16}
_PREVIOUS: Final = "_PREVIOUS"


class _Held(NamedTuple):
    """One secret that opens something here.

    :ivar name: the setting that it stands in.
    :ivar role: what it opens: the name of the setting with the current one.
    """

    name: str
    role: str
    text: str


def _keys(draft: Draft) -> list[_Held]:
    """Every secret by which somebody gets in here; the current one of a role may be empty."""
    settings = draft.settings
    roles = {
        "LARAVEL_API_KEY": (settings.laravel.api_key, settings.laravel.previous_api_keys),
        "JWT_SECRET": (settings.jwt.secret, settings.jwt.previous_secrets),
        "ADMIN_KEY": (settings.admin.key, settings.admin.previous_keys),
    }
    found = []
    for role, (current, previous) in roles.items():
        found.append(_Held(role, role, current))
        found += [_Held(role + _PREVIOUS, role, text) for text in previous]
    return [held for held in found if draft.sound(held.name)]


def _passwords(draft: Draft) -> dict[str, str]:
    """Every password with which this server gets in elsewhere, and that is set."""
    redis = draft.settings.redis
    texts = {
        "DB_PASSWORD": draft.settings.database.password,
        "REDIS_PASSWORD": redis.password,
        "REDIS_SENTINEL_PASSWORD": redis.sentinel_password,
    }
    return {name: text for name, text in texts.items() if text and draft.sound(name)}


def _findings(draft: Draft) -> Iterator[Fault]:
    """What is wrong with secrets that are set."""
    taken = {text: (name, name) for name, text in _passwords(draft).items()}
    for name, role, text in _keys(draft):
        if not text:
            continue
        if len(without_prefix(text)) < _SHORTEST[role]:
            yield Fault(name, f"must have at least {_SHORTEST[role]} characters in production")
        weak = weakness(text)
        if weak is not None:
            yield Fault(name, f"{weak} (in production)")
        owner, other = taken.setdefault(text, (role, name))
        if owner != role:
            yield Fault(name, f"must not be the same as {other} in production")


def production(draft: Draft) -> Iterator[Fault]:
    """What stops a start in production."""
    if draft.production:
        for name, _, text in _keys(draft):
            if not text:
                yield Fault(name, "must be set in production")
        yield from dict.fromkeys(_findings(draft))


def remarks(draft: Draft) -> Iterator[str]:
    """What is legal, and should not be so: in development all that production refuses."""
    if not draft.production and draft.sound("NODE_ENV"):
        yield from dict.fromkeys(map(str, _findings(draft)))
    for name, text in _passwords(draft).items():
        if weakness(text) is not None:
            yield f"{name} is an example, or can be guessed: give the account another one"
    current = {role: text for name, role, text in _keys(draft) if name == role and text}
    for name, role, text in _keys(draft):
        if name != role and text == current.get(role):
            yield f"{name} has the current {role} again, which has no effect"
