"""Cut secrets out of URLs: user names and passwords, query strings (which may be signatures), and fragments.

Every URL that is printed, raised or written passes through here: those in messages by way of `BootmatrixError`, those
that are kept as `RedactedUrl`.
"""

from __future__ import annotations

import re

_AFTER_SCHEME = re.compile(r"(?<=://)(?:(?!://)\S)+")
_HEAD = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:(?=[/\\]))?[:/\\]*")
_HOST_AND_PORT = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
_DIGEST = re.compile(r"(.*?)(@[a-z0-9]{3,10}:[0-9A-Za-z]*)", re.DOTALL)
_PUNCTUATION = "'\"`),;:.]"
"""What may stand behind a URL in a sentence, and is not cut off with its query."""


class RedactedUrl(str):
    """A URL that may be shown and kept: scheme, host, port and path of another one."""

    __slots__ = ()

    def __new__(cls, url: str) -> RedactedUrl:
        """Redact a URL; one without a scheme, or with slashes that are missing or turned round, too."""
        rest = _HEAD.sub("", url, count=1)
        return super().__new__(cls, url[: len(url) - len(rest)] + _cut(rest))

    @property
    def name(self) -> str:
        """Return the last part of the path, else the whole."""
        return self.rpartition("/")[2] or str(self)


def redacted_reference(text: str) -> str:
    """Return an image's reference without what stands before its host; of what is behind an `@`, a digest stays."""
    found = _DIGEST.fullmatch(text)
    name, digest = found.groups() if found else (text, "")
    return f"{RedactedUrl(name)}{digest}"


def redacted(text: str) -> str:
    """Return a text in which each URL is redacted."""
    return _AFTER_SCHEME.sub(_cut_match, text) if "://" in text else text


def _cut_match(found: re.Match[str]) -> str:
    body = found[0].rstrip(_PUNCTUATION)
    return _cut(body) + found[0][len(body) :]


def _cut(rest: str) -> str:
    """Cut a URL behind its scheme. A password may hold a slash, unescaped: then its beginning looks like a port."""
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in authority:
        rest = rest[authority.rindex("@") + 1 :]
    elif "@" in rest and not _HOST_AND_PORT.fullmatch(authority):
        rest = rest[rest.rindex("@") + 1 :]
    return re.split(r"[?#]", rest, maxsplit=1)[0]
