"""From the settings to a database."""

from __future__ import annotations

import ssl
from typing import Final

from mechamap_rt.interfaces import IReactor
from mechamap_rt.settings.addresses import split_server
from mechamap_rt.settings.backing import Database as DatabaseSettings
from mechamap_rt.storage.database import Database
from mechamap_rt.storage.server import Server
from mechamap_rt.storage.sqlite import SQLite

#: Connections of one process to one server: more answer no more queries, each of them later.
MOST: Final = 5
#: Connections of one process from which on writes to the server that also answers reads have their own: half of them,
#: which is what remains while a reload has every worker twice, must be enough for both.
APART: Final = 4


def open_database(reactor: IReactor, settings: DatabaseSettings, connections: int) -> Database:
    """The database of one process, not started yet.

    :param connections: that it may have, to all servers together.
    """
    if settings.embedded:
        driver = SQLite(settings.sqlite_path, settings.timeout)
        # what is in memory is one connection's alone
        count = 1 if driver.private else 2
        return Database(Server(reactor, driver, count, count, settings.timeout))
    # for those only who have one
    from mechamap_rt.storage.mysql import Account, MySQL

    account = Account(settings.user, settings.password, settings.name, settings.timeout, _tls(settings))

    def server(address: str) -> Server:
        return Server(reactor, MySQL(*split_server(address, settings.port), account), 1, MOST, settings.timeout)

    writer = server(settings.writer)
    # reads have connections of their own, also to the same server, as soon as there are a few
    readers = [] if settings.readers == (settings.writer,) and connections < APART else map(server, settings.readers)
    database = Database(writer, tuple(readers))
    database.resize(connections)
    return database


def _tls(settings: DatabaseSettings) -> ssl.SSLContext | None:
    if not settings.tls:
        return None
    context = ssl.create_default_context(cafile=settings.tls_ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.tls_cert:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context
