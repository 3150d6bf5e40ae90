"""Getting into Redis: passwords, accounts, TLS, sentinels, and what the operator is told when it fails."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

from twisted.internet import reactor
from twisted.internet.error import ConnectionRefusedError as Refused
from txredisapi import ResponseError

from mechamap_rt.bus.redis import RedisBus
from mechamap_rt.redis.errors import RedisAway, in_words
from mechamap_rt.redis.places import written
from mechamap_rt.redis.protocols import encode, encode_publish
from tests.bus.redis_case import RedisCase, coroutine, pause, until
from tests.contracts.bus import Recorder, publication
from tests.redis_server import Certificates, RedisServer, free_port

QUICK = {"timeout": 0.5}
SECRET = "s3cret-of-redis"


class RefusalTests(RedisCase):
    def complaints(self) -> list[str]:
        return [line for line in self.logged if "cannot be used" in line]

    @coroutine
    async def test_a_wrong_password_is_told_once_and_heals_when_it_is_mended(self) -> None:
        server = self.serve(("requirepass", "another"))
        bus, recorder = await self.bus(server, password=SECRET, **QUICK)
        assert bus.degraded
        await pause(0.5)
        assert len(self.complaints()) == 1
        assert "refuses the password" in self.complaints()[0]
        assert not any(SECRET in line or "another" in line for line in self.logged)
        server.run("CONFIG", "SET", "requirepass", SECRET, password="another")
        await until(lambda: not bus.degraded)
        assert recorder.states == [True, False]

    @coroutine
    async def test_a_missing_password_is_told(self) -> None:
        bus, _ = await self.bus(self.serve(("requirepass", SECRET)), **QUICK)
        assert bus.degraded
        assert "set REDIS_PASSWORD" in self.complaints()[0]

    @coroutine
    async def test_an_account_with_rights_on_our_channels_only(self) -> None:
        rights = "+publish +subscribe +unsubscribe +ping +client|setname"
        server = self.serve(("user", "rt", "on", f">{SECRET}", "resetchannels", "&mechamap:*", rights))
        bus, _ = await self.bus(server, "aaa000", username="rt", password=SECRET, **QUICK)
        other, at_other = await self.bus(server, "bbb000", username="rt", password=SECRET, **QUICK)
        await other.subscribe("public.x")
        assert await bus.publish(publication("a-1")) == 2
        assert at_other.ids() == ["a-1"]
        stranger, _ = await self.bus(server, "ccc000", username="rt", password=SECRET, prefix="other:", **QUICK)
        assert stranger.degraded
        await pause(0.5)
        assert len(self.complaints()) == 1
        assert "lacks a right" in self.complaints()[0]

    @coroutine
    async def test_a_redis_that_is_full_is_tried_until_there_is_room(self) -> None:
        server = self.serve(("maxclients", "3"), ("requirepass", SECRET))
        first, _ = await self.bus(server, "aaa000", password=SECRET, **QUICK)
        second, _ = await self.bus(server, "bbb000", password=SECRET, **QUICK)
        assert (first.degraded, second.degraded) == (False, True)
        assert "maxclients" in self.complaints()[0]
        await first.stop()
        await until(lambda: not second.degraded)

    @coroutine
    async def test_a_database_that_is_not_there_is_told(self) -> None:
        bus, _ = await self.bus(self.serve(), db=99, **QUICK)
        assert bus.degraded
        assert "REDIS_DB" in self.complaints()[0]


class TLSTests(RedisCase):
    certificates: ClassVar[Certificates]

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.certificates = Certificates(Path(cls._folder.name))

    @classmethod
    def tearDownClass(cls) -> None:
        cls._folder.cleanup()

    def tls_server(self, *, subject: str = "DNS:localhost,IP:127.0.0.1", verify: bool = False) -> RedisServer:
        certificate, key = self.certificates.issue("server", subject)
        return self.serve(tls=(certificate, key, self.certificates.ca), verify_clients=verify)

    @coroutine
    async def test_a_certificate_that_we_trust(self) -> None:
        server = self.tls_server()
        for node, host in (("aaa000", "127.0.0.1"), ("bbb000", "localhost")):
            bus, _ = await self.bus(server, node, host=host, tls=True, tls_ca=self.certificates.ca)
            assert not bus.degraded
            assert bus.figures()["endpoint"] == f"{host}:{server.port}"
            assert await bus.commands.execute("PING") == b"PONG"

    @coroutine
    async def test_a_client_certificate(self) -> None:
        server = self.tls_server(verify=True)
        certificate, key = self.certificates.issue("client")
        tls = {"tls": True, "tls_ca": self.certificates.ca, "timeout": 1.0}
        bus, _ = await self.bus(server, "aaa000", tls_cert=certificate, tls_key=key, **tls)
        assert not bus.degraded
        without, _ = await self.bus(server, "bbb000", **tls)
        assert without.degraded
        assert any("TLS" in line for line in self.logged)

    @coroutine
    async def test_who_is_not_trusted_or_has_another_name_gets_nothing(self) -> None:
        server = self.tls_server()
        stranger = Certificates(Path(self._folder.name) / "stranger")
        untrusted, _ = await self.bus(server, "aaa000", tls=True, tls_ca=stranger.ca, **QUICK)
        system, _ = await self.bus(server, "bbb000", tls=True, **QUICK)
        plain, _ = await self.bus(server, "ccc000", **QUICK)
        assert untrusted.degraded and system.degraded and plain.degraded
        assert any("certificate verify failed" in line for line in self.logged)
        elsewhere = self.tls_server(subject="DNS:elsewhere.example")
        misnamed, _ = await self.bus(elsewhere, "ddd000", tls=True, tls_ca=self.certificates.ca, **QUICK)
        assert misnamed.degraded
        assert any("for another name" in line for line in self.logged), "\n".join(self.logged)
        missing, _ = await self.bus(server, "eee000", tls=True, tls_ca="/nonexistent.pem", **QUICK)
        assert missing.degraded


class SentinelTests(RedisCase):
    timeout = 40

    def sentinel(self, *options: tuple[str, ...], master: RedisServer) -> RedisServer:
        return self.serve(*options, sentinel_of=master.port)

    async def _pair(self, sentinels: tuple[tuple[str, int], ...], **more: object) -> list[tuple[RedisBus, Recorder]]:
        made = []
        for node in ("aaa000", "bbb000"):
            bus, recorder = await self.bus(None, node, sentinels=sentinels, timeout=1.0, **more)
            await bus.subscribe("public.x")
            made.append((bus, recorder))
        return made

    @coroutine
    async def test_a_failover_is_followed(self) -> None:
        master = self.serve()
        replica = self.serve(("replicaof", "127.0.0.1", str(master.port)), ("repl-diskless-sync-delay", "0"))
        await until(lambda: "master_link_status:up\r" in replica.run("INFO", "replication"))
        sentinel = self.sentinel(master=master)
        await until(lambda: f"127.0.0.1:{replica.port}" in str(sentinel.run("SENTINEL", "replicas", "mymaster")))
        # the first of the list is down: the next is asked
        (one, _), (other, at_other) = await self._pair((("127.0.0.1", 1), ("127.0.0.1", sentinel.port)))
        assert one.figures()["endpoint"] == f"127.0.0.1:{master.port}"
        assert await one.publish(publication("a-1")) == 2, "\n".join(self.logged)
        master.kill()
        await until(lambda: one.degraded and other.degraded)
        one.publish(publication("a-2"))
        await until(lambda: not one.degraded and not other.degraded, limit=20)
        assert one.figures()["endpoint"] == f"127.0.0.1:{replica.port}"
        await until(lambda: at_other.ids() == ["a-1", "a-2"])

    @coroutine
    async def test_a_replica_is_not_taken_for_the_master(self) -> None:
        master = self.serve()
        replica = self.serve(("replicaof", "127.0.0.1", str(master.port)))
        sentinel = self.sentinel(master=replica)
        sentinels = (("127.0.0.1", sentinel.port),)
        bus, _ = await self.bus(None, sentinels=sentinels, **QUICK)
        # a sentinel that is told to watch a replica finds the master behind it in the end
        assert bus.degraded or bus.figures()["endpoint"] == f"127.0.0.1:{master.port}"

    @coroutine
    async def test_passwords_and_tls_towards_both(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            certificates = Certificates(Path(folder))
            tls = (*certificates.issue("server"), certificates.ca)
            master = self.serve(("requirepass", SECRET), tls=tls)
            sentinel = self.serve(
                ("requirepass", "of-sentinel"),
                ("tls-replication", "yes"),
                ("sentinel", "auth-pass", "mymaster", SECRET),
                sentinel_of=master.port,
                tls=tls,
            )
            settings = {"tls": True, "tls_ca": certificates.ca, "password": SECRET, "sentinel_password": "of-sentinel"}
            (one, _), _ = await self._pair((("localhost", sentinel.port),), **settings)
            assert await one.publish(publication("a-1")) == 2, "\n".join(self.logged)

    @coroutine
    async def test_a_master_that_no_sentinel_knows_is_told(self) -> None:
        sentinel = self.sentinel(master=self.serve())
        sentinels = (("127.0.0.1", sentinel.port),)
        bus, _ = await self.bus(None, sentinels=sentinels, sentinel_master="nobody", **QUICK)
        assert bus.degraded
        assert any("no master called nobody" in line for line in self.logged)


class ClusterNodesTests(RedisCase):
    @coroutine
    async def test_another_node_is_taken_when_one_is_away(self) -> None:
        first, second = self.serve(), self.serve()
        nodes = (("127.0.0.1", first.port), ("127.0.0.1", second.port))
        bus, _ = await self.bus(None, cluster_nodes=nodes)
        taken, left = (first, second) if bus.figures()["endpoint"].endswith(str(first.port)) else (second, first)
        taken.kill()
        await until(lambda: bus.degraded)
        await until(lambda: not bus.degraded)
        assert bus.figures()["endpoint"] == f"127.0.0.1:{left.port}"

    @coroutine
    async def test_a_real_cluster_carries_and_counts(self) -> None:
        servers = [self.serve(("cluster-enabled", "yes"), ("cluster-port", str(free_port()))) for _ in range(3)]
        names = [f"127.0.0.1:{server.port}" for server in servers]
        servers[0].run("--cluster", "create", *names, "--cluster-yes")
        await until(lambda: all("cluster_state:ok\r" in server.run("CLUSTER", "INFO") for server in servers))
        # each host at a node of its own
        one, _ = await self.bus(None, "aaa000", 2, cluster_nodes=(("127.0.0.1", servers[0].port),))
        other, at_other = await self.bus(None, "bbb000", 3, cluster_nodes=(("127.0.0.1", servers[2].port),))
        await one.subscribe("public.x")
        await other.subscribe("public.x")
        await until(lambda: one.figures()["hosts"] == other.figures()["hosts"] == 1)
        assert await one.publish(publication("a-1")) == 5
        assert await other.ask("who", b"?") == [b"bbb000 who ?", b"aaa000 who ?"]
        one.publish(publication("a-2"), counted=False)
        await until(lambda: at_other.ids() == ["a-1", "a-2"])


def test_words_never_hold_a_secret() -> None:
    echoed = ResponseError(f"ERR unknown command 'AUTH', with args beginning with: '{SECRET}'")
    assert SECRET not in in_words(echoed, SECRET)
    away = RedisAway("the connection was lost")
    away.__cause__ = Refused()
    assert in_words(away) == "there is no connection (ConnectionRefusedError)"
    assert reactor is not None


def test_commands_are_written_as_redis_reads_them() -> None:
    assert encode("SET", b"k", 1.5, 7) == b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n1.5\r\n$1\r\n7\r\n"
    assert encode_publish(b"c", b"x\r\n") == encode("PUBLISH", b"c", b"x\r\n")
    assert written(("::1", 1)) == "[::1]:1"
