"""Addresses of clients: who sent a request that came through proxies, and which addresses count as one client."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from controlplane.kernel.errors import InvalidInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MOST_HOPS = 32
# A household or a machine is given a whole /64 of IPv6: its addresses count as one.
IPV6_GROUP_BITS = 64


def read_networks(text: str, *, setting: str) -> tuple[Network, ...]:
    """`10.0.0.0/8, 127.0.0.1` as networks. Raises InvalidInput naming the setting and the part that is none."""
    found = []
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        try:
            network = ip_network(part)
        except ValueError as error:
            raise InvalidInput(
                f"{setting}: {part!r} is no network ({error}).",
                field=setting,
                fix="Write addresses or networks by comma, such as 10.0.0.0/8, 127.0.0.1.",
            ) from None
        if network.prefixlen == 0:
            raise InvalidInput(
                f"{setting}: {part} is every address there is: everybody could claim any address.",
                field=setting,
                fix="Name the proxies alone.",
            )
        found.append(network)
    return tuple(found)


def checked_networks(value: str, /, *, setting: str) -> str:
    """The value of a setting, unchanged. Raises InvalidInput like `read_networks`."""
    read_networks(value, setting=setting)
    return value


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """True for an address in one of the networks; False for what is no address."""
    parsed = parse_address(address)
    return parsed is not None and any(parsed in network for network in networks)


def client_address(*, peer: str, forwarded_for: str, proxies: Sequence[Network]) -> str:
    """Who sent a request: `peer`, or what trusted proxies say of it.

    peer            the address at the other end of the connection
    forwarded_for   X-Forwarded-For as it came; each proxy adds the address it was called from on the right
    proxies         those whose word counts

    Goes from the right as long as a trusted proxy speaks: the first address that is no proxy of ours is the client.
    What stands left of it anybody may have written. Where a proxy's word is no address, the proxy itself is answered.
    """
    client = peer
    hops = forwarded_for.split(",")[-MOST_HOPS:] if forwarded_for else []
    for hop in reversed(hops):
        if not is_within(client, proxies):
            return client
        address = parse_address(hop)
        if address is None:
            return client
        client = str(address)
    return client


def parse_address(text: str) -> Address | None:
    """An address as proxies write it, with or without a port; None for anything else. IPv4 in IPv6 is read as IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def address_group(address: str) -> str:
    """What counts as one client: an IPv4 address, the /64 of an IPv6 one; anything else as it is, cut short."""
    parsed = parse_address(address)
    if parsed is None:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed), IPV6_GROUP_BITS), strict=False))
    return str(parsed)
