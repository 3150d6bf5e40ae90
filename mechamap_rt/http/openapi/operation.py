"""What the description says of one endpoint, and of a group of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from mechamap_rt.http.openapi.schemas import Schema
from mechamap_rt.http.replies import Error

Security = list[dict[str, list[str]]]

_KEYS: Final = ("backendKey", "adminKey", "bearer")


class Who(Enum):
    """Who may: the schemes that will do, ``""`` for none, and one sentence."""

    ANYBODY = ("", "Anybody.")
    ANYBODY_OR_KEY = (("", *_KEYS), "Anybody; who has a key of the backend or an administrator is told more.")
    BACKEND = (_KEYS, "The backend by its key, or whose token is an administrator's or has the permission `broadcast`.")
    BACKEND_OR_ADDRESS = (
        (*_KEYS, ""),
        (
            "The backend: by its key, or without one from the addresses in `LARAVEL_BROADCAST_ALLOW_FROM` (this host, "
            "if nothing is set); a browser's page never."
        ),
    )
    ADMINISTRATOR = (("adminKey", "bearer"), "Administrators: by their key, or by a JWT of their role.")
    TOKEN = (("bearer",), "Whoever has a token of a user: a JWT, or one of Laravel Sanctum.")

    def __init__(self, schemes: Sequence[str], sentence: str) -> None:
        self.security: Security = [{name: []} if name else {} for name in schemes]
        self.sentence = sentence

    @property
    def keyed(self) -> bool:
        """Is a key or token looked at?"""
        return bool(self.security)

    @property
    def refuses(self) -> tuple[Error, ...]:
        """What who may not is told."""
        if not self.keyed:
            return ()
        if self in (Who.TOKEN, Who.ANYBODY_OR_KEY):
            return (Error.UNAUTHORIZED,)
        return (Error.UNAUTHORIZED, Error.FORBIDDEN)


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request.

    :ivar examples: by a short name each.
    """

    schema: Schema
    examples: Mapping[str, Any]
    required: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    :ivar path: as the router has it, with ``<id>`` and ``<channel>``.
    :ivar name: ``operationId``: unique, a name for programs.
    :ivar answer: the schema of 200.
    :ivar media_type: of that answer.
    :ivar also: further answers that are no :class:`Error`: status, description and schema.
    :ivar query: parameters behind the ``?``, by name: ``description``, ``schema``, ``example``.
    :ivar idempotent: may it be asked for twice under one ``Idempotency-Key``?
    """

    method: str
    path: str
    name: str
    summary: str
    description: str
    answer: Schema
    who: Who = Who.ANYBODY
    body: Body | None = None
    media_type: str = "application/json"
    also: Mapping[int, tuple[str, Schema]] = field(default_factory=dict)
    idempotent: bool = False
    query: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Endpoints that belong together.

    :ivar schemas: that only they need, by name.
    """

    name: str
    description: str
    operations: tuple[Operation, ...]
    schemas: Mapping[str, Schema] = field(default_factory=dict)
