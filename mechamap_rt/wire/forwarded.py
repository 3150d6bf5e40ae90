"""Whose address is it, when proxies stand in front (``X-Forwarded-For``)?"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address


def client_address(
    peer: str, forwarded_for: str | None, hops: int, networks: Sequence[IPv4Network | IPv6Network] = ()
) -> str:
    """The address to hold limits against.

    :param peer: the address of the TCP connection; empty for a unix socket.
    :param forwarded_for: the header, every line of it joined by commas.
    :param hops: how many proxies are trusted to have appended to the header; 0 with no ``networks``: it is ignored.
    :param networks: the proxies' own addresses; then entries are skipped from the end while they are in these.
    """
    if not forwarded_for or not (hops or networks):
        return peer
    chain = [entry.strip() for entry in forwarded_for.split(",")][-32:]
    chain.append(peer)
    if networks:
        at = len(chain) - 1
        while at > 0 and _within(chain[at], networks):
            at -= 1
    else:
        at = max(len(chain) - 1 - hops, 0)
    return _normal(chain[at]) or peer


def _within(text: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    if not text:
        return True
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return any(address in network for network in networks)


def _normal(text: str) -> str | None:
    """An address in its shortest form; ``None`` for what is none (a forged or broken header)."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None
