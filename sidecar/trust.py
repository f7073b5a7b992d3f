"""Who may ask, and from which address the client came."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network

from sidecar.errors import RequestRefused
from sidecar.model import UNIX_PEER, Headers, IPAddress, Reason
from sidecar.settings.types import Network

CLIENT_HEADER = b"x-forwarded-for"


class TrustedProxies:
    """The peers whose word is taken for what the client asked. An empty list trusts nobody."""

    def __init__(self, entries: Iterable[str]) -> None:
        listed = frozenset(entries)
        self._unix = UNIX_PEER in listed
        self._networks = tuple(ip_network(entry) for entry in listed - {UNIX_PEER})
        self.admits = lru_cache(maxsize=1024)(self._admits)

    def _admits(self, peer: str) -> bool:
        if peer == UNIX_PEER:
            return self._unix
        try:
            return contains(self._networks, read_address(peer.encode()))
        except RequestRefused:  # a connection that is gone already has no address
            return False


def contains(networks: Iterable[Network], address: IPAddress) -> bool:
    """Whether one of the networks holds the address."""
    return any(address in network for network in networks)


@lru_cache(maxsize=4096)
def read_address(text: bytes) -> IPAddress:
    """An address in its one form: `::ffff:10.0.0.1` is 10.0.0.1. Raises RequestRefused."""
    try:
        address = ip_address(text.decode("ascii"))
    except ValueError:
        raise RequestRefused(Reason.BAD_CLIENT_ADDRESS, "there is no address in its place") from None
    if not isinstance(address, IPv6Address):
        return address
    if address.scope_id is not None:
        raise RequestRefused(Reason.BAD_CLIENT_ADDRESS, "the address has a zone")
    return address.ipv4_mapped or address


def client_address(headers: Headers, peer: str, hops: int) -> IPAddress:
    """The client, as a trusted peer tells it: the `hops`th X-Forwarded-For entry from the right.

    All lines are counted as one list. Without any, the peer itself. Raises RequestRefused where the
    place that is read holds no address, or does not exist.
    """
    lines = headers.all(CLIENT_HEADER)
    if not lines:
        return peer_address(peer)
    entries = b",".join(lines).split(b",")
    if len(entries) < hops:
        why = f"X-Forwarded-For has {len(entries)} of them, and client_ip_hops is {hops}"
        raise RequestRefused(Reason.BAD_CLIENT_ADDRESS, why)
    return read_address(entries[-hops].strip(b" \t"))


def address_of(headers: Headers, peer: str, trusted: TrustedProxies, hops: int) -> IPAddress:
    """The client of a page: X-Forwarded-For counts only where the peer is trusted."""
    return client_address(headers, peer, hops) if trusted.admits(peer) else peer_address(peer)


def peer_address(peer: str) -> IPAddress:
    """The peer's own address. Raises RequestRefused over a unix socket, where there is none."""
    if peer == UNIX_PEER:
        raise RequestRefused(Reason.MISSING_METADATA, "X-Forwarded-For is missing")
    return read_address(peer.encode())


def client_network(client: IPAddress) -> str:
    """What counts as one client: an IPv4 address, or the /64 that a subscriber has in IPv6."""
    if isinstance(client, IPv6Address):
        return str(IPv6Network((client, 64), strict=False))
    return str(client)
