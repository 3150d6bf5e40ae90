"""Tokens against the rows of a real MariaDB: what is asked, how often, and what is remembered of it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mechamap_rt.auth.authenticator import MAX_ATTEMPTS, Authenticator, OpenAuthenticator
from mechamap_rt.auth.backends import DatabaseBackend
from mechamap_rt.auth.cache import MAX_FORGOTTEN, MAX_REFUSED, REFUSED_LIFE, TokenCache
from mechamap_rt.auth.jwt import JWTVerifier, mint
from mechamap_rt.auth.usage import BATCH, INTERVAL, Usage
from mechamap_rt.core.identity import Identity
from mechamap_rt.errors import AuthRefused, Unavailable
from mechamap_rt.interfaces import IAccounts, IAuthenticator
from mechamap_rt.storage.accounts import Accounts
from tests.auth.people import Watched, number, opened, person, turn
from tests.auth.test_policy import asynchronous
from tests.mariadb import MariaDB

SECRET = "0123456789abcdef0123456789abcdef"
LIFE = 300.0


class Case(TestCase):
    mariadb: MariaDB

    @pytest.fixture(autouse=True)
    def _running(self, mariadb: MariaDB) -> None:
        self.mariadb = mariadb

    def setUp(self) -> Any:
        self.clock = Clock()
        self.clock.advance(time.time())
        self.database = Watched(opened(self.mariadb))
        self.accounts = Accounts(self.database)
        self.used: list[int] = []
        self.cache = TokenCache(LIFE, 100, self.clock.seconds)
        self.authenticator = self.made(self.cache)
        self.addCleanup(self.database.stop)
        return self.database.start()

    def made(self, cache: TokenCache, **options: Any) -> Authenticator:
        verifier = JWTVerifier(SECRET, "HS256")
        backend = DatabaseBackend(self.accounts, verifier, strict=True, clock=self.clock.seconds)
        return Authenticator(backend, cache, self.clock.seconds, self.used.append, **options)

    async def who(self, token: str | None) -> int:
        identity = await self.authenticator.authenticate(token)
        return identity.user_id

    async def refusal(self, token: str | None) -> str:
        try:
            await self.authenticator.authenticate(token)
        except AuthRefused as refused:
            return refused.reason
        raise AssertionError("it was let in")

    def jwt(self, user_id: Any, expires_in: float = 3600, **claims: Any) -> str:
        claims = {"userId": user_id, "role": "admin", "permissions": ["receive_notifications"]} | claims
        return mint(SECRET, "HS256", claims, time.time(), expires_in)


class FlightTests(Case):
    @asynchronous
    async def test_a_thousand_at_once_are_one_query(self) -> None:
        token = self.mariadb.token(person(self.mariadb))
        before = self.mariadb.count("Com_select")
        asked = [self.authenticator.authenticate(token) for _ in range(1000)]
        identities = [await each for each in asked]
        # the database may have been probed meanwhile
        assert 1 <= self.mariadb.count("Com_select") - before <= 2
        assert self.database.asked == 1
        assert len({id(identity) for identity in identities}) == 1

    @asynchronous
    async def test_a_thousand_with_a_wrong_secret_are_one_query(self) -> None:
        token = self.mariadb.token(person(self.mariadb))
        wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
        asked = [self.authenticator.authenticate(wrong) for _ in range(1000)]
        for each in asked:
            with pytest.raises(AuthRefused, match="Invalid token"):
                await each
        assert self.database.asked == 1
        assert await self.who(token), "the right one is another token"

    @asynchronous
    async def test_different_tokens_share_queries_and_are_not_confused(self) -> None:
        users = [person(self.mariadb) for _ in range(15)]
        tokens = [self.mariadb.token(user) for user in users]
        asked = [self.authenticator.authenticate(token) for token in tokens]
        assert [(await each).user_id for each in asked] == users
        assert self.database.asked <= 4

    @asynchronous
    async def test_a_token_that_is_revoked_on_its_way_does_not_arrive(self) -> None:
        """Its row was found; before that was known here, the row was deleted and the token revoked."""
        for by_token in (True, False):
            user = person(self.mariadb)
            token = self.mariadb.token(user)
            ident = int(token.split("|")[0])
            asked = self.database.asked
            self.database.hold()
            answer = self.authenticator.authenticate(token)
            while not self.database.held:
                await turn()
            self.mariadb.sql("DELETE FROM personal_access_tokens WHERE id = %s", ident)
            self.authenticator.forget(None if by_token else user, ident if by_token else None)
            late = self.authenticator.authenticate(token)
            self.database.release()
            for each in (answer, late):
                with pytest.raises(AuthRefused, match="Invalid token"):
                    await each
            assert self.database.asked == asked + 2
            assert len(self.cache) == 0
            # nor is anything remembered of it: neither the answer, nor who waits
            assert await self.refusal(token) == "Invalid token"

    @asynchronous
    async def test_who_is_revoked_again_and_again_is_told_to_come_later(self) -> None:
        """What was found before the last revocation lets nobody in, however often that has been tried."""
        user = person(self.mariadb)
        token = self.mariadb.token(user)
        asked = self.database.asked
        self.database.hold()
        answer = self.authenticator.authenticate(token)
        for attempt in range(MAX_ATTEMPTS):
            while not self.database.held:
                await turn()
            self.authenticator.forget(user)
            self.database.release()
            if attempt + 1 < MAX_ATTEMPTS:
                self.database.hold()
        with pytest.raises(Unavailable):
            await answer
        assert self.database.asked == asked + MAX_ATTEMPTS
        assert len(self.cache) == 0
        assert await self.who(token) == user

    def test_when_each_was_forgotten_is_known_of_so_many(self) -> None:
        """Of the others it is not known any more whether they were: they are asked about again."""
        cache = TokenCache(LIFE, 100, self.clock.seconds)
        before = cache.era
        cache.forget(user_id=1)
        since = cache.era
        for ident in range(MAX_FORGOTTEN):
            cache.forget(token_id=ident)
        last = cache.era
        one, other = Identity(1, "An", "member"), Identity(2, "Binh", "member")
        assert [cache.overtaken(who, before) for who in (one, other)] == [True, True]
        assert [cache.overtaken(who, since) for who in (one, other)] == [False, False]
        assert cache.overtaken(replace(other, token_id=MAX_FORGOTTEN - 1), last - 1)
        assert not cache.overtaken(replace(other, token_id=MAX_FORGOTTEN - 2), last - 1)

    @asynchronous
    async def test_others_revocations_do_not_keep_anybody_out(self) -> None:
        token = self.mariadb.token(person(self.mariadb))
        self.database.hold()
        answer = self.authenticator.authenticate(token)
        while not self.database.held:
            await turn()
        for _ in range(5):
            self.authenticator.forget(user_id=number())
            self.authenticator.forget(token_id=number())
        self.database.release()
        assert (await answer).name.startswith("Người dùng")
        assert self.database.asked == 1
        assert len(self.cache) == 1

    @asynchronous
    async def test_a_database_that_is_away_refuses_nobody(self) -> None:
        known, other = (self.mariadb.token(person(self.mariadb)) for _ in range(2))
        await self.who(known)
        await self.database.stop()
        asked = [self.authenticator.authenticate(other) for _ in range(3)]
        for each in asked:
            with pytest.raises(Unavailable):
                await each
        assert await self.who(known), "who is known comes in"
        with pytest.raises(Unavailable):
            await self.authenticator.authenticate(other)
        assert self.cache._refused == {}, "nothing was found out"

    @asynchronous
    async def test_one_that_goes_away_takes_nobody_with_it(self) -> None:
        token = self.mariadb.token(person(self.mariadb))
        self.database.hold()
        first, second = self.authenticator.authenticate(token), self.authenticator.authenticate(token)
        first.addErrback(lambda _: None)
        first.cancel()
        self.database.release()
        assert (await second).token_id == int(token.split("|")[0])


class CacheTests(Case):
    @asynchronous
    async def test_what_is_known_costs_nothing_for_a_time(self) -> None:
        token = self.mariadb.token(person(self.mariadb))
        for _ in range(3):
            await self.who(token)
        assert self.database.asked == 1
        self.clock.advance(LIFE - 0.01)
        await self.who(token)
        assert self.database.asked == 1
        self.clock.advance(0.02)
        await self.who(token)
        assert self.database.asked == 2

    @asynchronous
    async def test_a_refusal_counts_for_five_seconds(self) -> None:
        token = self.mariadb.token(person(self.mariadb), abilities="[]")
        ident = number()
        missing = f"{ident}|" + "a" * 40
        assert REFUSED_LIFE == 5.0
        for _ in range(3):
            assert await self.refusal(missing) == "Invalid token"
        assert self.database.asked == 1
        self.clock.advance(4.99)
        await self.refusal(missing)
        assert self.database.asked == 1
        self.clock.advance(0.02)
        await self.refusal(missing)
        assert self.database.asked == 2
        # what a user may not is no property of the token: it is asked again each time, and costs nothing
        assert await self.refusal(token) == "Insufficient permissions"
        assert await self.refusal(token) == "Insufficient permissions"
        assert self.database.asked == 3

    @asynchronous
    async def test_the_bound_holds(self) -> None:
        self.authenticator = self.made(TokenCache(LIFE, 3, self.clock.seconds))
        tokens = [self.mariadb.token(person(self.mariadb)) for _ in range(5)]
        for token in tokens:
            await self.who(token)
            assert len(self.authenticator.cache) <= 3
        assert self.database.asked == 5
        for token in tokens[2:]:
            await self.who(token)
        assert self.database.asked == 5, "those found out last are known"
        await self.who(tokens[0])
        assert self.database.asked == 6

    @asynchronous
    async def test_without_a_life_nothing_is_remembered(self) -> None:
        self.authenticator = self.made(TokenCache(0, 10, self.clock.seconds))
        token = self.mariadb.token(person(self.mariadb))
        for count in (1, 2, 3):
            await self.who(token)
            assert self.database.asked == count

    @asynchronous
    async def test_a_token_ends_in_the_cache_too(self) -> None:
        end = datetime.now(UTC) + timedelta(seconds=60)
        user = person(self.mariadb)
        sanctum, jwt = self.mariadb.token(user, expires_at=end), self.jwt(user, 60)
        for token in (sanctum, jwt):
            await self.who(token)
        self.clock.advance(58)
        for token in (sanctum, jwt):
            await self.who(token)
        asked = self.database.asked
        self.clock.advance(3)
        for token in (sanctum, jwt):
            assert await self.refusal(token) == "Token expired"
        assert self.database.asked == asked

    @asynchronous
    async def test_what_is_forgotten_is_asked_again(self) -> None:
        users = [person(self.mariadb) for _ in range(2)]
        tokens = [self.mariadb.token(users[0]), self.mariadb.token(users[0]), self.mariadb.token(users[1])]
        first = int(tokens[0].split("|")[0])
        for what, again in (((users[0], None), 2), ((None, first), 1), ((number(), None), 0), ((None, number()), 0)):
            for token in tokens:
                await self.who(token)
            asked = self.database.asked
            era = self.authenticator.era
            self.authenticator.forget(*what)
            assert self.authenticator.era != era
            for token in tokens:
                await self.who(token)
            assert self.database.asked - asked == again, what

    @asynchronous
    async def test_a_token_with_a_new_secret_is_one_token(self) -> None:
        """As soon as the new one is known the old one is not, and a revocation leaves neither."""
        user = person(self.mariadb)
        old = self.mariadb.token(user)
        ident = int(old.split("|")[0])
        assert await self.who(old) == user
        secret = f"{ident:048}"
        new, digest = f"{ident}|{secret}", sha256(secret.encode()).hexdigest()
        self.mariadb.sql("UPDATE personal_access_tokens SET token = %s WHERE id = %s", digest, ident)
        assert await self.who(new) == user
        assert await self.refusal(old) == "Invalid token"
        assert len(self.cache) == 1
        self.authenticator.forget(token_id=ident)
        assert len(self.cache) == 0

    @asynchronous
    async def test_what_is_no_token_never_gets_to_the_database(self) -> None:
        secret = "a" * 48
        odd = ["", " ", "|", "||", f"|{secret}", f"0|{secret}", f"01|{secret}", f"1 |{secret}", f"1| {secret}", "1|"]
        odd += [
            f"1|{secret}|",
            f"1|{secret}|{secret}",
            f"-1|{secret}",
            f"1|{secret[:39]}",
            f"1|{'a' * 256}",
            f"\u0661|{secret}",
        ]
        odd += [f"1|{secret}\0", f"1|{secret}\n", f"1|{secret[:-1]}é", f"{2**63}|{secret}", f"{'9' * 5000}|{secret}"]
        odd += [f"1|{'a' * 10_000}", f"１|{secret}", f"1.0|{secret}", f"Bearer 1|{secret}", "a.b.c", "x" * 9000]
        for token in odd:
            assert await self.refusal(token) == "Invalid token", token
        assert self.database.asked == 0

    @asynchronous
    async def test_a_made_up_token_costs_one_question_though_others_are_revoked_all_the_time(self) -> None:
        made_up = f"{number()}|{'m' * 48}"
        for _ in range(20):
            self.database.hold()
            asked = [self.authenticator.identify(made_up) for _ in range(5)]
            self.authenticator.forget(user_id=number())
            self.database.release()
            for each in asked:
                with pytest.raises(AuthRefused, match="Invalid token"):
                    await each
        assert self.database.asked == 1

    @asynchronous
    async def test_a_token_that_comes_to_be_is_good_after_a_moment(self) -> None:
        user, ident = person(self.mariadb), number()
        token = f"{ident}|{ident:048}"
        assert await self.refusal(token) == "Invalid token"
        self.mariadb.sql(
            "INSERT INTO personal_access_tokens (id, tokenable_type, tokenable_id, name, token, abilities)"
            " VALUES (%s, %s, %s, 'test', %s, '[\"*\"]')",
            ident,
            "App\\Models\\User",
            user,
            sha256(f"{ident:048}".encode()).hexdigest(),
        )
        self.clock.advance(REFUSED_LIFE)
        assert await self.who(token) == user

    @asynchronous
    async def test_nothing_is_left_of_what_was_forgotten(self) -> None:
        """Neither the token, nor its user, nor its number: the cache does not grow by use."""
        for _ in range(6):
            await self.who(self.mariadb.token(person(self.mariadb)))
        assert len(self.cache) == 6
        for identity in [entry.identity for entry in self.cache._users.values()]:
            self.authenticator.forget(identity.user_id)
        assert (self.cache._users, self.cache._by_user, self.cache._by_token) == ({}, {}, {})
        assert self.authenticator._flights == {}

    def test_refusals_have_a_bound(self) -> None:
        for place in range(MAX_REFUSED + 50):
            self.cache.refuse(str(place).encode(), "Invalid token")
        assert len(self.cache._refused) == MAX_REFUSED
        assert self.cache.refusal(b"0") is None
        assert self.cache.refusal(str(MAX_REFUSED + 49).encode()) == "Invalid token"

    @asynchronous
    async def test_the_token_itself_is_not_kept(self) -> None:
        token = self.mariadb.token(person(self.mariadb))
        identity = await self.authenticator.authenticate(token)
        secret = token.split("|")[1]
        assert secret not in repr(identity) + repr(self.cache.__dict__) + repr(self.authenticator.__dict__)
        kept = await self.made(TokenCache(LIFE, 9, self.clock.seconds), keep=True).authenticate(token)
        assert kept.bearer == token
        assert secret not in repr(kept), "where it must be kept it is not shown"


class UserTests(Case):
    """What a row says about its user."""

    @asynchronous
    async def test_users_who_may_not_come_in(self) -> None:
        no = "User account is not active"
        for columns in ({"status": "banned"}, {"status": "inactive"}, {"is_active": 0}, {"banned_at": "2026-01-01"}):
            user = person(self.mariadb, **columns)
            assert await self.refusal(self.mariadb.token(user)) == no, columns
            assert await self.refusal(self.jwt(user)) == no, columns
        nobody = number()
        assert await self.refusal(self.mariadb.token(nobody)) == no
        assert await self.refusal(self.jwt(nobody)) == no
        for status in ("active", "", "Banned away"):
            assert await self.who(self.mariadb.token(person(self.mariadb, status=status)))

    @asynchronous
    async def test_a_jwt_is_worth_what_the_row_says(self) -> None:
        user = person(self.mariadb, "senior", permissions='["broadcast", 7, null]')
        identity = await self.authenticator.authenticate(self.jwt(user, name="Mallory", email="m@x", avatar="/m"))
        assert (identity.role, identity.name) == ("senior", f"Người dùng {user}")
        assert (identity.email, identity.avatar) == (f"user{user}@example.com", None)
        assert identity.permissions == ("receive_notifications", "broadcast")
        assert identity.token_id is None

    @asynchronous
    async def test_only_the_token_gives_the_right_to_connect(self) -> None:
        held = '["receive_notifications", "websocket:connect", "broadcast"]'
        user = person(self.mariadb, permissions=held)
        assert await self.refusal(self.mariadb.token(user, '["read"]')) == "Insufficient permissions"
        assert await self.refusal(self.jwt(user, permissions=["read"])) == "Insufficient permissions"
        identity = await self.authenticator.identify(self.mariadb.token(user, '["read"]'))
        assert identity.permissions == ("broadcast",), "the API asks who it is, not whether they may connect"

    @asynchronous
    async def test_interfaces(self) -> None:
        verifyObject(IAuthenticator, self.authenticator)
        verifyObject(IAccounts, self.accounts)
        assert await self.refusal(None) == "No token provided"

    @asynchronous
    async def test_open_doors_are_for_those_without_a_token(self) -> None:
        open_ = OpenAuthenticator(self.authenticator, 7, "admin")
        verifyObject(IAuthenticator, open_)
        assert (await open_.authenticate(None)).user_id == 7
        user = person(self.mariadb)
        assert (await open_.authenticate(self.mariadb.token(user))).user_id == user
        for token in ("", "x", self.mariadb.token(user) + "x"):
            with pytest.raises(AuthRefused, match="Invalid token"):
                await open_.authenticate(token)
        with pytest.raises(AuthRefused, match="No token provided"):
            await open_.identify(None)
        era = open_.era
        open_.forget(user)
        assert open_.era == self.authenticator.era != era


class UsageTests(Case):
    def _last(self, token: str) -> Any:
        ident = token.split("|")[0]
        return self.mariadb.sql("SELECT last_used_at FROM personal_access_tokens WHERE id = %s", ident)[0][0]

    @asynchronous
    async def test_the_use_of_many_is_one_statement(self) -> None:
        usage = Usage(self.clock, self.accounts, lambda: 1_800_000_000.0)
        tokens = [self.mariadb.token(person(self.mariadb)) for _ in range(8)]
        usage.start()
        before = self.mariadb.count("Com_update")
        for token in tokens * 12:
            await self.who(token)
        assert len(self.used) == 96, "each connect counts, also one that is known"
        for ident in self.used:
            usage.note(ident)
        assert self.mariadb.count("Com_update") == before
        self.clock.advance(INTERVAL + 0.1)
        while usage.written < 8:
            await turn()
        assert self.mariadb.count("Com_update") == before + 1
        assert {self._last(token) for token in tokens} == {datetime(2027, 1, 15, 8, 0, 0)}
        self.clock.advance(INTERVAL)
        await usage.stop()
        assert self.mariadb.count("Com_update") == before + 1, "nothing was used, nothing is written"

    @asynchronous
    async def test_what_is_left_is_written_at_the_end(self) -> None:
        usage = Usage(self.clock, self.accounts, time.time)
        usage.start()
        token = self.mariadb.token(person(self.mariadb))
        await self.who(token)
        usage.note(self.used[0])
        await usage.stop()
        assert self._last(token) is not None

    @asynchronous
    async def test_many_are_written_in_few_statements(self) -> None:
        usage = Usage(self.clock, self.accounts, time.time)
        for ident in range(2**62, 2**62 + 2 * BATCH + 1):
            usage.note(ident)
        before = self.mariadb.count("Com_update")
        await usage.stop()
        assert self.mariadb.count("Com_update") == before + 3

    @asynchronous
    async def test_a_refused_token_was_not_used(self) -> None:
        user = person(self.mariadb, status="banned")
        token = self.mariadb.token(person(self.mariadb))
        for bad in (self.mariadb.token(user), self.mariadb.token(number()), token + "0", self.jwt(number())):
            await self.refusal(bad)
        await self.refusal(self.mariadb.token(person(self.mariadb), "[]"))
        assert self.used == []


def test_an_identity_shows_no_token() -> None:
    assert "hidden" not in repr(Identity(1, "x", bearer="hidden"))
