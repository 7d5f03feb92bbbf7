"""Downloads into the store: resumable, bounded in size, verified by digest."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from bootmatrix.errors import HostError, Interrupted, NetworkError, Offline, UntrustedError
from bootmatrix.progress import Observer
from bootmatrix.redact import RedactedUrl, redacted
from bootmatrix.source.pace import Pace, TooSlow, pace_limits
from bootmatrix.source.replies import TransientError, check_status, continues_at
from bootmatrix.source.settings import Settings
from bootmatrix.store import Store, host_faults, sha256_of

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

PAUSES_S = (0.5, 2.0, 5.0)
"""Pauses before retries of transient faults."""
PROGRESS_S = 0.1
_HINT = "Check the network and the archive's address, then run again: downloads resume."
_OFFLINE_HINT = "Fill the cache with `bootmatrix fetch` while online, or omit --offline."


@dataclass(frozen=True)
class DownloadRequest:
    """A file of known size, and of known digest unless `sha256` is empty.

    `label` names it in progress and notes; URLs in it are redacted.
    """

    url: str
    sha256: str
    size_bytes: int
    label: str

    def __post_init__(self) -> None:
        """Redact the label, whoever has written it."""
        object.__setattr__(self, "label", redacted(self.label))

    @property
    def redacted_url(self) -> RedactedUrl:
        """Return the URL for messages."""
        return RedactedUrl(self.url)


@dataclass(frozen=True)
class Reply:
    """A small file, its media type, and headers for a conditional request."""

    body: bytes
    etag: str = ""
    last_modified: str = ""
    media_type: str = ""


def plain_client(settings: Settings, url: str) -> httpx.Client:
    """Return a client for the server of a URL that the user configured."""
    from bootmatrix.source.connection import client_for  # slow import, and most builds need no network

    return client_for(url, settings)


@dataclass(frozen=True)
class Manner:
    """Settings of requests to a kind of servers other than the archive.

    `client` returns the client of a URL. `hint` is the hint of failed downloads. `pauses_s` replaces PAUSES_S.
    """

    client: Callable[[str], httpx.Client]
    hint: str
    pauses_s: tuple[float, ...] | None = None


class Downloader:
    """Fetch files for any number of threads; each file once."""

    def __init__(self, store: Store, progress: Observer, settings: Settings, manner: Manner | None = None) -> None:
        self._store, self._progress, self._settings = store, progress, settings
        self._manner = manner or Manner(partial(plain_client, settings), _HINT)
        self._clients: dict[str, httpx.Client] = {}
        self._guard = threading.Lock()
        self._closed = threading.Event()
        self._limits = pace_limits()

    def close(self) -> None:
        """Stop running downloads. Their threads raise Interrupted."""
        self._closed.set()

    def file(self, request: DownloadRequest) -> Path:
        """Return a file from the store, or download it.

        Raises NotFound if the server lacks the file; NetworkError if the server did not answer, or broke off, in all
        tries; UntrustedError if size or digest differs (nothing is kept); Offline if the file is not in the store, and
        downloads are forbidden; HostError if the disk is full.
        """
        with self._store.once("download", request.sha256):
            if self._store.has(request.sha256):
                try:
                    return self._store.verified(request.sha256)
                except UntrustedError as error:
                    self._progress.note(f"{request.label}: {error.message}; fetching it again")
            self._require_network(request.label)
            return self._fetch(request)

    def unpinned(self, url: str, size_bytes: int, label: str) -> str:
        """Download a file of unknown digest; return it for the caller to verify.

        Raises NotFound, NetworkError, Offline, HostError as for `file`; UntrustedError if its size differs.
        """
        name = hashlib.sha256(url.encode()).hexdigest()
        with self._store.once("download", name):
            self._require_network(label)
            partial = self._store.partial(name)
            partial.unlink(missing_ok=True)  # another file may have taken its place
            request = DownloadRequest(url, "", size_bytes, label)
            self._retried(url, lambda: self._continue(request, partial))
            digest = sha256_of(partial)
            self._store.keep(partial, digest)
            return digest

    def length(self, url: str) -> int:
        """Return the length of a file in bytes, as its server reports it.

        Raises NetworkError if the file is missing, or the server does not answer or report a length; Offline if
        downloads are forbidden.
        """
        self._require_network(RedactedUrl(url))
        return self._retried(url, lambda: self._length_once(url))

    def _length_once(self, url: str) -> int:
        with self._reply(url, {}) as reply:
            length = reply.headers.get("Content-Length", "")
        if not length.isdigit():
            raise NetworkError(f"{RedactedUrl(url)}: the server does not report its length")
        return int(length)

    def small(self, url: str, limit_bytes: int, previous: Reply | None = None) -> Reply | None:
        """Download a small file of unknown digest; None if `previous` is current.

        Raises NotFound if the server lacks the file; NetworkError if the server did not answer, or the file is larger
        than the limit; Offline if downloads are forbidden.
        """
        self._require_network(RedactedUrl(url))
        headers = {"Cache-Control": "max-age=0"}
        if previous:
            known = {"If-None-Match": previous.etag, "If-Modified-Since": previous.last_modified}
            headers |= {name: value for name, value in known.items() if value and value.isascii()}
        return self._retried(url, lambda: self._small_once(url, limit_bytes, headers))

    def pause(self, seconds: float) -> None:
        """Wait. Raises Interrupted if the downloader was closed."""
        if self._closed.wait(seconds):
            raise Interrupted("download interrupted")

    def _require_network(self, label: str) -> None:
        if self._settings.offline:
            raise Offline(f"not in the cache, and downloads are forbidden: {label}", _OFFLINE_HINT)

    def _fetch(self, request: DownloadRequest) -> Path:
        partial = self._store.partial(request.sha256)
        try:
            self._retried(request.url, lambda: self._continue(request, partial))
        except HostError:
            partial.unlink(missing_ok=True)
            raise
        return self._store.keep(partial, request.sha256)

    def _retried(self, url: str, attempt: Callable[[], T]) -> T:
        pauses_s = PAUSES_S if self._manner.pauses_s is None else self._manner.pauses_s
        for pause_s in pauses_s:
            try:
                return attempt()
            except TransientError as error:
                self._progress.note(f"{RedactedUrl(url)}: {error}; trying again in {pause_s:g} s")
                self.pause(pause_s)
        try:
            return attempt()
        except TransientError as error:
            message = f"cannot download {RedactedUrl(url)}: {error} (tried {len(pauses_s) + 1} times)"
            raise NetworkError(message, self._manner.hint) from error

    def _small_once(self, url: str, limit_bytes: int, headers: dict[str, str]) -> Reply | None:
        body = bytearray()
        with self._reply(url, headers) as reply:
            if reply.status_code == HTTPStatus.NOT_MODIFIED:
                return None
            for chunk in self._paced(reply):
                body += chunk
                if len(body) > limit_bytes:
                    raise NetworkError(f"{RedactedUrl(url)} is larger than the limit of {limit_bytes} bytes")
        values = (reply.headers.get(name, "") for name in ("ETag", "Last-Modified", "Content-Type"))
        return Reply(bytes(body), *values)

    def _paced(self, reply: httpx.Response) -> Iterator[bytes]:
        """Yield the body within limits of time and rate, else it is retried."""
        pace = Pace(self._limits)
        try:
            for chunk in reply.iter_raw():
                pace.add(len(chunk))
                yield chunk
        except TooSlow as error:
            raise TransientError(f"the server is too slow: {error}") from error

    def _continue(self, request: DownloadRequest, partial: Path) -> None:
        """Complete a partial file, and verify it."""
        offset_bytes = partial.stat().st_size if partial.exists() else 0
        if offset_bytes > request.size_bytes:
            offset_bytes = 0
        if offset_bytes < request.size_bytes:
            headers = {"Range": f"bytes={offset_bytes}-"} if offset_bytes else {}
            with self._reply(request.url, headers) as reply:
                if not continues_at(reply, offset_bytes):
                    offset_bytes = 0
                _check_length(reply, request, offset_bytes)
                self._receive(reply, request, partial, offset_bytes)
        self._check(request, partial, resumed=offset_bytes > 0)

    def _receive(self, reply: httpx.Response, request: DownloadRequest, partial: Path, done_bytes: int) -> None:
        """Append the body to the partial file, up to the expected size."""
        reported_at = 0.0
        with host_faults(self._store.folder), _open_private(partial, append=bool(done_bytes)) as file:
            for chunk in self._paced(reply):  # without buffering, so that a lost connection loses no data
                done_bytes += len(chunk)
                if done_bytes > request.size_bytes:
                    partial.unlink()
                    raise UntrustedError(f"{request.redacted_url} exceeds the expected {request.size_bytes} bytes")
                file.write(chunk)
                if time.monotonic() - reported_at >= PROGRESS_S and done_bytes < request.size_bytes:
                    reported_at = time.monotonic()
                    self._progress.download(request.label, done_bytes, request.size_bytes)
                self.pause(0)
        if done_bytes < request.size_bytes:
            raise TransientError(f"the connection ended after {done_bytes} of {request.size_bytes} bytes")
        self._progress.download(request.label, done_bytes, request.size_bytes)

    def _check(self, request: DownloadRequest, partial: Path, resumed: bool) -> None:
        digest = sha256_of(partial)
        if request.sha256 in {digest, ""}:
            return
        partial.unlink()
        if resumed:  # the earlier part may be at fault
            raise TransientError("the resumed download is corrupt")
        raise UntrustedError(f"{request.redacted_url} is corrupt: expected SHA-256 {request.sha256}, got {digest}")

    @contextmanager
    def _reply(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Open a reply to read its body; network faults while reading are classified too."""
        from bootmatrix.source.connection import request_faults

        self.pause(0)
        with (
            request_faults(url, self._manner.hint),
            self._http(url).stream("GET", url, headers={"Accept-Encoding": "identity", **headers}) as reply,
        ):
            check_status(reply)
            yield reply

    def _http(self, url: str) -> httpx.Client:
        """Return the client of a URL's server, which other servers do not share."""
        server = "/".join(url.split("/", 3)[:3])
        with self._guard:
            if server not in self._clients:
                self._clients[server] = self._manner.client(url)
            return self._clients[server]


def _open_private(path: Path, *, append: bool) -> BinaryIO:
    """Open a file readable by its owner only, even if an older version made it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_APPEND if append else os.O_TRUNC)
    file = os.fdopen(os.open(path, flags, 0o600), "ab" if append else "wb")
    os.fchmod(file.fileno(), 0o600)
    return file


def _check_length(reply: httpx.Response, request: DownloadRequest, offset_bytes: int) -> None:
    length = reply.headers.get("Content-Length", "")
    if length.isdigit() and offset_bytes + int(length) != request.size_bytes:
        raise UntrustedError(
            f"{request.redacted_url} has {offset_bytes + int(length)} bytes, expected {request.size_bytes}"
        )
