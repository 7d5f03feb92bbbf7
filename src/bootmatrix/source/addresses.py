"""Network distance of hosts: this machine, its link, a private network, public."""

import re
import socket
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address
_NAT64 = ip_network("64:ff9b::/96")
"""RFC 6052: an IPv4 address in its last 32 bits."""
_TRANSLATED = ip_network("::ffff:0:0:0/96")
"""RFC 2765: likewise."""
_HOST_SERVICES = frozenset(
    map(ip_address, ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
"""Addresses of the host's services for machines in clouds, beside 169.254.169.254; they tell a machine's settings."""
_LEGACY = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)(?:\.(?:0[xX][0-9a-fA-F]*|[0-9]+)){0,3}")


class Scope(IntEnum):
    """Network distance of an address.

    A nearer address is trusted with more, so addresses farther away must not lead to it.
    """

    MACHINE = 0
    LINK = 1
    PRIVATE = 2
    PUBLIC = 3

    def __str__(self) -> str:
        return ("this machine", "this machine's own link", "a private network", "a public network")[self]


def literal_address(host: str) -> Address | None:
    """Parse a host that is an IP address; None for a name.

    All forms that `connect` takes are parsed: `127.1`, `0x7f000001`, `[::1]`.
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
    """Return the scope of an address.

    An IPv6 address that embeds an IPv4 address has the scope of the latter.
    """
    address = _embedded(address) or address
    if address.is_loopback or address.is_unspecified or _is_local(address):
        return Scope.MACHINE
    if address.is_link_local or address.is_multicast or address.is_reserved or address in _HOST_SERVICES:
        return Scope.LINK
    is_site_local = isinstance(address, IPv6Address) and address.is_site_local
    return Scope.PUBLIC if address.is_global and not is_site_local else Scope.PRIVATE


def _embedded(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address embeds.

    The forms are mapped, compatible, translated, 6to4, NAT64 and Teredo.
    """
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address in _NAT64 or address in _TRANSLATED or (int(address) >> 32 == 0 and int(address) > 0xFFFF):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.teredo[1] if address.teredo else None


def _is_local(address: Address) -> bool:
    """Return whether the address belongs to this machine.

    A datagram socket connected to a local address has the same address as its source.
    """
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as udp:
            udp.connect((str(address), 9))  # nothing is sent
            return ip_address(udp.getsockname()[0].partition("%")[0]) == ip_address(str(address).partition("%")[0])
    except (OSError, ValueError):
        return False


def is_loopback(host: str) -> bool:
    """Return whether a host without a port is textually this machine.

    No name is looked up.
    """
    if host.rstrip(".").lower() == "localhost":
        return True
    address = literal_address(host)
    if address is None:
        return False
    inner = _embedded(address)
    return (inner or address).is_loopback
