"""Whose address is it, when proxies stand in front (``X-Forwarded-For``)?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

Network = IPv4Network | IPv6Network

_WITH_PORT = re.compile(r"([0-9.]{7,15}):[0-9]{1,5}|\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?")


def client_address(peer: str, forwarded_for: str | None, hops: int, networks: Sequence[Network] = ()) -> str:
    """The address to hold limits against; where the header makes no sense, the connection's own.

    :param peer: the address of the TCP connection; empty for a unix socket.
    :param forwarded_for: the header, every line of it joined by commas.
    :param hops: how many proxies are trusted to have appended to the header; 0 with no ``networks``: it is ignored.
    :param networks: the proxies' own addresses; then entries are skipped from the end while they are in these.
    """
    return strict_client_address(peer, forwarded_for, hops, networks) or normal(peer) or peer


def strict_client_address(
    peer: str, forwarded_for: str | None, hops: int, networks: Sequence[Network] = ()
) -> str | None:
    """The client's address, or ``None`` where the header that should name it does not: for what grants a right."""
    if forwarded_for is None or not (hops or networks):
        return normal(peer)
    chain = [entry.strip() for entry in forwarded_for.split(",")][-32:]
    chain.append(peer)
    if networks:
        at = len(chain) - 1
        while at > 0 and within(chain[at], networks):
            at -= 1
    else:
        at = max(len(chain) - 1 - hops, 0)
    return normal(chain[at])


def household(address: str) -> str:
    """Whom a limit on addresses counts: an IPv4 address, or the /64 of an IPv6 one, of which one line has 2**64."""
    if ":" not in address:
        return address
    try:
        return str(IPv6Network((address, 64), strict=False))
    except ValueError:
        return address


def within(text: str, networks: Sequence[Network]) -> bool:
    """Is the address in one of the networks? An empty one is a unix socket's: this host."""
    if not text:
        return True
    address = normal(text)
    return address is not None and any(ip_address(address) in network for network in networks)


def normal(text: str) -> str | None:
    """An address in its shortest form, without port and brackets; ``None`` for what is none.

    An IPv4 address that a dual-stack socket has dressed as IPv6 becomes itself again.
    """
    match = _WITH_PORT.fullmatch(text)
    if match is not None:
        text = match[1] or match[2]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
