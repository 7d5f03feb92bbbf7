"""Current releases of an archive's suites, and their lists of packages.

Verified InRelease files are kept for a day.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bootmatrix.errors import InfraError, NetworkError, Offline, StaleMirror, UntrustedError
from bootmatrix.progress import Observer
from bootmatrix.source.download import Downloader, DownloadRequest, Reply
from bootmatrix.source.release import LIMIT_BYTES, IndexFile, Release, parse_date, verified_release
from bootmatrix.source.release_order import ReleaseOrder
from bootmatrix.source.replies import NotFound
from bootmatrix.source.settings import Settings
from bootmatrix.store import Store

PAUSES_S = (1.0, 3.0)
"""Pauses before retries of a mismatched index: enough for one file to be replaced, not for a whole sync."""
FAULT_MEMORY_S = 20.0
"""Period in which a fault is reported again to other cells without another try."""

T = TypeVar("T")


@dataclass(frozen=True)
class _CachedRelease:
    """An InRelease file as fetched, at `at` seconds since 1970."""

    data: bytes
    at: float
    reply: Reply


class FaultMemory:
    """Recent faults of an archive or a repository, by what was asked of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._faults: dict[str, tuple[float, InfraError]] = {}

    def call(self, key: str, work: Callable[[], T]) -> T:
        """Call `work`, or raise its recent failure again without the wait."""
        with self._store.once("fault-memory", f"{key} {id(self)}"):
            at, fault = self._faults.get(key, (0.0, None))
            if fault and time.monotonic() - at < FAULT_MEMORY_S:
                raise fault
            try:
                return work()
            except InfraError as error:
                self._faults[key] = (time.monotonic(), error)
                raise


