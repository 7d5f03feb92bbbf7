"""Replies of servers: their status and headers."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from bootmatrix.errors import NetworkError
from bootmatrix.redact import RedactedUrl

if TYPE_CHECKING:
    import httpx


class NotFound(NetworkError):
    """The server lacks the file."""


class Refused(NetworkError):
    """The server denies access to the file."""


class TransientError(Exception):
    """A fault that a retry may clear."""


def check_status(reply: httpx.Response) -> None:
    status = reply.status_code
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        raise NotFound(f"{_redacted_url(reply)} does not exist on the server ({status})")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise Refused(f"{_redacted_url(reply)}: the server answered {_describe_status(status)}")
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or status >= 500:
        raise TransientError(f"the server answered {_describe_status(status)}")
    acceptable = {HTTPStatus.OK}
    if "Range" in reply.request.headers:
        acceptable |= {HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
    if any(name in reply.request.headers for name in ("If-None-Match", "If-Modified-Since")):
        acceptable.add(HTTPStatus.NOT_MODIFIED)
    if status not in acceptable:
        raise NetworkError(f"{_redacted_url(reply)}: the server answered {_describe_status(status)}")


def _redacted_url(reply: httpx.Response) -> RedactedUrl:
    return RedactedUrl(str(reply.url))


def _describe_status(status: int) -> str:
    """Return a status with its standard phrase; the server's own phrase is untrusted."""
    phrases = {code.value: code.phrase for code in HTTPStatus}
    return f"{status} {phrases.get(status, '')}".rstrip()


def continues_at(reply: httpx.Response, offset_bytes: int) -> bool:
    """Return whether the body continues a partial file; if not, it is the whole file.

    Raises TransientError if it is neither.
    """
    if reply.status_code == HTTPStatus.OK:
        return False
    if reply.headers.get("Content-Range", "").startswith(f"bytes {offset_bytes}-"):
        return True
    raise TransientError(f"the server answered {reply.status_code} to a request for the rest of the file")
