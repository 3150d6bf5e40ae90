"""Hosts, URLs, origins, networks and proxies."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from mechamap_rt.settings import TrustProxy, addresses
from mechamap_rt.settings.faults import BadValue
from mechamap_rt.settings.kinds import Kind


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (addresses.host, "127.0.0.1", "127.0.0.1"),
        (addresses.host, "::", "::"),
        (addresses.host, "[::1]", "::1"),
        (addresses.host, "db_1.internal", "db_1.internal"),
        (addresses.url, "https://mechamap.com/", "https://mechamap.com"),
        (addresses.url, "http://[::1]:8000/api/", "http://[::1]:8000/api"),
        (addresses.url, "HTTPS://MechaMap.com:443", "https://mechamap.com"),
        (addresses.origins, "https://a.vn/, http://b.vn:8080", ("https://a.vn", "http://b.vn:8080")),
        (addresses.origins, "https://a.vn:443", ("https://a.vn",)),
        (addresses.origins, "*", ("*",)),
        (addresses.origins, "capacitor://localhost", ("capacitor://localhost",)),
        (addresses.networks, "10.1.2.3/8,::1", (ip_network("10.0.0.0/8"), ip_network("::1/128"))),
        (addresses.networks, "none", ()),
        (addresses.nodes, "a:7000, [::1]:7001", (("a", 7000), ("::1", 7001))),
        (addresses.trust_proxy, "true", TrustProxy(1)),
        (addresses.trust_proxy, "1", TrustProxy(1)),
        (addresses.trust_proxy, "false", TrustProxy()),
        (addresses.trust_proxy, "0", TrustProxy()),
        (addresses.trust_proxy, "2", TrustProxy(2)),
        (addresses.trust_proxy, "10.0.0.1, 172.16.0.0/12", TrustProxy(0, ("10.0.0.1/32", "172.16.0.0/12"))),
        (addresses.trust_proxy, "loopback", TrustProxy(0, ("127.0.0.0/8", "::1/128"))),
    ],
)
def test_reads(kind: Kind[Any], text: str, value: object) -> None:
    assert kind.parse(text) == value
    assert kind.parse(kind.format(value)) == value


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (
            addresses.host,
            [
                "http://a",
                "a:80",
                "a/b",
                "a b",
                "-a",
                "a..b",
                "máy.vn",
                "256.1.1.1",
                "1.2.3",
                "a" * 300,
                "[a]",
                "[",
                "a\n",
            ],
        ),
        (
            addresses.url,
            [
                "mechamap.com",
                "ftp://a",
                "http://",
                "http:///x",
                "http://u:p@a",
                "http://a?x",
                "http://a#x",
                "http://[::1",
                "http://a:99999",
                "http://a:x",
                "http://a b",
                "http://a\n.b",
                "http://a\\@b",
                "http://á.vn",
            ],
        ),
        (
            addresses.origins,
            [
                "a.vn",
                "https://a.vn/path",
                "https://*.a.vn",
                "null",
                "https://u@a.vn",
                "https://a.vn?x",
                "//a.vn",
                "file://",
            ],
        ),
        (addresses.networks, ["localhost", "10.0.0.0/33", "1.2.3", "１.2.3.4", "fe80::1%eth0", "::/x", "10.0.0.1-9"]),
        (addresses.nodes, ["a", "a:", "a:0", "a:65536", ":7000", "::1:7000", "redis://a:1", "a:٣"]),
        (addresses.trust_proxy, ["-1", "100", "maybe", "1,2", "10.0.0.0/8,x", "２"]),
        (addresses.port(), ["0", "65536", "tcp://10.0.0.1:6379"]),
    ],
)
def test_refuses(kind: Kind[Any], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(BadValue):
            kind.parse(text)


def test_a_trusted_proxy_has_networks() -> None:
    assert TrustProxy(0, ("10.0.0.0/8",)).networks == (ip_network("10.0.0.0/8"),)
