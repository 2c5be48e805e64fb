"""Which network addresses a URL sent by a stranger may lead to: those of the public internet.

Everything else (this machine, its neighbours, a cloud's metadata service) is inside the operator's network, where a
server must not knock on a stranger's behalf.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address


def trouble(address: Address) -> str | None:
    """Why the address is not public ("loopback", "private" ...), None if it is.

    An IPv6 address that stands for an IPv4 address (mapped, 6to4, Teredo, NAT64) is as good as that one is.
    """
    if isinstance(address, IPv6Address):
        inner = _inside(address)
        if inner:
            return next((why for why in map(trouble, inner) if why), None)
    if address.is_unspecified:
        return "unspecified"
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if address.is_reserved:
        return "reserved"
    return None if address.is_global else "private"


def _inside(address: IPv6Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address leads to."""
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFF_FFFF),)
    return ()
