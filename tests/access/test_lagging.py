"""A replica that has not heard yet what was taken away: it lets nobody in again.

It is a second MariaDB that nobody replicates to, and so lags behind for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import DeferredList
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mechamap_rt.access.subscriptions import Subscriptions
from mechamap_rt.access.sweep import Sweep
from mechamap_rt.auth.authenticator import Authenticator
from mechamap_rt.auth.backends import DatabaseBackend
from mechamap_rt.auth.cache import TokenCache
from mechamap_rt.auth.decisions import Decisions
from mechamap_rt.auth.jwt import JWTVerifier
from mechamap_rt.auth.policy import Policy
from mechamap_rt.bus.memory import MemoryBus
from mechamap_rt.bus.node import Node
from mechamap_rt.core import channels
from mechamap_rt.core.doubts import LAG
from mechamap_rt.core.identity import Identity
from mechamap_rt.core.rules import RuleTable
from mechamap_rt.errors import AuthRefused, Disconnect, Unavailable
from mechamap_rt.settings import load
from mechamap_rt.storage.accounts import Accounts
from mechamap_rt.storage.opening import open_database
from mechamap_rt.storage.site import Site
from tests.auth.people import number
from tests.bus.redis_case import coroutine
from tests.clients.native import NativeClient
from tests.conftest import NewMariaDB, StartServer
from tests.fakes import make_connection
from tests.mariadb import MariaDB

SECRET = "s" * 48  # of no token


@pytest.fixture(scope="module")
def replica() -> Iterator[MariaDB]:
    one = MariaDB()
    try:
        yield one
    finally:
        one.end()


def known_to_both(writer: MariaDB, replica: MariaDB) -> tuple[int, int, str]:
    """A user's id, a token's, and the token."""
    user, ident = number(), number()
    secret = f"{ident:048}"
    for server in (writer, replica):
        server.user(user)
        server.sql(
            "INSERT INTO personal_access_tokens (id, tokenable_type, tokenable_id, name, token, abilities)"
            " VALUES (%s, %s, %s, 'test', %s, '[\"*\"]')",
            ident,
            "App\\Models\\User",
            user,
            hashlib.sha256(secret.encode()).hexdigest(),
        )
    return user, ident, f"{ident}|{secret}"


class LaggingTests(TestCase):
    timeout = 40

    @pytest.fixture(autouse=True)
    def _servers(self, mariadb: MariaDB, replica: MariaDB, new_mariadb: NewMariaDB) -> None:
        self.writer, self.replica, self.new = mariadb, replica, new_mariadb

    async def open(self, writer: MariaDB | None = None, settled: bool = True) -> None:
        """Who are asked, LAG seconds after the start."""
        environ = (writer or self.writer).settings(DB_READ_HOST=f"127.0.0.1:{self.replica.port}")
        database = open_database(reactor, load(environ, None).settings.database, 4)  # type: ignore[arg-type]
        self.addCleanup(database.stop)
        await database.start()
        self.clock = Clock()
        self.accounts = Accounts(database, clock=self.clock.seconds)
        backend = DatabaseBackend(self.accounts, JWTVerifier("x" * 32, "HS256"), strict=True)
        self.authenticator = Authenticator(backend, TokenCache(300, 100, self.clock.seconds), self.clock.seconds)
        decisions = Decisions(self.clock.seconds)
        self.policy = Policy(Site(database), RuleTable(), decisions, Site(database, fresh=True))
        if settled:
            self.clock.advance(LAG)

    async def reads(self, ask: Any) -> tuple[int, int]:
        """How many statements ``ask`` costs: of the writer, of the replica. Each may be probed besides."""
        before = [server.count("Com_select") for server in (self.writer, self.replica)]
        await ask()
        now = [server.count("Com_select") for server in (self.writer, self.replica)]
        return now[0] - before[0], now[1] - before[1]

    @coroutine
    async def test_a_token_that_was_revoked_stays_out(self) -> None:
        await self.open()
        for by_token in (True, False):
            user, ident, token = known_to_both(self.writer, self.replica)
            self.writer.sql("DELETE FROM personal_access_tokens WHERE id = %s", ident)
            # the price of replicas, as long as nobody has said anything
            assert (await self.authenticator.authenticate(token)).user_id == user
            self.authenticator.forget(None if by_token else user, ident if by_token else None)
            for _ in range(2):
                with pytest.raises(AuthRefused, match="Invalid token"):
                    await self.authenticator.authenticate(token)
                self.clock.advance(3600)
            tokens, _ = await self.accounts.standing([ident], [])
            assert tokens == {}, "the sweep believes no replica, either"

    @coroutine
    async def test_the_common_path_asks_the_replica_alone(self) -> None:
        await self.open()
        user, _, token = known_to_both(self.writer, self.replica)
        self.authenticator.forget(number(), number())
        of_writer, of_replica = await self.reads(lambda: self.authenticator.authenticate(token))
        assert of_writer == 0
        assert of_replica == 1
        assert await self.policy.may_subscribe(Identity(user, "?", "member"), channels.parse("thread.1"))

    @coroutine
    async def test_after_the_start_everybody_is_asked_about_where_it_is_written(self) -> None:
        """What was revoked before it is not known."""
        await self.open(settled=False)
        _, ident, token = known_to_both(self.writer, self.replica)
        self.writer.sql("DELETE FROM personal_access_tokens WHERE id = %s", ident)
        with pytest.raises(AuthRefused, match="Invalid token"):
            await self.authenticator.authenticate(token)

    @coroutine
    async def test_while_the_writer_is_away_only_those_who_were_revoked_stay_out(self) -> None:
        writer = self.new()
        for settled in (True, False):
            await self.open(writer, settled)
            _, ident, token = known_to_both(writer, self.replica)
            user, _, other = known_to_both(writer, self.replica)
            self.authenticator.forget(token_id=ident)
            writer.stop()
            try:
                missing = f"{number()}|{SECRET}"
                asked = [self.authenticator.authenticate(each) for each in (token, other, missing)]
                (revoked, why), (known, who), (found, whence) = await DeferredList(asked, consumeErrors=True)
                assert not revoked
                assert why.check(Unavailable)
                assert known
                assert who.user_id == user
                assert not found
                assert whence.check(Unavailable), "a token that may have been made a moment ago"
            finally:
                writer.start()

    @coroutine
    async def test_what_an_old_replica_says_ends_nobody_s_connection(self) -> None:
        """The token has a new secret, which the replica has not heard of."""
        await self.open()
        user, ident, _ = known_to_both(self.writer, self.replica)
        secret = f"{ident:n>48}"
        digest = hashlib.sha256(secret.encode()).hexdigest()
        self.writer.sql("UPDATE personal_access_tokens SET token = %s WHERE id = %s", digest, ident)
        self.accounts.doubt(token_id=ident)
        identity = await self.authenticator.authenticate(f"{ident}|{secret}")
        # in another process, which knows nothing of it
        await self.open()
        connection, _, ended = make_connection(self.clock, user_id=user)
        connection.identity = identity
        node = Node(MemoryBus(), "aaa001")
        await node.start()
        node.join(connection)
        nothing = lambda *_: None  # noqa: E731
        sweep = Sweep(
            self.clock,
            node=node,
            accounts=self.accounts,
            strict=True,
            authenticator=self.authenticator,
            policy=self.policy,
            subscriptions=Subscriptions(node, self.policy, nothing, nothing, self.clock.seconds),
            extend=nothing,
            interval=60.0,
        )
        await sweep.look()
        assert ended == []
        digest = hashlib.sha256(f"{ident:m>48}".encode()).hexdigest()
        self.writer.sql("UPDATE personal_access_tokens SET token = %s WHERE id = %s", digest, ident)
        await sweep.look()
        assert ended == [Disconnect.REVOKED]

    @coroutine
    async def test_a_channel_that_was_taken_away_stays_away(self) -> None:
        await self.open()
        user, talk = number(), number()
        who, channel = Identity(user, "?", "member"), channels.parse(f"conversation.{talk}")
        for resource in (channel.resource, None):
            for by_user in (user, None) if resource else (user,):
                for server in (self.writer, self.replica):
                    server.sql("DELETE FROM conversation_participants WHERE conversation_id = %s", talk)
                row = "INSERT INTO conversation_participants (conversation_id, user_id) VALUES (%s, %s)"
                self.replica.sql(row, talk, user)
                await self.open()
                assert await self.policy.may_subscribe(who, channel), "as the replica has it"
                self.policy.forget(by_user, resource)
                assert not await self.policy.may_subscribe(who, channel)
                assert not await self.policy.may_subscribe(who, channel, fresh=True)


def test_the_server_lets_nobody_in_again(start_server: StartServer, mariadb: MariaDB, replica: MariaDB) -> None:
    server = start_server(**mariadb.settings(DB_READ_HOST=f"127.0.0.1:{replica.port}"))
    user, ident, token = known_to_both(mariadb, replica)
    with NativeClient.open(server.ws_url, header=token) as client:
        assert client.greeted()["userId"] == user
        mariadb.sql("DELETE FROM personal_access_tokens WHERE id = %s", ident)
        assert server.post("/api/auth/revoke", {"token_id": ident}).json()["disconnected"] == 1
        assert client.closed() == (4005, "token_revoked")
    with NativeClient.open(server.ws_url, header=token) as client:
        assert client.next()["error"] == "Authentication failed: Invalid token"
