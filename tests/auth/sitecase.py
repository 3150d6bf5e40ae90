"""What the tests of the site's HTTP interface share: a site, those who ask it, and what they log."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import TestCase

from mechamap_rt.auth.laravel import LaravelSite
from mechamap_rt.errors import AuthRefused, Unavailable
from tests.bus.redis_case import until
from tests.server import LARAVEL_API_KEY
from tests.site import Site, token_of, user_of

TOKEN = token_of(7)


class SiteCase(TestCase):
    """A site, those who ask it, and what they log: in which there is never a token or a key."""

    timeout = 30

    def setUp(self) -> None:
        self.logged: list[str] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)
        self.site = Site()
        self.addCleanup(self.site.end)
        self.site.users[TOKEN] = user_of(7)

    def tearDown(self) -> None:
        logged = "\n".join(self.logged)
        self.assertNotIn("secret7", logged)
        self.assertNotIn(LARAVEL_API_KEY, logged)

    def _observe(self, event: Any) -> None:
        self.logged.append(eventAsText(event))

    def client(self, url: str = "", timeout: float = 5.0, policy: Any = None) -> LaravelSite:
        client = LaravelSite(reactor, url or self.site.url, LARAVEL_API_KEY, timeout, policy)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client

    async def unavailable(self, client: LaravelSite) -> None:
        try:
            answer = await client.verify(TOKEN)
        except Unavailable:
            return
        self.fail(f"not an answer: {answer}")

    async def refused(self, client: Any) -> str:
        try:
            answer = await client.verify(TOKEN)
        except AuthRefused as refused:
            return refused.reason
        self.fail(f"not a refusal: {answer}")

    async def no_connection(self) -> None:
        await until(lambda: self.site.open == 0, "the connection to be given up")
