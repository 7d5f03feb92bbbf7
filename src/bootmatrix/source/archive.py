"""The Debian archive: kernels by name, packages with what they depend on, and their files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from bootmatrix.errors import (
    BuildError,
    HostError,
    InfraError,
    NetworkError,
    NoSuchPackage,
    StaleMirror,
    UntrustedError,
)
from bootmatrix.model import Kernel, KernelSource, Lock, Package
from bootmatrix.progress import Observer
from bootmatrix.redact import RedactedUrl
from bootmatrix.source.download import Downloader, DownloadRequest, NotFound
from bootmatrix.source.kernels import assemble, choose, images_of, no_such_kernel
from bootmatrix.source.lock_recorder import LockedPackages, Used, kernel_key
from bootmatrix.source.packages import Index, kernel_packages, open_index, package_codec
from bootmatrix.source.resolve import Candidates, closure
from bootmatrix.source.settings import Settings
from bootmatrix.source.suites import Suites
from bootmatrix.store import Store

_FORMAT = 1
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+~:%-]*(/[A-Za-z0-9][A-Za-z0-9_.+~:%-]*)+")
_LOCK_HINT = "Make the lock anew with `bootmatrix lock`."


def open_archive(  # noqa: PLR0913  (each is a setting of its own)
    store: Store,
    *,
    offline: bool,
    lock: Lock | None,
    address: str | None,
    progress: Observer,
    refresh: bool = False,
    lock_is_whole: bool = True,
    allow_older: bool = False,
) -> Archive:
    """An archive; nothing is asked of it yet.

    `address` is the one that the user gave, if any; `lock` confines it to the kernels and packages that a lock names,
    or, unless it is whole, has them preferred; `refresh` asks for newer indexes, however young those in the cache are;
    `allow_older` takes a suite's release although a newer one was seen.
    """
    return Archive(Settings(address, offline, refresh, allow_older=allow_older), store, lock, progress, lock_is_whole)


class Archive:
    """Answers from the cache where it can. Thread-safe, blocking."""

    def __init__(
        self, settings: Settings, store: Store, lock: Lock | None, progress: Observer, lock_is_whole: bool = True
    ) -> None:
        self._settings, self._store, self._lock, self._progress = settings, store, lock, progress
        self._is_confined = lock is not None and lock_is_whole
        self._downloader = Downloader(store, progress, settings)
        self._suites = Suites(settings, store, self._downloader, progress)
        self.used = Used(lock)
        self._missing: dict[Package, StaleMirror] = {}

    def close(self) -> None:
        """End downloads that are under way; their threads raise Interrupted."""
        self._downloader.close()

    @property
    def good_until_s(self) -> float:
        """From this time on, in seconds since 1970, the answers of now may be others."""
        return self._suites.good_until_s

    def kernel(self, name: str, source: KernelSource, debian_arch: str) -> Kernel:
        """The newest kernel of a name, a version prefix, in all the suites of its source.

        A suite that cannot be had is told and left out, as long as another has the kernel; so is a kernel whose package
        was found to be missing.

        Raises:
            NoSuchPackage: no suite has such a kernel.
            InfraError: a suite that might have it cannot be had.
            BuildError: the lock has no such kernel.
        """
        key = kernel_key(debian_arch, source.flavour, name)
        kernel = self._locked_kernel(key) or self._find_kernel(name, source, debian_arch)
        self.used.add_kernel(key, kernel)
        return kernel

    def kernels(self, source: KernelSource, debian_arch: str) -> tuple[Kernel, ...]:
        """All kernels of a flavour that the suites of its source have.

        A suite that cannot be had is told and left out, as long as another has any; so is a kernel that lacks a part.

        Raises:
            InfraError: no suite can be had.
        """
        packages, faults = self._all_of(source, debian_arch)
        if faults and not packages:
            raise _worst(faults)
        for fault in faults:
            self._progress.note(f"kernels of a suite are left out: {fault.message}")
        found = []
        for image in images_of(source.flavour, packages):
            try:
                found.append(assemble(image.version, image, packages))
            except NoSuchPackage as error:
                self._progress.note(error.message)
        return tuple(found)

    def has_locked(self, key: str) -> bool:
        """Whether a lock says which kernel of the user's own is meant.

        Raises:
            BuildError: nothing but the lock counts, and it has none.
        """
        return self._locked_kernel(key) is not None

    def own_kernel(self, key: str, kernel: Kernel) -> Kernel:
        """A kernel of the user's own, noted as used; with a lock, the one that the lock has.

        Raises:
            BuildError: the lock has another one, or none.
        """
        if self._locked_kernel(key) not in {None, kernel}:
            raise BuildError(
                f"the kernel {kernel.name} is not the one that the lock has: its digest differs", _LOCK_HINT
            )
        self.used.add_kernel(key, kernel)
        return kernel

    def download(self, url: str, sha256: str, size_bytes: int) -> Path:
        """A file from elsewhere, verified.

        Raises:
            InfraError: it cannot be had, or is not what it should be.
        """
        return self._downloader.file(DownloadRequest(url, sha256, size_bytes, RedactedUrl(url).name))

    def length(self, url: str) -> int:
        """The length of a file in bytes, as its server says.

        Raises:
            NetworkError: it does not say, or is not there.
        """
        return self._downloader.length(url)

    def closure(
        self, names: Sequence[str], without: Sequence[str], suites: Sequence[str], debian_arch: str
    ) -> tuple[Package, ...]:
        """Packages with all that they depend on, dependencies first; `suites` has the preferred ones first.

        Raises:
            NoSuchPackage: a package does not exist for this architecture.
            InfraError: the archive cannot be had, or not be trusted.
            BuildError: the lock lacks a package, or versions do not go together.
        """
        packages = self._locked_closure(names, without, suites, debian_arch)
        if packages is None:
            packages = self._find_closure(names, without, suites, debian_arch)
        self.used.add_packages(debian_arch, packages)
        return packages

    def fetch(self, package: Package) -> Path:
        """A package's file, verified.

        Raises:
            InfraError: it cannot be had, or is not what it should be.
        """
        if not _FILENAME.fullmatch(package.filename):
            raise UntrustedError(f"the archive's index gives {package} a strange path: {package.filename!r}")
        url = f"{self._settings.address}/{quote(package.filename)}"
        wanted = DownloadRequest(url, package.sha256, package.size_bytes, f"{package.name} {package.version}")
        try:
            return self._downloader.file(wanted)
        except NotFound as error:
            raise self._gone(package) from error

    def resolved(self) -> Lock:
        """The kernels and packages that were asked for so far, and those of the lock."""
        return self.used.lock()

    def _gone(self, package: Package) -> NetworkError:
        if self._lock:
            return NetworkError(
                f"the archive at {self._settings.shown_address} does not have {package} any more: the lock is outdated",
                f"{_LOCK_HINT} Or set BOOTMATRIX_ARCHIVE to an archive of snapshots from the lock's time.",
            )
        self._suites.outdated(package.suite)
        self._missing[package] = StaleMirror(
            f"the archive at {self._settings.shown_address} does not have {package}, though its index says so",
            "The mirror is in the middle of an update. Try again: the index will be fetched anew.",
        )
        return self._missing[package]

    def _locked_kernel(self, key: str) -> Kernel | None:
        if self._lock and key in self._lock.kernels:
            return self._lock.kernels[key]
        if self._is_confined:
            raise BuildError(f"the lock has no kernel {key}", _LOCK_HINT)
        return None

    def _find_kernel(self, name: str, source: KernelSource, debian_arch: str) -> Kernel:
        wanted = name if source.version is None else source.version
        packages, faults = self._all_of(source, debian_arch)
        newest = None
        while image := choose(source, wanted, packages):
            kernel = assemble(name, image, packages)
            gone = [self._missing[package] for package in kernel.packages if package in self._missing]
            if not gone:
                for fault in faults:
                    taken = f"{name} for {debian_arch} is {image.version} of {image.suite}"
                    self._progress.note(f"{taken}: {fault.message}")
                return kernel
            newest = newest or kernel
            faults += gone
            packages.remove(image)
        if newest:  # it may be there by now
            return newest
        raise _worst(faults) if faults else no_such_kernel(wanted, source, debian_arch, packages)

    def _all_of(self, source: KernelSource, debian_arch: str) -> tuple[list[Package], list[InfraError]]:
        """The packages of kernels in a source's suites, and why a suite cannot be had."""
        packages: list[Package] = []
        faults: list[InfraError] = []
        for suite in source.suites:
            try:
                packages += self._kernels_of(suite, debian_arch)
            except HostError:
                raise
            except InfraError as error:
                faults.append(error)
        return packages, faults

    def _kernels_of(self, suite: str, debian_arch: str) -> tuple[Package, ...]:
        known = self._suites.index_file(suite, debian_arch)
        if known is None:
            return ()
        packages = kernel_packages(known.sha256, suite, self._store)
        if packages is None:
            found = self._suites.packages_file(suite, debian_arch)
            packages = kernel_packages(found[1].sha256, suite, self._store, found[0]) if found else ()
        return packages or ()

    def _find_closure(
        self, names: Sequence[str], without: Sequence[str], suites: Sequence[str], debian_arch: str
    ) -> tuple[Package, ...]:
        digests = [file.sha256 if file else "" for file in (self._suites.index_file(s, debian_arch) for s in suites)]
        # The suites' names are part of the answer, so they are part of the key.
        key = repr((_FORMAT, list(names), sorted(without), list(suites), debian_arch, digests))

        def make() -> tuple[Package, ...]:
            with self._open_indexes(suites, debian_arch) as candidates:
                return closure(names, without, candidates, f"{debian_arch} in {', '.join(suites)}")

        return self._store.cached("closure", key, make, package_codec())

    @contextmanager
    def _open_indexes(self, suites: Sequence[str], debian_arch: str) -> Iterator[Candidates]:
        with ExitStack() as stack:
            indexes = []
            for suite in suites:
                found = self._suites.packages_file(suite, debian_arch)
                if found:
                    index = open_index(found[0], found[1].sha256, suite, self._store)
                    stack.callback(index.close)
                    indexes.append(index)
            yield _InTurn(indexes)

    def _locked_closure(
        self, names: Sequence[str], without: Sequence[str], suites: Sequence[str], debian_arch: str
    ) -> tuple[Package, ...] | None:
        if self._lock is None:
            return None
        packages = self._lock.packages.get(debian_arch, {})
        try:
            return closure(
                names, without, LockedPackages(packages.values(), suites), f"{debian_arch} in {', '.join(suites)}"
            )
        except BuildError as error:
            if not self._is_confined:
                return None
            raise BuildError(f"the lock does not do: {error.message}", _LOCK_HINT) from error


class _InTurn:
    """Several indexes, the preferred one first."""

    def __init__(self, indexes: Sequence[Index]) -> None:
        self._indexes = indexes

    def named(self, name: str) -> list[Package]:
        return [package for index in self._indexes for package in index.named(name)]

    def providing(self, name: str) -> list[Package]:
        return [package for index in self._indexes for package in index.providing(name)]

    def names(self) -> Iterator[str]:
        for index in self._indexes:
            yield from index.names()


def _worst(faults: Sequence[InfraError]) -> InfraError:
    """The fault to tell: a mirror in mid-update explains best why a kernel is missing."""
    return next((fault for fault in faults if isinstance(fault, StaleMirror)), faults[0])
