"""Connections to the site: kept, late, lost, and over TLS, to nobody but the site."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from mechamap_rt.auth.laravel import CONCURRENT, LaravelSite
from mechamap_rt.auth.trust import trusting
from tests.auth.sitecase import TOKEN, SiteCase
from tests.bus.redis_case import coroutine, until
from tests.redis_server import Certificates, free_port
from tests.site import Answer, Deaf, Site, user_of


class LateTests(SiteCase):
    @coroutine
    async def test_late_answers(self) -> None:
        body = {"user": user_of(7)}
        for late in (Answer(200, body, stall=-1), Answer(200, body, stall=0), Answer(200, body, stall=9, chunked=True)):
            client = self.client(timeout=0.4)
            before = len(self.site.asked)
            self.site.script.append(late)
            started = reactor.seconds()
            await self.unavailable(client)
            self.assertLess(reactor.seconds(), started + 4.0)
            self.assertEqual(len(self.site.asked), before + 1, "who is slow is not asked again")
            self.site.release()
            await self.no_connection()
            await client.verify(TOKEN)
            await client.close()

    @coroutine
    async def test_a_late_answer_over_a_kept_connection(self) -> None:
        client = self.client(timeout=0.5)
        await client.verify(TOKEN)
        self.site.script.append(Answer(stall=-1))
        await self.unavailable(client)
        self.assertEqual(len(self.site.asked), 2)
        self.site.release()
        await client.verify(TOKEN)
        self.assertEqual(self.site.accepted, 2)

    @coroutine
    async def test_who_accepts_and_never_answers(self) -> None:
        for scheme in ("http", "https"):
            deaf = Deaf(scheme)
            self.addCleanup(deaf.end)
            await self.unavailable(self.client(deaf.url, timeout=0.2))

    @coroutine
    async def test_nobody_there(self) -> None:
        client = self.client(f"http://127.0.0.1:{free_port()}")
        await self.unavailable(client)
        self.assertTrue(any("ConnectionRefusedError" in line for line in self.logged), self.logged)


class ConnectionTests(SiteCase):
    async def ask_together(self, client: LaravelSite, count: int) -> None:
        users = await gatherResults([Deferred.fromCoroutine(client.verify(TOKEN)) for _ in range(count)])
        self.assertEqual([user["id"] for user in users], [7] * count)

    @coroutine
    async def test_one_after_the_other_goes_over_one_connection(self) -> None:
        client = self.client()
        for _ in range(20):
            await client.verify(TOKEN)
            await client.authorize(TOKEN, "s", "thread.1")
        self.assertEqual(self.site.accepted, 1)

    @coroutine
    async def test_no_more_than_twenty_at_once(self) -> None:
        client = self.client()
        for _ in range(3):
            await self.ask_together(client, 150)
        self.assertLessEqual(self.site.accepted, CONCURRENT)
        await client.close()
        await self.no_connection()

    @coroutine
    async def test_a_kept_connection_that_has_been_closed_costs_nothing(self) -> None:
        client = self.client()
        await self.ask_together(client, 5)
        kept = self.site.open
        self.site.hang_up()
        await self.ask_together(client, 5)
        await self.no_connection_but(client, kept)
        self.site.script.append(Answer(200, {"user": user_of(7)}, leave=True))
        await client.verify(TOKEN)
        await client.verify(TOKEN)
        self.assertEqual(client.failures, 0)

    async def no_connection_but(self, client: LaravelSite, count: int) -> None:
        await until(lambda: self.site.open <= count, f"no more than {count} connections to be left")

    @coroutine
    async def test_one_that_is_closed_or_broken_when_it_is_asked_is_tried_once_more(self) -> None:
        for ill in (Answer(hang_up=True), Answer(reset=True)):
            client = self.client()
            await self.ask_together(client, CONCURRENT)
            old = self.site.accepted
            self.site.always = lambda asked, old=old, ill=ill: ill if asked.connection <= old else None
            before = len(self.site.asked)
            # all kept connections are bad: the second try must not take another one of them
            for _ in range(3):
                await client.verify(TOKEN)
            self.assertEqual(len(self.site.asked), before + 6)
            self.assertEqual(client.failures, 0)
            self.site.always = None
            await client.close()

    @coroutine
    async def test_but_only_once(self) -> None:
        client = self.client()
        await client.verify(TOKEN)
        self.site.always = Answer(hang_up=True)
        await self.unavailable(client)
        self.assertEqual(len(self.site.asked), 3)
        self.assertEqual(client.failures, 1)

    @coroutine
    async def test_two_tries_have_the_time_of_one(self) -> None:
        client = self.client(timeout=1.0)
        await client.verify(TOKEN)
        self.site.always = lambda asked: Answer(hang_up=asked.connection == 1, stall=-1)
        started = reactor.seconds()
        asked = Deferred.fromCoroutine(self.unavailable(client))
        await until(lambda: reactor.seconds() > started + 0.6, "a part of the time to pass")
        self.site.release()
        await asked
        self.assertEqual(len(self.site.asked), 3)
        self.assertLess(reactor.seconds(), started + 1.5)


def expired(certificates: Certificates) -> tuple[str, str]:
    """A certificate that was good until yesterday, and its key."""
    certificate, key = certificates.issue("expired")
    good = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
    signer = serialization.load_pem_private_key((certificates.folder / "ca.key").read_bytes(), None)
    today = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        good.issuer,
        good.subject,
        good.public_key(),
        x509.random_serial_number(),
        today - datetime.timedelta(days=2),
        today - datetime.timedelta(days=1),
        list(good.extensions),
    )
    old = builder.sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    Path(certificate).write_bytes(old.public_bytes(serialization.Encoding.PEM))
    return certificate, key


class TLSTests(SiteCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.certificates = Certificates(Path(folder.name) / "ours")
        self.others = Certificates(Path(folder.name) / "theirs")

    def secure(self, tls: tuple[str, str]) -> Site:
        site = Site(tls)
        self.addCleanup(site.end)
        site.users[TOKEN] = user_of(7)
        return site

    async def distrusted(self, site: Site, policy: Any, why: str) -> None:
        client = self.client(site.url, policy=policy)
        await self.unavailable(client)
        self.assertEqual(site.asked, [], "nothing may be told to a stranger")
        self.assertEqual(site.accepted, 1, "nor is it tried again")
        self.assertTrue(any(why in line for line in self.logged), self.logged)

    @coroutine
    async def test_of_an_authority_that_is_trusted(self) -> None:
        site = self.secure(self.certificates.issue("site"))
        client = self.client(site.url, policy=trusting(self.certificates.ca))
        for _ in range(3):
            self.assertEqual((await client.verify(TOKEN))["id"], 7)
        self.assertEqual(site.accepted, 1)
        await client.close()

    @coroutine
    async def test_a_late_body_is_given_up_over_tls_too(self) -> None:
        site = self.secure(self.certificates.issue("site"))
        client = self.client(site.url, timeout=1.0, policy=trusting(self.certificates.ca))
        site.script.append(Answer(200, {"user": user_of(7)}, stall=5))
        await self.unavailable(client)
        self.assertEqual(site.held, 1, "the site has not moved")
        site.release()
        await until(lambda: site.open == 0, "the connection to be given up")
        self.assertEqual((await client.verify(TOKEN))["id"], 7)
        await client.close()

    @coroutine
    async def test_of_an_unknown_authority(self) -> None:
        issued = self.certificates.issue("site")
        await self.distrusted(self.secure(issued), None, "certificate verify failed")
        await self.distrusted(self.secure(issued), trusting(self.others.ca), "certificate verify failed")

    @coroutine
    async def test_for_another_host(self) -> None:
        issued = self.certificates.issue("site", "DNS:example.org,IP:192.0.2.1")
        await self.distrusted(self.secure(issued), trusting(self.certificates.ca), "VerificationError")

    @coroutine
    async def test_expired(self) -> None:
        site = self.secure(expired(self.certificates))
        await self.distrusted(site, trusting(self.certificates.ca), "certificate verify failed")

    @coroutine
    async def test_no_tls_at_all(self) -> None:
        client = self.client(self.site.url.replace("http:", "https:"))
        await self.unavailable(client)
        self.assertEqual(self.site.asked, [])
