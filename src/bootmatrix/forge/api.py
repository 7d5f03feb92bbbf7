"""A forge's REST API: retries, limits, pages; no message has the token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from bootmatrix.errors import InputError, NetworkError

TRIES = 4
TIMEOUT_S = 20.0
MAX_WAIT_S = 30.0
"""Longest wait for a rate limit: a run does not wait for an hour to tell its result."""
MAX_PAGES = 50
LIMITED = frozenset({403, 429})


@dataclass(frozen=True)
class ForgePlace:
    """A commit and its pull or merge request (0 if none); `link` leads to the report.

    `is_main`: it is on the project's default branch, as far as the job knows.
    """

    api: str
    token: str
    project: str
    commit: str
    request: int = 0
    link: str = ""
    is_main: bool = True


class ForgeApi:
    """Requests to one API. `wait` is called with seconds before a retry.

    Raises InputError if the address or a header is invalid.
    """

    def __init__(self, address: str, headers: Mapping[str, str], wait: Callable[[float], None] = time.sleep) -> None:
        try:
            self._client = httpx.Client(
                base_url=address, headers=dict(headers), timeout=TIMEOUT_S, follow_redirects=False
            )
        except (UnicodeError, httpx.InvalidURL) as error:
            raise InputError("the address of the API or the token is invalid") from error
        self._wait = wait

    def __enter__(self) -> ForgeApi:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def send(self, method: str, path: str, value: object = None) -> Any:
        """Send a request, and return the JSON of the answer.

        Raises RefusedError if the API refuses it, NetworkError without an answer, or for an invalid one.
        """
        return _json(self._answer(method, path, value), method, path)

    def pages(self, path: str, number: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of a list, page by page; each has a number under this key.

        Raises RefusedError if the API refuses it, NetworkError without an answer, or for an invalid one.
        """
        for _ in range(MAX_PAGES):
            answer = self._answer("GET", path, None)
            entries = _json(answer, "GET", path)
            if not isinstance(entries, list) or not all(_is_numbered(entry, number) for entry in entries):
                raise NetworkError(f"GET {_plain(path)}: the answer is not a list of entries with {number!r}")
            yield from entries
            following = answer.links.get("next", {}).get("url", "")
            if not following:
                return
            path = self._own(following)

    def _own(self, url: str) -> str:
        """Return a link of the API itself: the token is sent nowhere else."""
        base = self._client.base_url
        target = base.join(url)
        if (target.scheme, target.host, target.port) != (base.scheme, base.host, base.port):
            raise NetworkError(f"{base.host}: the next page is on another host, {target.host}")
        return str(target)

    def _answer(self, method: str, path: str, value: object) -> httpx.Response:
        fault = ""
        for number in range(TRIES):
            try:
                answer = self._client.request(method, path, json=value)
            except httpx.HTTPError as error:
                fault, pause_s = type(error).__name__, float(number)
            else:
                if answer.is_success:
                    return answer
                fault, pause_s = f"status {answer.status_code}", _pause_s(answer, number)
                if pause_s < 0:
                    raise RefusedError(answer.status_code, f"{method} {_plain(path)}: {fault}: {_reason(answer)}")
            if number + 1 < TRIES:
                self._wait(pause_s)
        raise NetworkError(f"{method} {_plain(path)}: {fault}, after {TRIES} attempts")


class RefusedError(NetworkError):
    """A request that an API refuses, with its status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _pause_s(answer: httpx.Response, number: int) -> float:
    """Return the pause before a retry in s; negative if it changes nothing."""
    if answer.status_code >= 500:
        return float(number)
    headers = answer.headers
    is_limited = "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0" or answer.status_code == 429
    if answer.status_code not in LIMITED or not is_limited:
        return -1
    pause_s = _number(headers.get("retry-after"))
    if pause_s is None:
        reset = _number(headers.get("x-ratelimit-reset"))
        pause_s = reset - time.time() if reset is not None else float(number)
    return max(pause_s, 0.0) if pause_s <= MAX_WAIT_S else -1


def _number(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() else None


def _json(answer: httpx.Response, method: str, path: str) -> Any:
    try:
        return answer.json() if answer.content else None
    except ValueError as error:
        raise NetworkError(f"{method} {_plain(path)}: the answer is not JSON") from error


def _is_numbered(entry: object, number: str) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get(number), int)


def _reason(answer: httpx.Response) -> str:
    try:
        value = answer.json()
    except ValueError:
        return answer.reason_phrase
    message = value.get("message", "") if isinstance(value, dict) else ""
    return str(message)[:200]


def _plain(path: str) -> str:
    return path.partition("?")[0]
