"""Files over HTTP into the store: resumed where they stopped, bounded by the size expected, checked by digest."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from bootmatrix import __version__
from bootmatrix.errors import HostError, Interrupted, NetworkError, Offline, UntrustedError
from bootmatrix.progress import Observer
from bootmatrix.redact import RedactedUrl, redacted
from bootmatrix.source.settings import Settings
from bootmatrix.store import Store, host_faults, sha256_of

if TYPE_CHECKING:
    import httpx

    from bootmatrix.source.connection import GuardedTransport

T = TypeVar("T")

PAUSES_S = (0.5, 2.0, 5.0)
"""Before each further try of something that a moment may heal."""
PROGRESS_S = 0.1
_TIMEOUT_S, _CONNECT_TIMEOUT_S = 30, 10
_OWN_WORDS = ("Server disconnected", "peer closed connection")
"""Faults of the protocol whose text quotes nothing of an answer (h11, httpcore)."""
_HINT = "Check the network and the archive's address, then run again: downloads go on where they stopped."
_OFFLINE_HINT = "Fill the cache with `bootmatrix fetch` while there is a network, or leave out --offline."


class NotFound(NetworkError):
    """The server has no such file."""


class Refused(NetworkError):
    """The server does not give the file to us, or not without a password."""


class _Passing(Exception):
    """A fault that may be gone at the next try."""


@dataclass(frozen=True)
class DownloadRequest:
    """A file whose digest and size are known. `label` is what people call it."""

    url: str
    sha256: str
    size_bytes: int
    label: str

    @property
    def shown(self) -> RedactedUrl:
        """The URL for messages."""
        return RedactedUrl(self.url)


@dataclass(frozen=True)
class Reply:
    """A small file and the headers that let the server say later that it has not changed."""

    body: bytes
    etag: str = ""
    last_modified: str = ""


def new_client(transport: GuardedTransport, **options: Any) -> httpx.Client:
    """Return an HTTP client as downloads need it."""
    agent = {"User-Agent": f"bootmatrix/{__version__}", **options.pop("headers", {})}
    import httpx  # it takes long to load, and most builds find all in the cache

    timeout = httpx.Timeout(_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
    return httpx.Client(headers=agent, timeout=timeout, follow_redirects=True, transport=transport, **options)


def client_for(url: str, settings: Settings) -> httpx.Client:
    """Return a client for the server of a URL that the user gave, such as the archive's."""
    import httpx

    from bootmatrix.source.connection import Guard, GuardedTransport

    return new_client(GuardedTransport(Guard(httpx.URL(url)), settings.proxy))


@dataclass(frozen=True)
class Manner:
    """How a kind of servers is asked, where that is not as for the archive: by which client for a URL, what to do when
    one fails, and the pauses before further tries, if others than PAUSES_S."""

    client: Callable[[str], httpx.Client]
    hint: str
    pauses_s: tuple[float, ...] | None = None


