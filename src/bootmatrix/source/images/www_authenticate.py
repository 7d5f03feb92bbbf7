"""What a registry answers to who has not said who he is: `WWW-Authenticate` (RFC 9110, RFC 6750, distribution/auth)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_SCHEME = re.compile(r"\s*([A-Za-z]+)(?:\s+|$)")
_PARAMETER = re.compile(r'\s*([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))\s*,?')
MAX_LENGTH = 8192
SHORT_LABEL = 3
"""Letters of the names below a country that are for everybody: co, com, ac, gov, org."""


@dataclass(frozen=True)
class Challenge:
    """A way to say who one is, and what the registry says of it; the scheme is in small letters."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def challenges(headers: Iterable[str]) -> list[Challenge]:
    """All that are well formed, in their order."""
    found = []
    for header in headers:
        rest = header[:MAX_LENGTH]
        while match := _SCHEME.match(rest):
            rest, parameters = rest[match.end() :], {}
            while pair := _PARAMETER.match(rest):
                parameters[pair[1].lower()] = re.sub(r"\\(.)", r"\1", pair[2]) if pair[2] is not None else pair[3]
                rest = rest[pair.end() :]
            found.append(Challenge(match[1].lower(), parameters))
    return found


def is_loopback(host: str) -> bool:
    """Whether a host, without its port, is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def belong_together(one: str, other: str) -> bool:
    """Whether two hosts are the same or under one domain, so that what is told to one may be told to the other.

    `auth.example.com` and `registry.example.com` are; addresses are only if they are the same.
    """
    if one == other or (is_loopback(one) and is_loopback(other)):
        return True
    if any(re.fullmatch(r"[0-9.]+|.*:.*", host) for host in (one, other)):
        return False
    names = [host.lower().rstrip(".").split(".") for host in (one, other)]
    # Below .uk or .jp, names such as co.uk belong to nobody in particular: there it takes one more.
    length = 3 if len(names[0][-1]) == 2 and len(names[0][-2:][0]) <= SHORT_LABEL else 2
    return names[0][-length:] == names[1][-length:] and min(map(len, names)) >= length
