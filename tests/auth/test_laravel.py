"""How the site is asked about tokens and channels: against a real server that answers well, ill, and not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from mechamap_rt.auth.authenticator import Authenticator
from mechamap_rt.auth.backends import LaravelBackend
from mechamap_rt.auth.cache import TokenCache
from mechamap_rt.auth.decisions import NO, YES, Decisions, by_token
from mechamap_rt.auth.exchange import MAX_ANSWER
from mechamap_rt.auth.jwt import JWTVerifier
from mechamap_rt.auth.laravel import LaravelPolicy
from mechamap_rt.auth.mock import MockSite
from mechamap_rt.core import channels
from mechamap_rt.core.identity import Identity
from mechamap_rt.errors import AuthRefused, Unavailable
from mechamap_rt.interfaces import IPolicy
from tests.auth.sitecase import TOKEN, SiteCase
from tests.bus.redis_case import coroutine, until
from tests.server import JWT_SECRET, LARAVEL_API_KEY
from tests.site import CHANNELS, VERIFY, Answer, Site, token_of, user_of

PAGE = b"<!DOCTYPE html><html><title>Maintenance</title></html>"
HTML = {"Content-Type": "text/html"}

#: What the site says against a token, and what the client is told.
REFUSALS: list[tuple[Answer, str]] = [
    (Answer(401, {"success": False, "message": "Invalid token"}), "Invalid token"),
    (Answer(401, {"success": False, "message": "Token has expired"}), "Token expired"),
    (Answer(401, {"message": "Unauthenticated."}), "Invalid token"),
    (Answer(401, PAGE, HTML), "Invalid token"),
    (Answer(401), "Invalid token"),
    (Answer(403, {"success": False, "message": "User account is not active"}), "User account is not active"),
    (Answer(403, {"success": False, "message": "This user has been banned"}), "User account is not active"),
    (Answer(403, {"success": False, "message": "Insufficient permissions"}), "Insufficient permissions"),
    (Answer(403, {"success": False, "message": ["?"]}), "Insufficient permissions"),
    (Answer(403, b"null"), "Insufficient permissions"),
    (Answer(400, {"success": False, "message": "The token field is required."}), "Invalid token"),
    (Answer(422, {"message": "The token field must be a string.", "errors": {}}), "Invalid token"),
    (Answer(200, {"success": False}), "Invalid token"),
    (Answer(200, {"success": False, "message": "Token expired", "data": {"user": user_of(7)}}), "Token expired"),
    (Answer(200, {"success": False, "message": "Account inactive"}), "User account is not active"),
]

#: What says nothing about a token.
STRANGE: list[Answer] = [
    *(Answer(status, {"message": "?"}) for status in (201, 204, 404, 405, 419, 429, 500, 502, 503, 504)),
    Answer(401, {"success": False, "message": "Invalid API key"}),
    Answer(200, PAGE, HTML),
    Answer(200, b""),
    Answer(200, b"[]"),
    Answer(200, b'"user"'),
    Answer(200, b'{"user": {"id": 7}'),
    Answer(200, b'{"user": {"id": 7, "name": "\xff"}}'),
    Answer(200, b'{"user": {"id": 7, "name": "\\ud800"}}'),
    Answer(200, b'{"user":' * 200 + b"1" + b"}" * 200),
    Answer(200, {"success": True}),
    Answer(200, {"data": None}),
    Answer(200, {"data": {"user": [7]}}),
    Answer(200, {"data": {"data": {"user": None}}}),
    Answer(200, {"user": 7}),
    Answer(200, {"data": {"user": user_of(7)}}, cut=20),
    Answer(200, {"data": {"user": user_of(7)}}, cut=20, chunked=True),
    Answer(200, {"data": {"user": user_of(7, name="x" * 10_000_000)}}),
    Answer(200, {"data": {"user": user_of(7, name="x" * 10_000_000)}}, chunked=True),
    Answer(hang_up=True),
    Answer(reset=True),
]


class VerifyTests(SiteCase):
    @coroutine
    async def test_the_request(self) -> None:
        self.assertEqual(await self.client(self.site.url + "/").verify(TOKEN), user_of(7))
        [asked] = self.site.asked
        self.assertEqual((asked.method, asked.path), ("POST", VERIFY))
        self.assertEqual(asked.json, {"token": TOKEN})
        self.assertEqual(asked.headers["x-websocket-api-key"], LARAVEL_API_KEY)
        self.assertEqual(asked.headers["content-type"], "application/json")
        self.assertEqual(asked.headers["accept"], "application/json")
        self.assertEqual(asked.headers["host"], f"127.0.0.1:{self.site.port}")
        self.assertNotIn("authorization", asked.headers)
        self.assertNotIn("transfer-encoding", asked.headers)

    @coroutine
    async def test_the_site_may_be_in_a_folder(self) -> None:
        self.site.always = Answer(200, {"user": user_of(7)})
        await self.client(self.site.url + "/forum").verify(TOKEN)
        self.assertEqual(self.site.paths(), ["/forum" + VERIFY])

    @coroutine
    async def test_where_the_user_may_be(self) -> None:
        user = user_of(7)
        client = self.client()
        for body in ({"data": {"user": user}}, {"data": {"data": {"user": user}}}, {"user": user}):
            for chunked in (False, True):
                self.site.script.append(Answer(200, {"success": True} | body, chunked=chunked))
                self.assertEqual(await client.verify(TOKEN), user)

    @coroutine
    async def test_refusals(self) -> None:
        client = self.client()
        for answer, reason in REFUSALS:
            self.site.script.append(answer)
            self.assertEqual(await self.refused(client), reason, str(answer)[:200])
        self.assertEqual(len(self.site.asked), len(REFUSALS))
        self.assertEqual(client.failures, 0)

    @coroutine
    async def test_what_says_nothing_about_the_token(self) -> None:
        for answer in STRANGE:
            client = self.client()
            before = len(self.site.asked)
            self.site.script.append(answer)
            await self.unavailable(client)
            self.assertEqual(len(self.site.asked), before + 1, f"asked again after {str(answer)[:200]}")
            self.assertEqual((await client.verify(TOKEN))["id"], 7, f"after {str(answer)[:200]}")
            await client.close()

    @coroutine
    async def test_of_a_wrong_key_the_log_says_which_setting_it_is(self) -> None:
        self.site.script.append(Answer(401, {"success": False, "message": "Invalid API key"}))
        await self.unavailable(self.client())
        self.assertTrue(any("LARAVEL_API_KEY" in line for line in self.logged), self.logged)

    @coroutine
    async def test_an_answer_as_long_as_may_be(self) -> None:
        client = self.client()
        user = user_of(7, more="")
        user["more"] = "x" * (MAX_ANSWER - len(Answer(body={"user": user}).content))
        self.site.script.append(Answer(200, {"user": user}))
        self.assertEqual(await client.verify(TOKEN), user)
        user["more"] += "x"
        self.site.script.append(Answer(200, {"user": user}))
        await self.unavailable(client)
        self.assertTrue(any("AnswerTooLong" in line for line in self.logged), self.logged)

    @coroutine
    async def test_a_redirect_gets_neither_the_key_nor_the_token(self) -> None:
        other = Site()
        self.addCleanup(other.end)
        other.users[TOKEN] = user_of(7)
        client = self.client()
        for status in (301, 302, 303, 307, 308):
            for target in (other.url + VERIFY, self.site.url + "/login", "//" + other.url.removeprefix("http://")):
                self.site.script.append(Answer(status, b"", {"Location": target}))
                await self.unavailable(client)
        self.assertEqual(other.accepted, 0)
        self.assertEqual(set(self.site.paths()), {VERIFY})


class AuthenticationTests(SiteCase):
    """The site behind an authenticator, as in the server."""

    def setUp(self) -> None:
        super().setUp()
        self.now = 1_000_000.0
        cache = TokenCache(300, 100, lambda: self.now)
        backend = LaravelBackend(self.client(), JWTVerifier(JWT_SECRET, "HS256"))
        self.authenticator = Authenticator(backend, cache, lambda: self.now, keep=True)

    async def outcome(self, user: Any) -> Any:
        """The user, or why there is none, when the site describes one like this."""
        self.site.script.append(Answer(200, {"data": {"user": user}}))
        self.authenticator.forget(token_id=7)
        self.now += 10
        try:
            return await self.authenticator.authenticate(TOKEN)
        except AuthRefused as refused:
            return str(refused)

    @coroutine
    async def test_a_user(self) -> None:
        found = await self.outcome(user_of(7, role="moderator", avatar="/a.png", permissions=["receive_notifications"]))
        wanted = Identity(7, "Kỹ sư 7", "moderator", "u7@example.org", ("receive_notifications",), "/a.png", None, 7)
        self.assertEqual(found, wanted)
        self.assertEqual(found.bearer, TOKEN)
        self.assertNotIn("secret7", repr(found))

    @coroutine
    async def test_ids(self) -> None:
        for ident, wanted in ((7, 7), ("7", 7), (2**63 - 1, 2**63 - 1), (str(2**63 - 1), 2**63 - 1)):
            self.assertEqual((await self.outcome(user_of(ident))).user_id, wanted)
        odd: list[Any] = [None, True, 0, -7, 7.0, 7.5, 2**63, str(2**63), "", "seven", "٧", "7 ", " 7", [7], {"id": 7}]
        for ident in odd:
            outcome = await self.outcome(user_of(ident))
            self.assertEqual(outcome, "Authentication failed: Invalid token", repr(ident))
        self.assertEqual(await self.outcome({}), "Authentication failed: Invalid token")

    @coroutine
    async def test_who_is_not_active(self) -> None:
        for more in (
            {"status": "banned"},
            {"status": "inactive"},
            {"is_active": False},
            {"is_active": 0},
            {"is_active": "0"},
        ):
            outcome = await self.outcome(user_of(7, **more))
            self.assertEqual(outcome, "Authentication failed: User account is not active", str(more))
        for more in ({"status": None}, {"status": ["?"]}, {"is_active": True}, {"is_active": 1}):
            self.assertEqual((await self.outcome(user_of(7, **more))).user_id, 7)

    @coroutine
    async def test_permissions(self) -> None:
        for permissions in (["websocket:connect"], [None, 5, {}, "receive_notifications"]):
            self.assertEqual((await self.outcome(user_of(7, permissions=permissions))).user_id, 7)
        for permissions in ([], None, "receive_notifications", {"receive_notifications": True}, ["send"], [["x"]]):
            outcome = await self.outcome(user_of(7, permissions=permissions))
            self.assertEqual(outcome, "Authentication failed: Insufficient permissions", str(permissions))

    @coroutine
    async def test_names_of_odd_types(self) -> None:
        found = await self.outcome(user_of(7, name=5, role=[], email={}, avatar=True))
        self.assertEqual((found.name, found.role, found.email, found.avatar), ("User 7", "guest", None, None))

    @coroutine
    async def test_many_at_the_same_time_make_one_request(self) -> None:
        self.site.script.append(Answer(200, {"user": user_of(7)}, stall=-1))
        asked = [self.authenticator.authenticate(TOKEN) for _ in range(300)]
        await until(lambda: self.site.held == 1, "the site to be asked")
        self.site.release()
        self.assertEqual({found.user_id for found in await gatherResults(asked)}, {7})
        await self.authenticator.authenticate(TOKEN)
        self.assertEqual(len(self.site.asked), 1)
        self.now += 301
        await self.authenticator.authenticate(TOKEN)
        self.assertEqual(len(self.site.asked), 2)

    @coroutine
    async def test_refusals_are_remembered_for_a_moment_and_failures_are_not(self) -> None:
        stranger = token_of(8)
        for _ in range(20):
            await self.assertFailure(self.authenticator.authenticate(stranger), AuthRefused)
        self.assertEqual(len(self.site.asked), 1)
        self.site.script.append(Answer(503))
        await self.assertFailure(self.authenticator.authenticate(TOKEN), Unavailable)
        self.assertEqual((await self.authenticator.authenticate(TOKEN)).user_id, 7)

    @coroutine
    async def test_what_cannot_be_a_token_is_not_asked_about(self) -> None:
        wrong = ["", "x", "7|short", "7|" + "x" * 300, "0|" + "x" * 48, "7|" + "é" * 48, "7|" + "x" * 48 + "\r\nA: b"]
        for token in wrong:
            await self.assertFailure(self.authenticator.authenticate(token), AuthRefused)
        self.assertEqual(self.site.asked, [])


class AuthorizeTests(SiteCase):
    @coroutine
    async def test_the_request(self) -> None:
        self.site.channels["private-thread.7,=@;:"] = {TOKEN}
        self.assertIsNotNone(await self.client().authorize(TOKEN, "a+b&c=d ", "private-thread.7,=@;:"))
        [asked] = self.site.asked
        self.assertEqual((asked.method, asked.path), ("POST", CHANNELS))
        self.assertEqual(asked.form, {"socket_id": ["a+b&c=d "], "channel_name": ["private-thread.7,=@;:"]})
        self.assertEqual(asked.headers["content-type"], "application/x-www-form-urlencoded")
        self.assertEqual(asked.headers["authorization"], f"Bearer {TOKEN}")
        self.assertEqual(asked.headers["accept"], "application/json")
        self.assertNotIn("x-websocket-api-key", asked.headers, "the key is not needed here")

    @coroutine
    async def test_what_the_site_says_of_a_member(self) -> None:
        client, told = self.client(), {"name": "Nguyễn An", "avatar": "/a.png", "more": 1}
        for body in (
            told,
            {"user_info": told},
            {"channel_data": {"user_id": 7, "user_info": told}},
            {"auth": "x", "channel_data": json.dumps({"user_id": "7", "user_info": told})},
        ):
            self.site.script.append(Answer(200, body))
            self.assertEqual(await client.authorize(TOKEN, "s", "presence-thread.1"), ("Nguyễn An", "/a.png"), body)
        for body in ([], {"channel_data": "{"}, {"user_info": 3}, {"name": 7, "avatar": "x" * 2000}, b"true"):
            self.site.script.append(Answer(200, body))
            self.assertEqual(await client.authorize(TOKEN, "s", "presence-thread.1"), (None, None), body)

    @coroutine
    async def test_a_member_is_shown_as_the_site_says(self) -> None:
        policy = LaravelPolicy(self.client(), Decisions(lambda: 0.0))
        who = Identity(7, "An", "member", avatar="/old.png", bearer=TOKEN)
        channel = channels.parse("presence-thread.1")
        self.site.script.append(Answer(200, {"channel_data": {"user_info": {"name": "Nguyễn An"}}}))
        self.assertTrue(await policy.may_subscribe(who, channel))
        self.assertEqual(policy.member(who, channel), ("Nguyễn An", "/old.png"))
        self.assertEqual(policy.member(who, channels.parse("presence-thread.2")), ("An", "/old.png"))

    @coroutine
    async def test_yes_no_and_nothing(self) -> None:
        client = self.client()
        for body in (b"", b"true", b"{}", {"channel_data": {"user_id": 7}}):
            self.site.script.append(Answer(200, body))
            self.assertIsNotNone(await client.authorize(TOKEN, "s", "thread.1"))
        for status in (401, 403):
            self.site.script.append(Answer(status, PAGE, HTML))
            self.assertIsNone(await client.authorize(TOKEN, "s", "thread.1"))
        strange = [Answer(200, PAGE, HTML), Answer(200, b"true", cut=2), Answer(302, b"", {"Location": "/login"})]
        strange += [Answer(status, {"message": "?"}) for status in (404, 419, 422, 429, 500, 503)]
        for answer in strange:
            self.site.script.append(answer)
            asked = Deferred.fromCoroutine(client.authorize(TOKEN, "s", "thread.1"))
            await self.assertFailure(asked, Unavailable)


class PolicyTests(SiteCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.decisions = Decisions(self.clock.seconds, which=by_token)
        self.policy = LaravelPolicy(self.client(), self.decisions)
        self.user = Identity(7, "An", "member", bearer=TOKEN)
        self.site.channels = {name: {TOKEN} for name in ("thread.1", "private-thread.1", "private-thread.2")}

    async def may(self, name: str, **more: Any) -> bool:
        answer: bool = await self.policy.may_subscribe(self.user, channels.parse(name), **more)
        return answer

    def names(self) -> list[str]:
        return [asked.form["channel_name"][0] for asked in self.site.asked]

    def test_interface(self) -> None:
        verifyObject(IPolicy, self.policy)

    @coroutine
    async def test_ones_own_channel_needs_no_question(self) -> None:
        for prefix in ("", "private-", "presence-"):
            self.assertTrue(await self.may(f"{prefix}user.7"))
        self.assertEqual(self.site.asked, [])
        self.assertFalse(await self.may("user.8"))
        self.assertFalse(await self.may("user.7.orders"))
        self.assertEqual(self.names(), ["user.8", "user.7.orders"])

    @coroutine
    async def test_without_a_token_the_answer_is_no(self) -> None:
        self.user = Identity(7, "An", "member")
        self.assertFalse(await self.may("thread.1"))
        self.assertEqual(self.site.asked, [])

    @coroutine
    async def test_what_one_token_may_another_of_the_same_user_may_not(self) -> None:
        poor = replace(self.user, bearer=token_of(8))
        channel = channels.parse("thread.1")
        for _ in range(2):
            self.assertTrue(await self.may("thread.1"))
            self.assertFalse(await self.policy.may_subscribe(poor, channel))
        self.assertEqual(self.names(), ["thread.1", "thread.1"], "each token is asked about once")
        # the user's right is taken away from all of them, the token itself is not kept
        self.assertNotIn(TOKEN, repr(self.decisions._entries))
        self.policy.forget(7, "thread.1")
        self.assertEqual(len(self.decisions), 0)

    @coroutine
    async def test_decisions_are_remembered_by_user_and_name(self) -> None:
        for _ in range(3):
            self.assertTrue(await self.may("thread.1"))
            self.assertFalse(await self.may("presence-thread.1"))
        self.assertEqual(self.names(), ["thread.1", "presence-thread.1"], "each name is asked about by itself")
        self.assertTrue(await self.may("thread.1", fresh=True))
        self.clock.advance(NO)
        self.assertFalse(await self.may("presence-thread.1"))
        self.assertTrue(await self.may("thread.1"))
        self.assertEqual(len(self.site.asked), 4)
        self.clock.advance(YES)
        self.assertTrue(await self.may("thread.1"))
        self.user = Identity(8, "Binh", "member", bearer=token_of(8))
        self.assertFalse(await self.may("thread.1"))
        self.assertEqual(len(self.site.asked), 6)

    @coroutine
    async def test_what_could_not_be_found_out_is_not_remembered(self) -> None:
        self.site.script.append(Answer(500))
        asked = self.policy.may_subscribe(self.user, channels.parse("thread.1"))
        await self.assertFailure(asked, Unavailable)
        self.assertTrue(await self.may("thread.1"))

    @coroutine
    async def test_what_is_forgotten_is_asked_again(self) -> None:
        names = ["thread.1", "private-thread.1", "private-thread.2"]
        forgotten = [
            ({"resource": "thread.1"}, names[:2]),
            ({"resource": "thread.1", "user_id": 7}, names[:2]),
            ({"resource": "thread.1", "user_id": 8}, []),
            ({"user_id": 7}, names),
            ({"user_id": 8}, []),
            ({}, names),
        ]
        for name in names:
            self.assertTrue(await self.may(name))
        for which, again in forgotten:
            self.site.asked.clear()
            self.policy.forget(**which)  # type: ignore[arg-type]
            for name in names:
                self.assertTrue(await self.may(name))
            self.assertEqual(self.names(), again, str(which))

    @coroutine
    async def test_a_right_that_is_taken_away_while_the_site_answers(self) -> None:
        self.site.script.append(Answer(200, b"true", stall=-1))
        asked = self.policy.may_subscribe(self.user, channels.parse("thread.9"))
        await until(lambda: self.site.held == 1, "the site to be asked")
        self.policy.forget(7, "thread.9")
        self.site.release()
        self.assertFalse(await asked)
        self.assertEqual(self.names(), ["thread.9", "thread.9"])


class MockTests(TestCase):
    @coroutine
    async def test_everybody_is_the_configured_user_and_may_hear_everything(self) -> None:
        backend = LaravelBackend(MockSite(42, "moderator"), JWTVerifier(JWT_SECRET, "HS256"))
        for number in (1, 2):
            found = await backend.resolve(token_of(number))
            self.assertEqual((found.user_id, found.role, found.token_id), (42, "moderator", number))
        await self.assertFailure(Deferred.fromCoroutine(backend.resolve("no token")), AuthRefused)
        policy = LaravelPolicy(MockSite(42, "member"), Decisions(Clock().seconds))
        user = Identity(42, "User 42", "member", bearer=token_of(1))
        self.assertTrue(await policy.may_subscribe(user, channels.parse("admin.alerts")))
