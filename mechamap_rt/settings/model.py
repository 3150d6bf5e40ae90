"""All sections together, and the catalogue of every option there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from mechamap_rt.settings.alerting import Alerting
from mechamap_rt.settings.backing import Auth, Database, Jwt, Laravel, Redis
from mechamap_rt.settings.option import Option, options_of
from mechamap_rt.settings.running import Admin, Audit, Control, Development, Log, Manhole, Monitoring, Node
from mechamap_rt.settings.serving import Cluster, Cors, Http, Limits, RateLimit, Server, Tls, Ws

Source = Literal["default", "environment", "file", "generated"]
"""Where a value came from."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator can set; durations in seconds, sizes in bytes.

    ``Settings()`` is what stands in the declarations; :func:`mechamap_rt.settings.load` is what an
    environment makes of it, with the defaults of its mode and every check. Its ``repr`` shows no secret.

    :ivar generated: environment names of the secrets that were made up for this run.
    :ivar sources: where each value came from, by environment name; a name that is missing has its default.
    """

    server: Server = field(default_factory=Server)
    tls: Tls = field(default_factory=Tls)
    cluster: Cluster = field(default_factory=Cluster)
    laravel: Laravel = field(default_factory=Laravel)
    jwt: Jwt = field(default_factory=Jwt)
    auth: Auth = field(default_factory=Auth)
    database: Database = field(default_factory=Database)
    redis: Redis = field(default_factory=Redis)
    ws: Ws = field(default_factory=Ws)
    limits: Limits = field(default_factory=Limits)
    rate_limit: RateLimit = field(default_factory=RateLimit)
    cors: Cors = field(default_factory=Cors)
    admin: Admin = field(default_factory=Admin)
    control: Control = field(default_factory=Control)
    http: Http = field(default_factory=Http)
    log: Log = field(default_factory=Log)
    audit: Audit = field(default_factory=Audit)
    monitoring: Monitoring = field(default_factory=Monitoring)
    alerting: Alerting = field(default_factory=Alerting)
    manhole: Manhole = field(default_factory=Manhole)
    development: Development = field(default_factory=Development)
    node: Node = field(default_factory=Node)
    generated: frozenset[str] = field(default=frozenset(), compare=False)
    sources: Mapping[str, Source] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)

    @property
    def demo(self) -> bool:
        """Are there a console and tokens for everybody who asks? Not for the users of a real site, unless asked for."""
        return self.server.demo and (self.database.embedded or "DEMO_ENABLED" in self.sources)


class Entry(NamedTuple):
    """An option and the place of its value: ``settings.<section>.<attribute>``."""

    section: str
    attribute: str
    option: Option[Any]

    def value_in(self, settings: Settings) -> Any:
        """The option's value."""
        return getattr(getattr(settings, self.section), self.attribute)


SECTIONS: Mapping[str, type[Any]] = MappingProxyType(
    {
        one.name: type(section)
        for one in dataclasses.fields(Settings)
        if dataclasses.is_dataclass(section := getattr(Settings(), one.name))
    }
)
"""The section classes, by their attribute of :class:`Settings`."""

CATALOGUE: tuple[Entry, ...] = tuple(
    Entry(section, attribute, declared)
    for section, kind in SECTIONS.items()
    for attribute, declared in options_of(kind).items()
)
"""Every option, in the order of declaration; ``etc/mechamap.env`` is made from it."""