class Suites:
    """Releases and lists of packages of one archive. Thread-safe.

    Within a process a suite does not change unless it turns out to be outdated. From `good_until_s` on, in seconds
    since 1970, answers may differ.
    """

    def __init__(self, settings: Settings, store: Store, downloader: Downloader, progress: Observer) -> None:
        self._settings, self._store, self._downloader, self._progress = settings, store, downloader, progress
        self._releases: dict[str, Release] = {}
        self._faults = FaultMemory(store)
        self._order = ReleaseOrder(store, settings.allow_older, settings.signers)
        self.good_until_s = float("inf")

    def index_file(self, suite: str, debian_arch: str) -> IndexFile | None:
        """Return path and digest of a list of packages; None if the suite has none.

        Raises InfraError if the suite is unavailable or untrusted.
        """
        return self.release(suite).indexes.get(debian_arch)

    def packages_file(self, suite: str, debian_arch: str) -> tuple[Path, IndexFile] | None:
        """Fetch a compressed list of packages; None if the suite has none.

        Raises StaleMirror if after several tries it is not the one that InRelease lists, InfraError if it is
        unavailable or untrusted.
        """
        return self._faults.call(f"{suite} {debian_arch}", lambda: self._matching_file(suite, debian_arch))

    def in_release(self, suite: str) -> bytes:
        """Return a suite's verified InRelease file.

        Raises NotFound if the archive lacks the suite, InfraError if it is unavailable or untrusted.
        """
        self.release(suite)
        cached = self._cached(suite)
        if cached is None:
            raise NotFound(f"the index of {suite} was removed from the cache", "Try again.")
        return cached.data

    def release(self, suite: str) -> Release:
        """Return a suite's verified release.

        Raises NotFound if the archive lacks the suite, InfraError if it is unavailable or untrusted.
        """
        return self._faults.call(suite, lambda: self._release(suite))

    def outdated(self, suite: str) -> None:
        """Mark a release as outdated, so that the next use asks for a newer one."""
        with self._store.once("suite", self._key(suite)):
            self._releases.pop(suite, None)
            cached = self._cached(suite)
            if cached:
                self._keep(suite, cached.reply, at=0)

    def _matching_file(self, suite: str, debian_arch: str) -> tuple[Path, IndexFile] | None:
        for pause_s in (*PAUSES_S, None):
            file = self.index_file(suite, debian_arch)
            if file is None:
                return None
            try:
                return self._index(suite, file), file
            except StaleMirror as error:
                if pause_s is None:
                    raise
                self._progress.note(f"{error.message}; trying again in {pause_s:g} s")
                self._downloader.pause(pause_s)
                self.outdated(suite)
        raise AssertionError("the last try returns or raises")

    def _index(self, suite: str, file: IndexFile) -> Path:
        """Fetch a list of packages, by digest if the archive supports it, else by name."""
        folder = f"{self._settings.address}/dists/{suite}"
        parent = file.path.rpartition("/")[0]
        urls = [f"{folder}/{parent}/by-hash/SHA256/{file.sha256}"] if self.release(suite).by_hash else []
        reason = ""
        for url in (*urls, f"{folder}/{file.path}"):
            try:
                return self._downloader.file(
                    DownloadRequest(url, file.sha256, file.size_bytes, f"{suite} {parent.rpartition('/')[2]}")
                )
            except (NotFound, UntrustedError) as error:
                reason = error.message
        raise StaleMirror(
            f"the mirror is being updated: {suite}'s {file.path} does not match its signed index ({reason})",
            "Try again in an hour, or use another mirror with BOOTMATRIX_ARCHIVE.",
        )

    def _release(self, suite: str) -> Release:
        with self._store.once("suite", self._key(suite)):
            if suite not in self._releases:
                self._releases[suite] = self._current(suite)
            return self._releases[suite]

    def _current(self, suite: str) -> Release:
        cached = self._cached(suite)
        if cached and (self._settings.offline or self._is_fresh(cached)):
            try:
                release = self._trusted(suite, cached.data)
                # Another mirror may have served a newer one.
                if self._settings.offline or not self._order.is_behind(suite, release):
                    self._note_end(cached, release)
                    return release
            except InfraError:  # it may have expired, or the keys may have changed
                if self._settings.offline:
                    raise
        cached = self._renewed(suite, cached) if cached else self._ask(suite, None)
        release = self._trusted(suite, cached.data)
        self._order.accept(suite, release)
        return release

    def _note_end(self, cached: _CachedRelease, release: Release) -> None:
        """Record when answers may change: when a cached release gets old or expires."""
        ends = [] if self._settings.offline else [cached.at + self._settings.max_age_s]
        if release.valid_until and not release.is_over():  # else apt's settings accept it
            ends.append(parse_date(release.valid_until).timestamp())
        self.good_until_s = min([self.good_until_s, *ends])

    def _trusted(self, suite: str, data: bytes) -> Release:
        release = verified_release(data, self._settings.keyring, self._store)
        release.check_suite(suite)
        if release.is_early() and self._settings.checks_date and release.is_early(self._settings.max_future_s):
            raise release.too_early(suite)
        if release.is_over() and self._settings.checks_valid_until:  # apt's settings last, as they take a process
            raise release.too_old(suite)
        return release

    def _is_fresh(self, cached: _CachedRelease) -> bool:
        return not self._settings.refresh and 0 <= time.time() - cached.at < self._settings.max_age_s

    def _renewed(self, suite: str, cached: _CachedRelease) -> _CachedRelease:
        """Fetch a newer InRelease; the cached one if the archive does not answer."""
        try:
            return self._ask(suite, cached)
        except NetworkError as error:
            if cached.at == 0:  # known to be outdated
                raise
            day = time.strftime("%Y-%m-%d", time.gmtime(cached.at))
            self._progress.note(f"{error.message}; using the index of {suite} that was fetched on {day}")
            return cached

    def _ask(self, suite: str, cached: _CachedRelease | None) -> _CachedRelease:
        url = f"{self._settings.address}/dists/{suite}/InRelease"
        try:
            reply = self._downloader.small(url, LIMIT_BYTES, cached.reply if cached else None)
        except NotFound as error:
            raise NotFound(
                f"the archive at {self._settings.redacted_address} has no suite {suite}",
                "Check the suite's name, and the archive's address (BOOTMATRIX_ARCHIVE).",
            ) from error
        except Offline as error:
            raise Offline(
                f"the index of {suite} is not in the cache, and downloads are forbidden", error.hint
            ) from error
        if reply is None:
            reply = cached.reply if cached else Reply(b"")
        # Checked before it is kept: a log-in page would stay for a day.
        self._order.accept(suite, self._trusted(suite, reply.body))
        return self._keep(suite, reply, time.time())

    def _key(self, suite: str) -> str:
        return json.dumps([self._settings.address, suite])

    def _keep(self, suite: str, reply: Reply, at: float) -> _CachedRelease:
        digest = self._store.add_bytes(reply.body)
        record = {"sha256": digest, "at": at, "etag": reply.etag, "last_modified": reply.last_modified}
        self._store.set_memo("suite", self._key(suite), json.dumps(record).encode())
        return _CachedRelease(reply.body, at, reply)

    def _cached(self, suite: str) -> _CachedRelease | None:
        memo = self._store.memo("suite", self._key(suite))
        if memo is None:
            return None
        record = json.loads(memo)
        try:
            data = self._store.verified(record["sha256"]).read_bytes()
        except UntrustedError:
            return None
        return _CachedRelease(data, record["at"], Reply(data, record["etag"], record["last_modified"]))
