"""Judge hosts by the addresses that they lead to: this machine, its link, a private network, or the public one."""

from __future__ import annotations

import re
import socket
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address
_NAT64 = ip_network("64:ff9b::/96")
"""RFC 6052: an IPv4 address in its last 32 bits."""
_LEGACY = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]*|[0-9]+)){0,3}")


class Scope(IntEnum):
    """How far away an address is; what is nearer is trusted with more, and so kept from those farther away."""

    MACHINE = 0
    LINK = 1
    PRIVATE = 2
    PUBLIC = 3

    def __str__(self) -> str:
        return ("this machine", "this machine's own link", "a private network", "a public network")[self]


def literal_address(host: str) -> Address | None:
    """Return the address that a host's text is, in any form that `connect` takes: `127.1`, `0x7f000001`, `[::1]`.

    None for names.
    """
    text = host.strip("[]").rstrip(".")
    try:
        return ip_address(text)
    except ValueError:
        pass
    if not _LEGACY.fullmatch(text):
        return None
    try:
        return IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


def scope_of(address: Address) -> Scope:
    """Return how far away an address is; of one of IPv6 that stands for one of IPv4, how far away the latter is."""
    address = _embedded(address) or address
    if address.is_loopback or address.is_unspecified or _is_own(address):
        return Scope.MACHINE
    if address.is_link_local or address.is_multicast or address.is_reserved:
        return Scope.LINK
    is_site_local = isinstance(address, IPv6Address) and address.is_site_local
    return Scope.PUBLIC if address.is_global and not is_site_local else Scope.PRIVATE


def _embedded(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that one of IPv6 stands for: mapped, compatible, 6to4, NAT64, or Teredo."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 0xFFFF):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.teredo[1] if address.teredo else None


def _is_own(address: Address) -> bool:
    """Return whether the address is one of this machine's own: what is sent to it then comes from it too."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.connect((str(address), 9))  # of a datagram socket: nothing is sent
            return ip_address(one.getsockname()[0].partition("%")[0]) == ip_address(str(address).partition("%")[0])
    except (OSError, ValueError):
        return False


def is_loopback(host: str) -> bool:
    """Return whether a host, without its port, is by its text this machine itself. No name is looked up."""
    if host.rstrip(".").lower() == "localhost":
        return True
    address = literal_address(host)
    if address is None:
        return False
    inner = _embedded(address)
    return (inner or address).is_loopback