class Downloader:
    """Fetches files for any number of threads; a file that several want is fetched once."""

    def __init__(self, store: Store, progress: Observer, settings: Settings, manner: Manner | None = None) -> None:
        self._store, self._progress, self._settings = store, progress, settings
        self._manner = manner or Manner(lambda url: client_for(url, settings), _HINT)
        self._clients: dict[str, httpx.Client] = {}
        self._guard = threading.Lock()
        self._closed = threading.Event()

    def close(self) -> None:
        """End downloads that are under way; their threads raise Interrupted."""
        self._closed.set()

    def file(self, wanted: DownloadRequest) -> Path:
        """The file, from the store or else from the network.

        Raises:
            NotFound: the server has it not.
            NetworkError: the server did not answer, or stopped short, after several tries.
            UntrustedError: what came has another size or digest; none of it is kept.
            Offline: it is not in the store, and downloads are forbidden.
            HostError: the disk is full.
        """
        with self._store.once("download", wanted.sha256):
            if self._store.has(wanted.sha256):
                try:
                    return self._store.verified(wanted.sha256)
                except UntrustedError as error:
                    self._progress.note(f"{wanted.label}: {error.message}; fetching it again")
            self._require_network(wanted.label)
            return self._fetch(wanted)

    def length(self, url: str) -> int:
        """The length of a file in bytes, as its server says.

        Raises:
            NetworkError: the server has it not, does not answer, or does not say.
            Offline: downloads are forbidden.
        """
        self._require_network(RedactedUrl(url))
        return self._retried(url, lambda: self._length_once(url))

    def _length_once(self, url: str) -> int:
        with self._reply(url, {}) as reply:
            length = reply.headers.get("Content-Length", "")
        if not length.isdigit():
            raise NetworkError(f"{RedactedUrl(url)}: the server does not say how long it is")
        return int(length)

    def small(self, url: str, limit_bytes: int, known: Reply | None = None) -> Reply | None:
        """A file of unknown digest, in memory; None if it is still the one that is known.

        Raises:
            NotFound: the server has it not.
            NetworkError: the server did not answer, or the file is larger than the limit.
            Offline: downloads are forbidden.
        """
        self._require_network(RedactedUrl(url))
        headers = {"Cache-Control": "max-age=0"}
        if known and known.etag:
            headers["If-None-Match"] = known.etag
        if known and known.last_modified:
            headers["If-Modified-Since"] = known.last_modified
        return self._retried(url, lambda: self._small_once(url, limit_bytes, headers))

    def pause(self, seconds: float) -> None:
        """Wait, unless everything is to end.

        Raises:
            Interrupted: it is.
        """
        if self._closed.wait(seconds):
            raise Interrupted("stopped while downloading")

    def _require_network(self, label: str) -> None:
        if self._settings.offline:
            raise Offline(f"not in the cache, and downloads are forbidden: {label}", _OFFLINE_HINT)

    def _fetch(self, wanted: DownloadRequest) -> Path:
        partial = self._store.partial(wanted.sha256)
        try:
            self._retried(wanted.url, lambda: self._continue(wanted, partial))
        except HostError:
            partial.unlink(missing_ok=True)
            raise
        return self._store.keep(partial, wanted.sha256)

    def _retried(self, url: str, attempt: Callable[[], T]) -> T:
        pauses_s = PAUSES_S if self._manner.pauses_s is None else self._manner.pauses_s
        for pause_s in pauses_s:
            try:
                return attempt()
            except _Passing as error:
                self._progress.note(f"{RedactedUrl(url)}: {error}; trying again in {pause_s:g} s")
                self.pause(pause_s)
        try:
            return attempt()
        except _Passing as error:
            message = f"cannot download {RedactedUrl(url)}: {error} (tried {len(pauses_s) + 1} times)"
            raise NetworkError(message, self._manner.hint) from error

    def _small_once(self, url: str, limit_bytes: int, headers: dict[str, str]) -> Reply | None:
        body = bytearray()
        with self._reply(url, headers) as reply:
            if reply.status_code == HTTPStatus.NOT_MODIFIED:
                return None
            for chunk in reply.iter_raw():
                body += chunk
                if len(body) > limit_bytes:
                    raise NetworkError(
                        f"{RedactedUrl(url)} is larger than {limit_bytes} bytes, which it cannot honestly be"
                    )
        return Reply(bytes(body), reply.headers.get("ETag", ""), reply.headers.get("Last-Modified", ""))

    def _continue(self, wanted: DownloadRequest, partial: Path) -> None:
        """Bring a partial file to its end, and check it."""
        have_bytes = partial.stat().st_size if partial.exists() else 0
        if have_bytes > wanted.size_bytes:
            have_bytes = 0
        if have_bytes < wanted.size_bytes:
            headers = {"Range": f"bytes={have_bytes}-"} if have_bytes else {}
            with self._reply(wanted.url, headers) as reply:
                if not _continues(reply, have_bytes):
                    have_bytes = 0
                _check_length(reply, wanted, have_bytes)
                self._receive(reply, wanted, partial, have_bytes)
        self._check(wanted, partial, resumed=have_bytes > 0)

    def _receive(self, reply: httpx.Response, wanted: DownloadRequest, partial: Path, done_bytes: int) -> None:
        """Append the body to the partial file, as much of it as may come."""
        told_at = 0.0
        with host_faults(self._store.folder), _own(partial, append=bool(done_bytes)) as file:
            for chunk in reply.iter_raw():  # as they come, so that none is lost when the connection is
                done_bytes += len(chunk)
                if done_bytes > wanted.size_bytes:
                    partial.unlink()
                    raise UntrustedError(f"{wanted.shown} is larger than the {wanted.size_bytes} bytes expected")
                file.write(chunk)
                if time.monotonic() - told_at >= PROGRESS_S and done_bytes < wanted.size_bytes:
                    told_at = time.monotonic()
                    self._progress.download(wanted.label, done_bytes, wanted.size_bytes)
                self.pause(0)
        if done_bytes < wanted.size_bytes:
            raise _Passing(f"the connection ended after {done_bytes} of {wanted.size_bytes} bytes")
        self._progress.download(wanted.label, done_bytes, wanted.size_bytes)

    def _check(self, wanted: DownloadRequest, partial: Path, resumed: bool) -> None:
        digest = sha256_of(partial)
        if digest == wanted.sha256:
            return
        partial.unlink()
        if resumed:  # the part that was there before may have been at fault
            raise _Passing("the parts of the download do not fit together")
        raise UntrustedError(f"{wanted.shown} is corrupt: its SHA-256 is {digest}, and {wanted.sha256} was expected")

    @contextmanager
    def _reply(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """A reply whose body is still to be read; network faults in reading it are told apart here too."""
        import httpx

        self.pause(0)
        try:
            with self._http(url).stream("GET", url, headers={"Accept-Encoding": "identity", **headers}) as reply:
                _check_status(reply)
                yield reply
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
            if _is_unknown_host(error):
                message = f"cannot download {RedactedUrl(url)}: there is no host {httpx.URL(url).host}"
                raise NetworkError(message, self._manner.hint) from error
            raise _Passing(in_words(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last: a host that DNS does not take
            raise NetworkError(f"{RedactedUrl(url)}: {redacted(str(error))}") from error

    def _http(self, url: str) -> httpx.Client:
        """Return the client of a URL's server: none is shared, as where one may lead another may not."""
        server = "/".join(url.split("/", 3)[:3])
        with self._guard:
            if server not in self._clients:
                self._clients[server] = self._manner.client(url)
            return self._clients[server]


def in_words(error: Exception) -> str:
    """Return a fault of a connection in words: nothing of what came over it, which may not be meant for us."""
    import httpx

    text = re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
    if isinstance(error, httpx.RemoteProtocolError) and not text.startswith(_OWN_WORDS):
        return "the server does not answer in HTTP"
    return redacted(text)


def _own(path: Path, *, append: bool) -> BinaryIO:
    """Open a file that only its owner may read, also if it was made by an older version."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_APPEND if append else os.O_TRUNC)
    file = os.fdopen(os.open(path, flags, 0o600), "ab" if append else "wb")
    os.fchmod(file.fileno(), 0o600)
    return file


def _is_unknown_host(error: BaseException | None) -> bool:
    """Whether a connection failed since DNS knows no such name, which is an answer; that it did not answer heals."""
    while error and not isinstance(error, socket.gaierror):
        error = error.__cause__ or error.__context__
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME


def _shown(reply: httpx.Response) -> RedactedUrl:
    return RedactedUrl(str(reply.url))


def _named(status: int) -> str:
    """Return a status with its usual name: what the server calls it is its own text."""
    known = {one.value: one.phrase for one in HTTPStatus}
    return f"{status} {known.get(status, '')}".rstrip()


def _check_status(reply: httpx.Response) -> None:
    status = reply.status_code
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        raise NotFound(f"{_shown(reply)} does not exist on the server ({status})")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise Refused(f"{_shown(reply)}: the server answered {_named(status)}")
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or status >= 500:
        raise _Passing(f"the server answered {_named(status)}")
    acceptable = {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.NOT_MODIFIED}
    if status not in {*acceptable, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}:
        raise NetworkError(f"{_shown(reply)}: the server answered {_named(status)}")


def _continues(reply: httpx.Response, have_bytes: int) -> bool:
    """Whether the body begins where a partial file ends; if not, it must be the whole file.

    Raises:
        _Passing: it is neither.
    """
    if reply.status_code == HTTPStatus.OK:
        return False
    if reply.headers.get("Content-Range", "").startswith(f"bytes {have_bytes}-"):
        return True
    raise _Passing(f"the server answered {reply.status_code} to a request for the rest of the file")


def _check_length(reply: httpx.Response, wanted: DownloadRequest, have_bytes: int) -> None:
    length = reply.headers.get("Content-Length", "")
    if length.isdigit() and have_bytes + int(length) != wanted.size_bytes:
        raise UntrustedError(
            f"{wanted.shown} has {have_bytes + int(length)} bytes, and {wanted.size_bytes} were expected"
        )
