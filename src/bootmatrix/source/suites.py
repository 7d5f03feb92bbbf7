"""Suites of an archive as they are now: their verified InRelease files, kept for a day, and their lists of packages."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bootmatrix.errors import InfraError, NetworkError, Offline, StaleMirror, UntrustedError
from bootmatrix.progress import Observer
from bootmatrix.source.download import Downloader, DownloadRequest, NotFound, Reply
from bootmatrix.source.release import LIMIT_BYTES, IndexFile, Release, parse_date, verified_release
from bootmatrix.source.release_order import ReleaseOrder
from bootmatrix.source.settings import Settings
from bootmatrix.store import Store

PAUSES_S = (1.0, 3.0)
"""Before each further try of an index that does not match: long enough for one file to be replaced, not for a sync."""
FAULT_MEMORY_S = 20.0
"""So long a fault is told again to other cells that meet it, rather than being waited for again by each of them."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Kept:
    """An InRelease file as it was fetched; `at` in seconds since 1970."""

    data: bytes
    at: float
    reply: Reply


class Suites:
    """Gives the releases and lists of packages of one archive. Thread-safe; within a process a suite does not change,
    unless it is found to be outdated. From `good_until_s` on, in seconds since 1970, answers may be others."""

    def __init__(self, settings: Settings, store: Store, downloader: Downloader, progress: Observer) -> None:
        self._settings, self._store, self._downloader, self._progress = settings, store, downloader, progress
        self._releases: dict[str, Release] = {}
        self._faults: dict[str, tuple[float, InfraError]] = {}
        self._order = ReleaseOrder(store, settings.allow_older)
        self.good_until_s = float("inf")

    def index_file(self, suite: str, debian_arch: str) -> IndexFile | None:
        """What a suite's list of packages must be; None if it has none for this architecture.

        Raises:
            InfraError: the suite cannot be had, or not be trusted.
        """
        return self.release(suite).indexes.get(debian_arch)

    def packages_file(self, suite: str, debian_arch: str) -> tuple[Path, IndexFile] | None:
        """A suite's list of packages, compressed; None if it has none for this architecture.

        Raises:
            StaleMirror: it is not the one that InRelease speaks of, after several tries.
            InfraError: it cannot be had, or not be trusted.
        """
        return self._remembering(f"{suite} {debian_arch}", lambda: self._matching_file(suite, debian_arch))

    def release(self, suite: str) -> Release:
        """A suite's verified release.

        Raises:
            NotFound: the archive has no such suite.
            InfraError: it cannot be had, or not be trusted.
        """
        return self._remembering(suite, lambda: self._release(suite))

    def outdated(self, suite: str) -> None:
        """Ask the archive for a newer release at the next need: this one speaks of files that are gone."""
        with self._store.once("suite", self._key(suite)):
            self._releases.pop(suite, None)
            kept = self._kept(suite)
            if kept:
                self._keep(suite, kept.reply, at=0)

    def _remembering(self, what: str, work: Callable[[], T]) -> T:
        """Do something that may fail slowly; whoever asks shortly after a failure gets the same one at once."""
        with self._store.once("suite-work", f"{self._key(what)} {id(self)}"):
            at, fault = self._faults.get(what, (0.0, None))
            if fault and time.monotonic() - at < FAULT_MEMORY_S:
                raise fault
            try:
                return work()
            except InfraError as error:
                self._faults[what] = (time.monotonic(), error)
                raise

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
        """A list of packages, by its digest where the archive can, and else by its name."""
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
            f"the mirror is in the middle of an update: {suite}'s {file.path} is not the one that its signed index "
            f"speaks of ({reason})",
            "Try again in an hour, or use another mirror with BOOTMATRIX_ARCHIVE.",
        )

    def _release(self, suite: str) -> Release:
        with self._store.once("suite", self._key(suite)):
            if suite not in self._releases:
                self._releases[suite] = self._current(suite)
            return self._releases[suite]

    def _current(self, suite: str) -> Release:
        kept = self._kept(suite)
        if kept and (self._settings.offline or self._is_fresh(kept)):
            try:
                release = self._trusted(suite, kept.data)
                # Another mirror may have given a newer one meanwhile.
                if self._settings.offline or not self._order.is_behind(suite, release):
                    self._note_end(kept, release)
                    return release
            except InfraError:  # its time may be over, or the keys may be others now
                if self._settings.offline:
                    raise
        kept = self._renewed(suite, kept) if kept else self._ask(suite, None)
        release = self._trusted(suite, kept.data)
        self._order.accept(suite, release)
        return release

    def _note_end(self, kept: _Kept, release: Release) -> None:
        """Note when another answer may be due: when a kept file is too old, or no longer valid."""
        ends = [] if self._settings.offline else [kept.at + self._settings.max_age_s]
        if release.valid_until and not release.is_over():  # else apt's settings let it pass
            ends.append(parse_date(release.valid_until).timestamp())
        self.good_until_s = min([self.good_until_s, *ends])

    def _trusted(self, suite: str, data: bytes) -> Release:
        release = verified_release(data, self._settings.keyring, self._store)
        release.check_suite(suite)
        if release.is_early() and self._settings.checks_date and release.is_early(self._settings.max_future_s):
            raise release.too_early(suite)
        if release.is_over() and self._settings.checks_valid_until:  # apt is asked last, as it takes a process
            raise release.too_old(suite)
        return release

    def _is_fresh(self, kept: _Kept) -> bool:
        return not self._settings.refresh and 0 <= time.time() - kept.at < self._settings.max_age_s

    def _renewed(self, suite: str, kept: _Kept) -> _Kept:
        """A newer InRelease; the one that is kept if the archive does not answer."""
        try:
            return self._ask(suite, kept)
        except NetworkError as error:
            if kept.at == 0:  # known to be outdated
                raise
            day = time.strftime("%Y-%m-%d", time.gmtime(kept.at))
            self._progress.note(f"{error.message}; using the index of {suite} that was fetched on {day}")
            return kept

    def _ask(self, suite: str, kept: _Kept | None) -> _Kept:
        url = f"{self._settings.address}/dists/{suite}/InRelease"
        try:
            reply = self._downloader.small(url, LIMIT_BYTES, kept.reply if kept else None)
        except NotFound as error:
            raise NotFound(
                f"the archive at {self._settings.shown_address} has no suite {suite}",
                "See that the suite's name is right, and the archive's address (BOOTMATRIX_ARCHIVE).",
            ) from error
        except Offline as error:
            raise Offline(
                f"the index of {suite} is not in the cache, and downloads are forbidden", error.hint
            ) from error
        if reply is None:
            reply = kept.reply if kept else Reply(b"")
        # Nothing is kept that cannot be trusted: a log-in page would else stay for a day.
        self._order.accept(suite, self._trusted(suite, reply.body))
        return self._keep(suite, reply, time.time())

    def _key(self, suite: str) -> str:
        return json.dumps([self._settings.address, suite])

    def _keep(self, suite: str, reply: Reply, at: float) -> _Kept:
        digest = self._store.add_bytes(reply.body)
        record = {"sha256": digest, "at": at, "etag": reply.etag, "last_modified": reply.last_modified}
        self._store.set_memo("suite", self._key(suite), json.dumps(record).encode())
        return _Kept(reply.body, at, reply)

    def _kept(self, suite: str) -> _Kept | None:
        known = self._store.memo("suite", self._key(suite))
        if known is None:
            return None
        record = json.loads(known)
        try:
            data = self._store.verified(record["sha256"]).read_bytes()
        except UntrustedError:
            return None
        return _Kept(data, record["at"], Reply(data, record["etag"], record["last_modified"]))
