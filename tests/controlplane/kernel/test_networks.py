"""Whose word counts of where a request is from, and which addresses are one client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.networks import (
    address_group,
    client_address,
    is_within,
    parse_address,
    read_networks,
)

PROXIES = read_networks("10.0.0.0/8, 127.0.0.1, fd00::/8", setting="PROXIES")


def client(peer: str, forwarded_for: str, proxies: str = "10.0.0.0/8, 127.0.0.1, fd00::/8") -> str:
    return client_address(
        peer=peer, forwarded_for=forwarded_for, proxies=read_networks(proxies, setting="PROXIES")
    )


@pytest.mark.parametrize(
    ("peer", "said", "expected"),
    [
        ("203.0.113.5", "", "203.0.113.5"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),  # no proxy of ours: its word does not count
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),  # left of the client anybody may write
        ("10.0.0.1", "1.2.3.4, 198.51.100.1, 10.9.9.9", "198.51.100.1"),  # two proxies of ours
        ("10.0.0.1", "10.0.0.7, 10.0.0.8", "10.0.0.7"),  # everybody is ours: the outermost
        ("10.0.0.1", "1.2.3.4, nonsense", "10.0.0.1"),  # the proxy called, and did not say by whom
        ("10.0.0.1", "1.2.3.4, ", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_client_address__what_was_said__counts_from_the_right_and_from_proxies_only(
    peer: str, said: str, expected: str
) -> None:
    assert client(peer, said) == expected


def test_client_address__no_proxy_configured__is_the_peer() -> None:
    assert client("127.0.0.1", "198.51.100.1", proxies="") == "127.0.0.1"


ADDRESSES = st.ip_addresses().map(str)


@given(st.lists(st.one_of(ADDRESSES, st.text(alphabet="abc123.:[] ", max_size=12)), max_size=4), ADDRESSES)
def test_client_address__whatever_a_client_writes__its_own_address_is_found(
    written: list[str], real: str
) -> None:
    """The proxy adds the true address on the right, whatever stood there."""
    parsed = parse_address(real)
    if is_within(real, PROXIES):
        return
    assert client("10.0.0.1", ",".join([*written, real])) == str(parsed)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("2001:db8:1:2::1", "2001:0db8:0001:0002:0:0:0:5"),
    ],
)
def test_address_group__one_household__is_one(one: str, other: str) -> None:
    assert address_group(one) == address_group(other)


def test_address_group__others__are_not() -> None:
    assert address_group("2001:db8:1:2::1") != address_group("2001:db8:1:3::1")
    assert address_group("198.51.100.1") != address_group("198.51.100.2")
    assert len(address_group("x" * 500)) == 64


@pytest.mark.parametrize(
    "text", ["nonsense", "10.0.0.1/8", "0.0.0.0/0", "::/0", "10.0.0.0/33", "10.0.0.1,\x00"]
)
def test_read_networks__what_is_none_or_everybody__is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput, match="HEADGATE_TRUSTED_PROXIES"):
        read_networks(text, setting="HEADGATE_TRUSTED_PROXIES")
