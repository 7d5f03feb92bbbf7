"""A forge's REST API: retries, limits, pages; no message has the token."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from bootmatrix.errors import InputError, NetworkError
from bootmatrix.report.sanitize import one_line

TRIES = 4
TIMEOUT_S = 20.0
LIMIT_S = 300.0
"""Longest time of an announcement, with its pages and retries."""
MAX_WAIT_S = 60.0
"""Longest wait for a rate limit: a run does not wait for an hour to tell its result. GitHub asks for a minute."""
MAX_PAGES = 50
MAX_BYTES = 64 << 20
"""Bytes of an answer; 100 comments of GitLab may have more, those of GitHub have 7 MB at most."""
MAX_REDIRECTS = 3
REDIRECTS = frozenset({301, 302, 307, 308})
"""A project that was renamed; the method stays, as GitHub wants it."""
LIMITED = frozenset({403, 429})
COMMIT = re.compile(r"[0-9A-Fa-f]{7,64}")
TOKEN = re.compile(r"[\x21-\x7e]{1,10000}")


@dataclass(frozen=True)
class ForgePlace:
    """A commit and its pull or merge request (0 if none); `link` leads to the report.

    `is_main`: it is on the project's default branch, as far as the job knows. `root` is the project's folder here.
    """

    api: str
    token: str
    project: str
    commit: str
    request: int = 0
    link: str = ""
    is_main: bool = True
    root: str = "."


class ForgeApi:
    """Requests to one API. `wait` is called with seconds before a retry.

    Raises InputError if the address is invalid.
    """

    def __init__(
        self, address: str, token: str, headers: Mapping[str, str], wait: Callable[[float], None] = time.sleep
    ) -> None:
        fault = "the address of the API or of a proxy is invalid"
        try:
            url = httpx.URL(address)
            self._client = httpx.Client(base_url=url, headers=dict(headers), timeout=TIMEOUT_S, follow_redirects=False)
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise InputError(fault) from error
        except OSError as error:
            raise InputError(f"SSL_CERT_FILE or SSL_CERT_DIR: {error.strerror or error}") from error
        if url.scheme not in {"http", "https"} or not url.host:
            raise InputError(fault, "It begins with https://.")
        self._token, self._wait = token, wait

    def __enter__(self) -> ForgeApi:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; no further request is possible."""
        self._client.close()

    def get(self, path: str) -> Any:
        """Return the JSON at a path.

        Raises RefusedError if the API refuses it, NetworkError without an answer, or for an invalid one.
        """
        return self._json(self._answer("GET", path), path)

    def write(self, method: str, path: str, value: object, is_done: Callable[[], bool] | None = None) -> None:
        """Send a value; the body of the answer is not needed, and may be damaged.

        `is_done` is asked before a retry, if the answer was lost: a comment must not be written twice.

        Raises RefusedError if the API refuses it, NetworkError without an answer.
        """
        self._answer(method, path, value, is_done)

    def pages(self, path: str, number: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of a list, page by page; each has a number under this key.

        Raises RefusedError if the API refuses it, NetworkError without an answer, or for an invalid one.
        """
        first = _plain(path)
        for _ in range(MAX_PAGES):
            answer = self._answer("GET", path)
            entries = self._json(answer, path)
            if not isinstance(entries, list) or not all(_is_numbered(entry, number) for entry in entries):
                raise NetworkError(f"GET {first}: the answer is not a list of entries with {number!r}")
            yield from entries
            following = answer.next_page
            if not following:
                return
            path = self._own(following, "the next page")
        raise NetworkError(f"GET {first}: more than {MAX_PAGES} pages")

    def _own(self, url: str, noun: str) -> str:
        """Return a link of the API itself: the token is sent nowhere else."""
        base = self._client.base_url
        try:
            target = base.join(url)
        except httpx.InvalidURL as error:
            raise NetworkError(f"{base.host}: the address of {noun} is invalid") from error
        if (target.scheme, target.host, target.port) != (base.scheme, base.host, base.port):
            server = f"{target.scheme}://{target.netloc.decode('ascii')}"
            raise NetworkError(self._shown(f"{base.host}: {noun} is on another host, {server}"))
        return str(target)

    def _answer(
        self, method: str, path: str, value: object = None, is_done: Callable[[], bool] | None = None
    ) -> ForgeAnswer:
        fault, name = "", f"{method} {_plain(path)}"
        for number in range(TRIES):
            is_lost = False
            try:
                answer = self._request(method, path, value)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                fault, pause_s = type(error).__name__, float(number)
                is_lost = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            else:
                if 200 <= answer.status < 300:
                    return answer
                fault, pause_s = f"status {answer.status}", _pause_s(answer, number)
                is_lost = answer.status >= 500
                if pause_s < 0:
                    raise RefusedError(answer.status, self._shown(f"{name}: {fault}: {_reason(answer)}"))
            if number + 1 < TRIES:
                self._wait(pause_s)
                if is_lost and is_done and is_done():
                    return ForgeAnswer(200, httpx.Headers(), b"")
        raise NetworkError(self._shown(f"{name}: {fault}, after {TRIES} attempts"))

    def _request(self, method: str, path: str, value: object) -> ForgeAnswer:
        """Send a request, also where the API itself redirects it to."""
        content = None if value is None else json.dumps(value).encode()
        headers = {} if value is None else {"Content-Type": "application/json"}
        for _ in range(MAX_REDIRECTS + 1):
            with self._client.stream(method, path, content=content, headers=headers) as response:
                answer = ForgeAnswer(response.status_code, response.headers, self._read(response))
            target = answer.headers.get("location", "")
            if answer.status not in REDIRECTS or not target:
                return answer
            path = self._own(target, "its redirection")
        raise NetworkError(self._shown(f"{method} {_plain(path)}: more than {MAX_REDIRECTS} redirections"))

    def _read(self, response: httpx.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                raise NetworkError(f"{self._client.base_url.host} answered with more than {MAX_BYTES >> 20} MiB")
        return bytes(body)

    def _json(self, answer: ForgeAnswer, path: str) -> Any:
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise NetworkError(self._shown(f"GET {_plain(path)}: the answer is not JSON")) from error

    def _shown(self, text: str) -> str:
        """Return a message without the token, which a server may have quoted."""
        return text.replace(self._token, "…")


@dataclass(frozen=True)
class ForgeAnswer:
    """An answer of a forge, whatever its status."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def next_page(self) -> str:
        """The address of the list's next page, as in RFC 8288; empty after the last."""
        links = httpx.Response(200, headers=self.headers).links
        return links.get("next", {}).get("url", "")


class RefusedError(NetworkError):
    """A request that an API refuses, with its status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def in_time(api: ForgeApi, action: Callable[[ForgeApi], str]) -> str:
    """Return what an action returns, if it takes no more than LIMIT_S.

    Raises NetworkError if it takes longer, such as with a server that sends a byte from time to time; what the action
    raises.
    """
    results: list[str | BaseException] = []

    def act() -> None:
        try:
            results.append(action(api))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if not results:
        api.close()  # it sends nothing more
        raise NetworkError(f"no result within {LIMIT_S:g} s")
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def check_token(name: str, token: str) -> str:
    """Return a token. Raises InputError if no header can have it."""
    if not TOKEN.fullmatch(token):
        raise InputError(f"{name} is invalid", "It has a blank, a line end, or a letter that no token has.")
    return token


def check_commit(name: str, commit: str) -> str:
    """Return a commit's id. Raises InputError if it cannot be one."""
    if not COMMIT.fullmatch(commit):
        raise InputError(f"{name} {one_line(commit, 80)!r}: expected the id of a commit")
    return commit


def _pause_s(answer: ForgeAnswer, number: int) -> float:
    """Return the pause before a retry in s; negative if it changes nothing."""
    if answer.status >= 500:
        return float(number)
    headers = answer.headers
    is_limited = "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0" or answer.status == 429
    if answer.status not in LIMITED or not is_limited:
        return -1
    pause_s = _number(headers.get("retry-after"))
    if pause_s is None:
        reset = _number(headers.get("x-ratelimit-reset") or headers.get("ratelimit-reset"))
        pause_s = reset - time.time() if reset is not None else float(number)
    return max(pause_s, 0.0) if pause_s <= MAX_WAIT_S else -1


def _number(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() else None


def _is_numbered(entry: object, number: str) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get(number), int)


def _reason(answer: ForgeAnswer) -> str:
    """Return why an API refuses: GitHub's `message`, `errors`; GitLab's `error`."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return httpx.codes.get_reason_phrase(answer.status) or "no reason given"
    reasons = (value.get(name) for name in ("message", "error_description", "error", "errors"))
    return one_line(", ".join(_words(reason) for reason in reasons if reason), 200) or "no reason given"


def _words(reason: object) -> str:
    return reason if isinstance(reason, str) else json.dumps(reason, ensure_ascii=False)[:1000]


def _plain(path: str) -> str:
    return path.partition("?")[0]
