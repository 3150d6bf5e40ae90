"""Several servers, and TLS: replicas that answer reads, come and go; certificates that are verified."""

from __future__ import annotations

from typing import Any, Final

import pytest
from twisted.internet import reactor
from twisted.internet.defer import gatherResults

from mechamap_rt.errors import Unavailable
from mechamap_rt.storage.accounts import Accounts
from mechamap_rt.storage.database import Database
from tests.bus.redis_case import coroutine, until
from tests.mariadb import PASSWORD, MariaDB
from tests.redis_server import Certificates
from tests.storage.cases import MariaDBCase

#: For every account of that name.
GRANT: Final = "GRANT SELECT ON site.whoami TO mechamap_rt"


class ReplicaTests(MariaDBCase):
    @pytest.fixture(autouse=True)
    def _another(self, another: MariaDB) -> None:
        self.another = another

    async def replicated(self, **more: Any) -> tuple[Database, MariaDB, MariaDB, MariaDB]:
        """A writer, and two servers that answer reads and know who they are."""
        writer, first, second = self.shared, self.spare, self.another
        for number, server in enumerate((writer, first, second)):
            server.sql("CREATE TABLE IF NOT EXISTS whoami (number INT)")
            self.addCleanup(self.forget, server)
            server.sql("INSERT INTO whoami VALUES (%s)", number)
            server.sql(GRANT)
        hosts = tuple(f"127.0.0.1:{server.port}" for server in (first, second))
        return await self.open(writer, connections=6, read_host=hosts, **more), writer, first, second

    @staticmethod
    def forget(server: MariaDB) -> None:
        # the test may have left it dead, and another needs it
        server.sql("DROP TABLE IF EXISTS whoami")

    async def asked(self, database: Database, count: int = 20) -> set[int]:
        rows = await gatherResults([database.query("SELECT number FROM whoami", ()) for _ in range(count)])
        return {found[0][0] for found in rows}

    @coroutine
    async def test_replicas_share_the_reads_and_stand_in_for_one_another(self) -> None:
        database, writer, first, second = await self.replicated()
        assert database.separate
        assert await self.asked(database) == {1, 2}
        assert await database.query("SELECT number FROM whoami", (), fresh=True) == [(0,)]
        roles = [(each["role"], each["server"]) for each in database.figures()["pools"]]
        assert roles == [
            ("write", f"127.0.0.1:{writer.port}"),
            ("read", f"127.0.0.1:{first.port}"),
            ("read", f"127.0.0.1:{second.port}"),
        ]
        # one is down: no read fails, not even those that were asked of it
        first.stop()
        try:
            assert await self.asked(database) == {2}
            assert database.status() == "degraded"
            # all are: the writer answers
            second.stop()
            assert await self.asked(database) == {0}
            assert database.status() == "degraded"
            assert (await Accounts(database).user(1)).id == 1
            second.start()
            await until(lambda: database.figures()["pools"][2]["status"] == "up", limit=2.0)
            assert await self.asked(database) == {2}
        finally:
            first.start()
        await until(lambda: database.status() == "up", limit=2.0)
        assert await self.asked(database) == {1, 2}

    @coroutine
    async def test_what_is_on_the_writer_only_is_found(self) -> None:
        database, writer, _, _ = await self.replicated()
        accounts = Accounts(database)
        user = writer.user(880_001)
        ident = int(writer.token(user).split("|")[0])
        # as it is where the replicas have not heard of it yet
        found = await accounts.token(ident)
        assert found.user.id == user
        assert (await accounts.user(user)).id == user
        tokens, users = await accounts.standing([ident], [user, 1])
        assert (sorted(tokens), sorted(users)) == ([ident], [1, user])
        assert await accounts.token(987_654) is None

    @coroutine
    async def test_a_frozen_replica_is_found_out_and_its_questions_go_to_the_others(self) -> None:
        database, _, first, _ = await self.replicated(timeout=0.8)
        first.freeze()
        try:
            began = reactor.seconds()
            answered = await self.asked(database)
            took = reactor.seconds() - began
            assert answered <= {0, 2}
            assert database.status() == "degraded"
            began = reactor.seconds()
            assert await self.asked(database) == {2}
            print(f"found in {took:.2f} s; then {reactor.seconds() - began:.3f} s for 20")
            assert took < 2.5
            assert reactor.seconds() - began < 0.5
        finally:
            first.thaw()
        await until(lambda: database.status() == "up", limit=2.0)
        assert await self.asked(database) == {1, 2}

    @coroutine
    async def test_a_statement_that_fails_is_not_asked_of_every_server(self) -> None:
        database, writer, first, second = await self.replicated()
        before = [server.count("Com_select") for server in (writer, first, second)]
        with self.assertRaises(Unavailable):
            await database.query("SELECT nothing FROM whoami", ())
        grown = [server.count("Com_select") - was for server, was in zip((writer, first, second), before, strict=True)]
        assert sum(grown) <= 1
        assert database.status() == "up"


class TLSTests(MariaDBCase):
    def secured(self) -> tuple[MariaDB, Certificates]:
        certificates = Certificates(self.folder / "certificates")
        certificate, key = certificates.issue("server")
        return self.new(f"--ssl-cert={certificate}", f"--ssl-key={key}"), certificates

    async def cipher(self, database: Database) -> str:
        [(_, name)] = await database.query("SHOW STATUS LIKE 'Ssl_cipher'", ())
        return str(name)

    async def reason(self, server: MariaDB, **settings: Any) -> str:
        database = await self.open(server, **settings)
        assert database.status() == "down"
        return str(database.figures()["pools"][0]["reason"])

    @coroutine
    async def test_a_verified_server_and_others_that_are_refused(self) -> None:
        server, certificates = self.secured()
        database = await self.open(server, tls=True, tls_ca=certificates.ca)
        assert await self.cipher(database)
        assert database.status() == "up"
        # every connection, not only the first
        rows = await gatherResults([database.query("SHOW STATUS LIKE 'Ssl_cipher'", ()) for _ in range(20)])
        assert all(found[0][1] for found in rows)
        # without DB_TLS nothing is encrypted, and nothing pretends to be
        assert await self.cipher(await self.open(server)) == ""
        stranger = Certificates(self.folder / "stranger")
        assert "certificate" in await self.reason(server, tls=True, tls_ca=stranger.ca)
        # whom the system trusts has not signed it
        assert "certificate" in await self.reason(server, tls=True)
        # the right authority, for another name
        settings = {"tls": True, "tls_ca": certificates.ca, "host": f"127.0.0.2:{server.port}"}
        assert await self.reason(server, **settings)
        # a server that speaks no TLS gets no password
        assert "TLS" in await self.reason(self.shared, tls=True, tls_ca=certificates.ca)
        assert not any(PASSWORD in line for line in self.logged)
