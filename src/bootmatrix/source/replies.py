"""Replies of servers: their status, and faults of connections in words."""

from __future__ import annotations

import re
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING

from bootmatrix.errors import NetworkError
from bootmatrix.redact import RedactedUrl, redacted

if TYPE_CHECKING:
    import httpx


_OWN_WORDS = ("Server disconnected", "peer closed connection")
"""Protocol errors of h11 and httpcore whose text does not quote the reply."""


class NotFound(NetworkError):
    """The server lacks the file."""


class Refused(NetworkError):
    """The server denies access to the file."""


class TransientError(Exception):
    """A fault that a retry may clear."""


def in_words(error: Exception) -> str:
    """Describe a connection fault without quoting the reply, which may be private."""
    import httpx

    text = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
    if isinstance(error, httpx.RemoteProtocolError) and not text.startswith(_OWN_WORDS):
        return "the server does not speak HTTP"
    return redacted(text)


def is_unknown_host(error: BaseException | None) -> bool:
    """Return whether a connection failed because DNS has no such name.

    That is an answer, and not retried, unlike a DNS server that does not answer.
    """
    while error and not isinstance(error, socket.gaierror):
        error = error.__cause__ or error.__context__
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME


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

    Raises:
        TransientError: it is neither.
    """
    if reply.status_code == HTTPStatus.OK:
        return False
    if reply.headers.get("Content-Range", "").startswith(f"bytes {offset_bytes}-"):
        return True
    raise TransientError(f"the server answered {reply.status_code} to a request for the rest of the file")
