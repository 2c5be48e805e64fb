"""Only addresses of the public internet are fetched from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.media.addresses import trouble


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("93.184.216.34", None),
        ("2606:2800:220:1:248:1893:25c8:1946", None),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("127.8.9.10", "loopback"),
        ("::1", "loopback"),
        ("10.0.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("198.18.0.1", "private"),
        ("fd12::1", "private"),
        ("169.254.169.254", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.251", "multicast"),
        ("ff02::1", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::7f00:1", "reserved"),
        ("::ffff:8.8.8.8", None),
        ("::ffff:10.0.0.1", "private"),
        ("64:ff9b::808:808", None),
        ("64:ff9b::a00:1", "private"),
        ("2002:7f00:1::", "loopback"),
        ("2001:0:808:808:0:0:f5ff:fffe", "private"),  # Teredo: the client is 10.0.0.1
    ],
)
def test_an_address_is_public_or_why_not(address: str, why: str | None) -> None:
    assert trouble(ip_address(address)) == why


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_in_an_ipv6_dress_is_judged_as_itself(number: int) -> None:
    plain = IPv4Address(number)
    for dressed in (IPv6Address(0xFFFF << 32 | number), IPv6Address((0x64FF9B << 96) | number)):
        assert trouble(dressed) == trouble(plain)
