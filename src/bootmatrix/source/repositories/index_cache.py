"""Small signed indexes of repositories, kept for a day as the archive's are."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bootmatrix.errors import NetworkError, Offline, UntrustedError
from bootmatrix.progress import Observer
from bootmatrix.source.download import Downloader
from bootmatrix.source.settings import Settings
from bootmatrix.store import Store

KIND = "repository"
LIMIT_BYTES = 64 << 20
PAUSES_S = (1.0, 3.0)
"""Pauses before retries of an index that does not match its signature: time for the other file to be replaced."""

T = TypeVar("T")
Check = Callable[[Sequence[bytes]], T]
"""Verifies the files of an index, and returns what is used of them: read again, they may be others."""


@dataclass
class IndexCache:
    """Indexes by the URLs of their files, which are fetched together. Thread-safe.

    From `good_until_s` on, in seconds since 1970, answers may differ.
    """

    settings: Settings
    store: Store
    downloader: Downloader
    progress: Observer
    good_until_s: float = float("inf")

    def read(self, urls: Sequence[str], check: Check[T]) -> T:
        """Return what `check` makes of an index, at most a day old.

        Raises NetworkError if it cannot be fetched, and no cached one is valid; UntrustedError if its signature is not
        valid after several tries; Offline if it is not cached, and downloads are forbidden.
        """
        with self.store.once(KIND, json.dumps(urls)):
            at, cached = self._cached(urls)
            if cached is not None and (self.settings.offline or self._is_fresh(at)):
                self.good_until_s = min(self.good_until_s, at + self.settings.max_age_s)
                return check(cached)
            try:
                return self._current(urls, check)
            except NetworkError as error:
                if cached is None or not at:
                    raise
                value = check(cached)
                day = time.strftime("%Y-%m-%d", time.gmtime(at))
                self.progress.note(f"{error.message}; using the index that was fetched on {day}")
                return value

    def outdated(self, urls: Sequence[str]) -> None:
        """Mark an index as outdated, so that the next use fetches it again."""
        with self.store.once(KIND, json.dumps(urls)):
            _, cached = self._cached(urls)
            if cached is not None:
                self._keep(urls, cached, at=0)

    def _current(self, urls: Sequence[str], check: Check[T]) -> T:
        for pause_s in (*PAUSES_S, None):
            files = [self._fetch(url) for url in urls]
            try:
                value = check(files)
            except UntrustedError as error:  # two files, of which a mirror may have replaced one
                if pause_s is None or len(urls) == 1:
                    raise
                self.progress.note(f"{error.message}; trying again in {pause_s:g} s")
                self.downloader.pause(pause_s)
                continue
            self._keep(urls, files, time.time())
            return value
        raise AssertionError("the last try returns or raises")

    def _fetch(self, url: str) -> bytes:
        try:
            reply = self.downloader.small(url, LIMIT_BYTES)
        except Offline as error:
            raise Offline(f"the index {url} is not in the cache, and downloads are forbidden", error.hint) from error
        assert reply is not None, "no earlier reply was named"
        return reply.body

    def _is_fresh(self, at: float) -> bool:
        return not self.settings.refresh and 0 <= time.time() - at < self.settings.max_age_s

    def _keep(self, urls: Sequence[str], files: Sequence[bytes], at: float) -> None:
        record = {"at": at, "files": [self.store.add_bytes(file) for file in files]}
        self.store.set_memo(KIND, json.dumps(urls), json.dumps(record).encode())

    def _cached(self, urls: Sequence[str]) -> tuple[float, list[bytes] | None]:
        memo = self.store.memo(KIND, json.dumps(urls))
        if memo is None:
            return 0, None
        record = json.loads(memo)
        if not all(self.store.is_sound(digest) for digest in record["files"]):
            return 0, None
        return record["at"], [self.store.verified(digest).read_bytes() for digest in record["files"]]
