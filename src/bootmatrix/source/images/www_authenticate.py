"""Parse `WWW-Authenticate` challenges, and compare the domains of hosts.

Sources: RFC 9110, RFC 6750, distribution/auth.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bootmatrix.source.addresses import is_loopback, literal_address

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_GAP = re.compile(r"[\s,]*")
_SCHEME = re.compile(rf"({_WORD})(?=[\s,]|$)")
_PARAMETER = re.compile(rf'({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))(?=[\s,]|$)')
_TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))")
"""The grammar of RFC 9110, sections 5.6 and 11. Registries also write unquoted values such as URLs."""
_NUMERIC = re.compile(r".*:.*|(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?")
"""Hosts that resolvers may parse as addresses: IPv6, or with a number as the last label."""
MAX_LENGTH = 8192
SHORT_LABEL = 3
"""Maximum length of public suffixes below a country: co, com, ac, gov, org."""


@dataclass(frozen=True)
class Challenge:
    """An authentication scheme in lower case, and its parameters."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def challenges(headers: Iterable[str]) -> list[Challenge]:
    """Parse all well-formed challenges, in their order.

    A header may have several. A challenge may lack parameters.
    """
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
    """Skip blanks and commas: lists may have empty elements."""
    gap = _GAP.match(text, at)
    return gap.end() if gap else at


def belong_together(first: str, second: str) -> bool:
    """Return whether two hosts are equal or in one domain, and share credentials.

    `auth.example.com` and `registry.example.com` are. Addresses must be equal.
    """
    if first == second or (is_loopback(first) and is_loopback(second)):
        return True
    if any(literal_address(host) or _NUMERIC.fullmatch(host) for host in (first, second)):
        return False
    names = [host.lower().rstrip(".").split(".") for host in (first, second)]
    # Below .uk or .jp, names such as co.uk are public suffixes: one more label is needed.
    length = 3 if len(names[0][-1]) == 2 and len(names[0][-2:][0]) <= SHORT_LABEL else 2
    return names[0][-length:] == names[1][-length:] and min(map(len, names)) >= length
