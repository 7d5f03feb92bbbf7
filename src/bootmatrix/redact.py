"""Redact URLs: remove user names, passwords, query strings and fragments.

Every URL that is printed, raised or written passes through here: by way of `BootmatrixError` in messages, else as
`RedactedUrl`. Query strings may be signatures.
"""

from __future__ import annotations

import re

_AFTER_SCHEME = re.compile(r"(?<=://)(?:(?!://)\S)+")
_HEAD = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:(?=[/\\]))?[:/\\]*")
_HOST_AND_PORT = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
_DIGEST = re.compile(r"(.*?)(@[a-z0-9]{3,10}:[0-9A-Za-z]*)", re.DOTALL)
_PUNCTUATION = "'\"`),;:.]"
"""Punctuation after a URL in a sentence, which is not cut off with its query."""


class RedactedUrl(str):
    """A URL of scheme, host, port and path, which may be shown and kept."""

    __slots__ = ()

    def __new__(cls, url: str) -> RedactedUrl:
        """Redact a URL, even without a scheme or with missing or reversed slashes."""
        rest = _HEAD.sub("", url, count=1)
        return super().__new__(cls, url[: len(url) - len(rest)] + _cut(rest))

    @property
    def name(self) -> str:
        """Return the last part of the path, else the whole path."""
        return self.rpartition("/")[2] or str(self)


def redacted_reference(text: str) -> str:
    """Remove credentials before the host from an image's reference; keep its digest."""
    if text.startswith("@"):  # a folder
        return text
    match = _DIGEST.fullmatch(text)
    name, digest = match.groups() if match else (text, "")
    return f"{RedactedUrl(name)}{digest}"


def redacted(text: str) -> str:
    """Redact each URL in a text."""
    return _AFTER_SCHEME.sub(_cut_match, text) if "://" in text else text


def _cut_match(match: re.Match[str]) -> str:
    body = match[0].rstrip(_PUNCTUATION)
    return _cut(body) + match[0][len(body) :]


def _cut(rest: str) -> str:
    """Cut a URL behind its scheme.

    A password may hold an unescaped slash: then its beginning looks like a port.
    """
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in authority:
        rest = rest[authority.rindex("@") + 1 :]
    elif "@" in rest and not _HOST_AND_PORT.fullmatch(authority):
        rest = rest[rest.rindex("@") + 1 :]
    return re.split(r"[?#]", rest, maxsplit=1)[0]
