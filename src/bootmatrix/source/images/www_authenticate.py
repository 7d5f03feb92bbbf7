"""Challenges of `WWW-Authenticate` headers (RFC 9110, RFC 6750, distribution/auth), and which hosts belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bootmatrix.source.addresses import is_loopback, literal_address

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_GAP = re.compile(r"[\s,]*")
_SCHEME = re.compile(rf"({_WORD})(?=[\s,]|$)")
_PARAMETER = re.compile(rf'({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))(?=[\s,]|$)')
_TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))")
"""The grammar of RFC 9110, sections 5.6 and 11. Registries write values without quotes too: a URL, for instance."""
_IN_NUMBERS = re.compile(r".*:.*|(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?")
"""Hosts that are no names: of IPv6, or with a number for the last label, of which a resolver may make an address."""
MAX_LENGTH = 8192
SHORT_LABEL = 3
"""Letters of the names below a country that are for everybody: co, com, ac, gov, org."""


@dataclass(frozen=True)
class Challenge:
    """A way to say who one is, and what the registry says of it; the scheme is in small letters."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def challenges(headers: Iterable[str]) -> list[Challenge]:
    """All that are well formed, in their order. One header may have several, and a challenge no parameters at all."""
    return [challenge for header in headers for challenge in _parse(header[:MAX_LENGTH])]


def _parse(text: str) -> Iterator[Challenge]:
    at = _skip(text, 0)
    while scheme := _SCHEME.match(text, at):
        at, parameters = scheme.end(), {}
        if token := _TOKEN68.match(text, at):
            at = token.end()
        at = _skip(text, at)
        while pair := _PARAMETER.match(text, at):
            parameters[pair[1].lower()] = re.sub(r"\\(.)", r"\1", pair[2]) if pair[2] is not None else pair[3]
            at = _skip(text, pair.end())
        yield Challenge(scheme[1].lower(), parameters)


def _skip(text: str, at: int) -> int:
    """The next place that is neither blank nor comma: lists may have empty elements."""
    found = _GAP.match(text, at)
    return found.end() if found else at


def belong_together(one: str, other: str) -> bool:
    """Whether two hosts are the same or under one domain, so that what is told to one may be told to the other.

    `auth.example.com` and `registry.example.com` are; addresses are only if they are the same.
    """
    if one == other or (is_loopback(one) and is_loopback(other)):
        return True
    if any(literal_address(host) or _IN_NUMBERS.fullmatch(host) for host in (one, other)):
        return False
    names = [host.lower().rstrip(".").split(".") for host in (one, other)]
    # Below .uk or .jp, names such as co.uk belong to nobody in particular: there it takes one more.
    length = 3 if len(names[0][-1]) == 2 and len(names[0][-2:][0]) <= SHORT_LABEL else 2
    return names[0][-length:] == names[1][-length:] and min(map(len, names)) >= length
