"""Kinds for what names a place on a network: hosts, ports, URLs, origins, networks, proxies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from urllib.parse import SplitResult, urlsplit

from mechamap_rt.settings.faults import BadValue
from mechamap_rt.settings.kinds import Kind, comma_list, integer

Network = IPv4Network | IPv6Network

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_DOTTED = re.compile(r"[0-9.]+")
_HOST_REASON = "must be a host name or an IP address, without a scheme, a port or a path"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOPS = re.compile(r"[0-9]{1,2}")
_HOPS_WORDS = {"true": 1, "yes": 1, "on": 1, "false": 0, "no": 0, "off": 0}
_NAMED_NETWORKS = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "linklocal": ("169.254.0.0/16", "fe80::/10"),
    "uniquelocal": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
}
"""The names that Express' ``trust proxy`` understands, which is where TRUST_PROXY comes from."""


@dataclass(frozen=True, slots=True)
class TrustProxy:
    """Whose ``X-Forwarded-For`` is believed.

    :ivar hops: how many proxies stand in front of the server; the client's address is the one that many
        places from the end. 0 with no addresses: the header is ignored.
    :ivar addresses: networks (``10.0.0.0/8``) whose members are proxies; then ``hops`` is 0.
    """

    hops: int = 0
    addresses: tuple[str, ...] = ()

    @property
    def networks(self) -> tuple[Network, ...]:
        """:attr:`addresses`, parsed."""
        return tuple(ip_network(address) for address in self.addresses)


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return text.isascii() and text.isprintable()


def _parse_host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _is_ipv6(bare):
        return bare
    if _HOST_NAME.fullmatch(text) and (not _DOTTED.fullmatch(text) or _is_ipv4(text)):
        return text
    raise BadValue(_HOST_REASON)


host: Kind[str] = Kind(_parse_host, str, "host name or IP address")
"""A host name or an address; ``[::1]`` loses its brackets. International names in their ``xn--`` form."""


def port(*, any_free: bool = False) -> Kind[int]:
    """A TCP port; ``any_free`` allows 0, which lets the system choose one."""
    return integer(0 if any_free else 1, 65535)


def _parse_node(text: str) -> tuple[str, int]:
    name, colon, number = text.rpartition(":")
    if not colon or (":" in name and not name.startswith("[")):
        raise BadValue("must be host:port")
    return host.parse(name), port().parse(number)


def _format_node(node: tuple[str, int]) -> str:
    name, number = node
    return f"[{name}]:{number}" if ":" in name else f"{name}:{number}"


nodes: Kind[tuple[tuple[str, int], ...]] = comma_list(Kind(_parse_node, _format_node, "host:port"))
"""``host:port,host:port``; an IPv6 address in brackets."""


def split_server(text: str, port_of_all: int) -> tuple[str, int]:
    """Host and port of what :data:`server` has read; the host may be the path of a unix socket."""
    name, colon, number = text.rpartition(":")
    if text.startswith("/") or not colon or (":" in name and not name.startswith("[")):
        return text, port_of_all
    return name.strip("[]"), int(number)


def _parse_server(text: str) -> str:
    if text.startswith("/") and text.isprintable() and "," not in text:
        return text
    try:
        return host.parse(text)
    except BadValue:
        try:
            return _format_node(_parse_node(text))
        except BadValue:
            raise BadValue("must be a host name or an IP address, with or without a port, or a socket's path") from None


server: Kind[str] = Kind(_parse_server, str, "host, host:port, or the path of a socket")
"""A host, ``host:port``, or the path of a unix socket."""


def _split(text: str, reason: str) -> tuple[SplitResult, str]:
    """The parts of a URL and its authority in a normal form (lower case, no default port)."""
    # urlsplit drops line breaks and tabs silently, and reads "http:///" as a URL without a host.
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise BadValue(reason)
    try:
        parts = urlsplit(text)
        number, name = parts.port, _parse_host(parts.hostname or "")
    except (ValueError, BadValue):
        raise BadValue(reason) from None
    if parts.username is not None or parts.password is not None:
        raise BadValue("must not hold a user name or a password")
    authority = f"[{name}]" if ":" in name else name
    if number is not None and number != _DEFAULT_PORTS.get(parts.scheme):
        authority += f":{number}"
    return parts, authority


def _parse_url(text: str) -> str:
    reason = "must be an http:// or https:// address, without a query"
    parts, authority = _split(text, reason)
    if parts.scheme not in _DEFAULT_PORTS or "?" in text or "#" in text:
        raise BadValue(reason)
    return f"{parts.scheme}://{authority}{parts.path.rstrip('/')}"


url: Kind[str] = Kind(_parse_url, str, "http:// or https:// address")
"""An http or https URL; the trailing slash is dropped, so that a path can be appended."""


def _parse_origin(text: str) -> str:
    if text == "*":
        return text
    reason = "must be an origin such as https://example.org (no path, no wildcard), or *"
    parts, authority = _split(text, reason)
    rest = text.partition("://")[2].partition("/")[2]
    if not _SCHEME.fullmatch(parts.scheme) or rest or "?" in text or "#" in text:
        raise BadValue(reason)
    return f"{parts.scheme}://{authority}"


origins: Kind[tuple[str, ...]] = comma_list(Kind(_parse_origin, str, "origin such as https://www.example.org, or *"))
"""Origins as a browser writes them in its ``Origin`` header, or ``*``."""


def _parse_network(text: str) -> Network:
    try:
        if text.isascii() and "%" not in text:
            return ip_network(text, strict=False)
    except ValueError:
        pass
    raise BadValue("must be an IP address or a network such as 10.0.0.0/8")


_networks = comma_list(Kind(_parse_network, str, "IP address or network such as 10.0.0.0/8"))

networks: Kind[tuple[Network, ...]] = Kind(
    lambda text: () if text.lower() == "none" else _networks.parse(text),
    lambda value: _networks.format(value) or "none",
    f"{_networks.notation}; or none",
)
"""Addresses and networks; ``none`` for none at all."""


def _parse_trust_proxy(text: str) -> TrustProxy:
    word = text.lower()
    if word in _HOPS_WORDS:
        return TrustProxy(hops=_HOPS_WORDS[word])
    if _HOPS.fullmatch(text):
        return TrustProxy(hops=int(text))
    parts = [part.strip() for part in text.split(",")]
    spelled = ",".join(",".join(_NAMED_NETWORKS.get(part.lower(), (part,))) for part in parts)
    try:
        return TrustProxy(addresses=tuple(map(str, _networks.parse(spelled))))
    except BadValue as bad:
        reason = "must be true, false, a number of proxies, or a comma list of addresses and networks"
        raise BadValue(reason, bad.culprit) from None


def _format_trust_proxy(value: TrustProxy) -> str:
    return ",".join(value.addresses) or str(value.hops)


trust_proxy: Kind[TrustProxy] = Kind(
    _parse_trust_proxy,
    _format_trust_proxy,
    "true, false, number of proxies, or comma list of their addresses and networks",
)
"""``true`` (1 proxy), ``false``, a number of proxies, or the proxies' addresses."""
