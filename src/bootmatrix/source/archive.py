"""The Debian archive: kernels by name, dependency closures, and package files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
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
from bootmatrix.model import Kernel, KernelPart, KernelSource, Lock, Package
from bootmatrix.progress import Observer
from bootmatrix.redact import RedactedUrl
from bootmatrix.source.download import Downloader, DownloadRequest
from bootmatrix.source.kernels import assemble, choose, images_of, no_such_kernel
from bootmatrix.source.lock_recorder import LockedPackages, Used, kernel_key
from bootmatrix.source.packages import IndexChain, kernel_packages, open_index, package_codec, reduced_index
from bootmatrix.source.reduced_index import list_name, list_of, release_of
from bootmatrix.source.replies import NotFound
from bootmatrix.source.repositories.kernels import Repositories
from bootmatrix.source.resolve import closure
from bootmatrix.source.settings import Settings
from bootmatrix.source.suites import Suites
from bootmatrix.store import Store

_FORMAT = 1
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+~:%-]*(/[A-Za-z0-9][A-Za-z0-9_.+~:%-]*)+")
_LOCK_HINT = "Renew the lock with `bootmatrix lock`."


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
    """Return an archive. No request is sent yet.

    `address` overrides the configured address. `lock` confines the archive to the kernels and packages of a lock; if
    the lock is not whole, they are only preferred. `refresh` ignores the age of cached indexes.
    `allow_older` accepts a suite's release that is older than one seen before.
    """
    return Archive(Settings(address, offline, refresh, allow_older=allow_older), store, lock, progress, lock_is_whole)


class Archive:
    """Client of one archive that answers from the cache if possible.

    Thread-safe and blocking.
    """

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
        """Stop running downloads. Their threads raise Interrupted."""
        self._downloader.close()

    @property
    def is_offline(self) -> bool:
        """True if nothing is downloaded."""
        return self._settings.offline

    @property
    def good_until_s(self) -> float:
        """Return when answers may change, in seconds since 1970."""
        return min(self._suites.good_until_s, self.repositories.good_until_s)

    @cached_property
    def repositories(self) -> Repositories:
        """The repositories of other distributions."""
        return Repositories(self._settings, self._store, self._downloader, self._progress, self)

    def kernel(self, name: str, source: KernelSource, debian_arch: str) -> Kernel:
        """Find the newest kernel of a name, a version prefix, in the suites of a source.

        Suites that are unavailable, and kernels whose package is missing, are reported and skipped if another suite
        has the kernel.

        Raises NoSuchPackage if no suite has such a kernel, InfraError if a suite that may have it is unavailable,
        BuildError if the lock lacks the kernel.
        """
        key = kernel_key(debian_arch, source.flavour, name)
        kernel = self._locked_kernel(key) or self._find_kernel(name, source, debian_arch)
        self.used.add_kernel(key, kernel)
        return kernel

    def kernels(self, source: KernelSource, debian_arch: str) -> tuple[Kernel, ...]:
        """List the kernels of a flavour in the suites of a source.

        Suites that are unavailable, and kernels that lack a part, are reported and skipped if any kernel remains.

        Raises InfraError if all suites are unavailable.
        """
        packages, faults = self._kernel_packages_of(source, debian_arch)
        if faults and not packages:
            raise _main_fault(faults)
        for fault in faults:
            self._progress.note(f"skipped the kernels of a suite: {fault.message}")
        kernels = []
        for image in images_of(source.flavour, packages):
            try:
                kernels.append(assemble(image.version, image, packages))
            except NoSuchPackage as error:
                self._progress.note(error.message)
        return tuple(kernels)

    def locked_parts(self, key: str) -> tuple[KernelPart, ...]:
        """Return a locked custom kernel's parts; empty without them.

        Raises BuildError if the archive is confined to the lock, and the lock lacks it.
        """
        locked = self._locked_kernel(key)
        return locked.parts if locked else ()

    def own_kernel(self, key: str, kernel: Kernel) -> Kernel:
        """Record a custom kernel as used, and check it against the lock.

        Raises BuildError if the lock has another kernel under this key, or none.
        """
        if self._locked_kernel(key) not in {None, kernel}:
            raise BuildError(f"kernel {kernel.name} differs from the locked one: its digest has changed", _LOCK_HINT)
        self.used.add_kernel(key, kernel)
        return kernel

    def download(self, url: str, sha256: str, size_bytes: int) -> Path:
        """Download a file from another server, and verify it.

        Raises InfraError if the file is unavailable, or its size or digest differs.
        """
        return self._downloader.file(DownloadRequest(url, sha256, size_bytes, RedactedUrl(url).name))

    def length(self, url: str) -> int:
        """Return the length of a file in bytes, as its server reports it.

        Raises NetworkError if the file is missing, or the server does not report a length.
        """
        return self._downloader.length(url)

    def closure(
        self, names: Sequence[str], without: Sequence[str], suites: Sequence[str], debian_arch: str
    ) -> tuple[Package, ...]:
        """Resolve packages with their dependencies, dependencies first.

        `suites` lists the preferred suites first.

        Raises NoSuchPackage if a package does not exist for this architecture, InfraError if the archive is unavailable
        or untrusted, BuildError if the lock lacks a package, or versions conflict.
        """
        packages = self._locked_closure(names, without, suites, debian_arch)
        if packages is None:
            packages = self._find_closure(names, without, suites, debian_arch)
        self.used.add_packages(debian_arch, packages)
        return packages

    def fetch(self, package: Package) -> Path:
        """Download a package's file, and verify it.

        Raises InfraError if the file is unavailable, or its size or digest differs.
        """
        if not _FILENAME.fullmatch(package.filename):
            raise UntrustedError(f"invalid path of {package} in the archive's index: {package.filename!r}")
        url = f"{self._settings.address}/{quote(package.filename)}"
        request = DownloadRequest(url, package.sha256, package.size_bytes, f"{package.name} {package.version}")
        try:
            return self._downloader.file(request)
        except NotFound as error:
            raise self._gone(package) from error

    def signed_part(self, suite: str, debian_arch: str, name: str) -> bytes | Path | None:
        """Return a suite's InRelease or list of packages; None for others.

        Raises InfraError if the suite is unavailable or untrusted.
        """
        if name == "InRelease":
            return self._suites.in_release(suite)
        file = self._suites.index_file(suite, debian_arch)
        if file is None or name not in {file.path, f"{file.path.rpartition('/')[0]}/by-hash/SHA256/{file.sha256}"}:
            return None
        index = self._suites.packages_file(suite, debian_arch)
        return index[0] if index else None

    def reduced_part(self, suite: str, debian_arch: str, name: str, only: Sequence[str] = ()) -> bytes | Path | None:
        """Return Release or the reduced list, unsigned; None for others.

        With `only` it lists packages of these names and what they may need; a confined archive those of its lock.

        Raises InfraError if the suite is unavailable or untrusted.
        """
        if name not in {"Release", list_name(debian_arch)}:
            return None
        listed: bytes | Path = list_of(
            package for package in self._locked_packages(debian_arch) if package.suite == suite
        )
        if not (self._lock and self._is_confined):
            index = self._suites.packages_file(suite, debian_arch)
            if index is None:
                return None
            listed = reduced_index(index[0], index[1].sha256, self._store, only)
        if name != "Release":
            return listed
        return release_of(listed if isinstance(listed, bytes) else listed.read_bytes(), suite, debian_arch)

    def package_at(self, filename: str, suites: Sequence[str], debian_arch: str) -> Package:
        """Find a package by its path, in suites' indexes or the lock.

        Raises NoSuchPackage if no index lists it, InfraError if a suite is unavailable or untrusted.
        """
        for package in self._locked_packages(debian_arch):
            if package.filename == filename:
                return package
        if not (self._lock and self._is_confined):
            with self._open_indexes(suites, debian_arch, may_lack=True) as candidates:
                if found := candidates.at(filename):
                    return found
        raise NoSuchPackage(f"{filename} is not in {'the lock' if self._is_confined else 'the indexes'}")

    def is_newest(self, package: Package, debian_arch: str) -> bool:
        """Return whether a package is still its suite's, or the lock's.

        Raises InfraError if the suite is unavailable or untrusted.
        """
        if self._lock and self._is_confined:
            return package in self._locked_packages(debian_arch)
        with self._open_indexes((package.suite,), debian_arch) as candidates:
            return package in candidates.named(package.name)[:1]

    def _locked_packages(self, debian_arch: str) -> tuple[Package, ...]:
        return tuple(self._lock.packages.get(debian_arch, {}).values()) if self._lock else ()

    @property
    def is_confined(self) -> bool:
        """True if nothing is used that is not in the lock."""
        return self._is_confined

    def resolved(self) -> Lock:
        """Return the kernels and packages used so far, and those of the lock."""
        return self.used.lock()

    def _gone(self, package: Package) -> NetworkError:
        if self._lock:
            return NetworkError(
                f"the archive at {self._settings.redacted_address} no longer has {package}: the lock is outdated",
                f"{_LOCK_HINT} Or set BOOTMATRIX_ARCHIVE to an archive of snapshots from the lock's time.",
            )
        self._suites.outdated(package.suite)
        self._missing[package] = StaleMirror(
            f"the archive at {self._settings.redacted_address} lacks {package}, which its index lists",
            "The mirror is being updated. Try again: the index will be fetched again.",
        )
        return self._missing[package]

    def _locked_kernel(self, key: str) -> Kernel | None:
        if self._lock and key in self._lock.kernels:
            return self._lock.kernels[key]
        if self._is_confined:
            raise BuildError(f"the lock lacks the kernel {key}", _LOCK_HINT)
        return None

    def _find_kernel(self, name: str, source: KernelSource, debian_arch: str) -> Kernel:
        version = name if source.version is None else source.version
        packages, faults = self._kernel_packages_of(source, debian_arch)
        newest = None
        while image := choose(source, version, packages):
            kernel = assemble(name, image, packages)
            gone = [self._missing[package] for package in kernel.packages if package in self._missing]
            if not gone:
                for fault in faults:
                    choice = f"{name} for {debian_arch} is {image.version} of {image.suite}"
                    self._progress.note(f"{choice}: {fault.message}")
                return kernel
            newest = newest or kernel
            faults += gone
            packages.remove(image)
        if newest:  # its package may exist by now
            return newest
        raise _main_fault(faults) if faults else no_such_kernel(version, source, debian_arch, packages)

    def _kernel_packages_of(self, source: KernelSource, debian_arch: str) -> tuple[list[Package], list[InfraError]]:
        """Return the kernel packages of a source's suites, and faults of suites."""
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
        file = self._suites.index_file(suite, debian_arch)
        if file is None:
            return ()
        packages = kernel_packages(file.sha256, suite, self._store)
        if packages is None:
            index = self._suites.packages_file(suite, debian_arch)
            packages = kernel_packages(index[1].sha256, suite, self._store, index[0]) if index else ()
        return packages or ()

    def _find_closure(
        self, names: Sequence[str], without: Sequence[str], suites: Sequence[str], debian_arch: str
    ) -> tuple[Package, ...]:
        digests = [file.sha256 if file else "" for file in (self._suites.index_file(s, debian_arch) for s in suites)]
        # Packages name their suite, so the names are part of the key.
        key = repr((_FORMAT, list(names), sorted(without), list(suites), debian_arch, digests))

        def make() -> tuple[Package, ...]:
            with self._open_indexes(suites, debian_arch) as candidates:
                return closure(names, without, candidates, f"{debian_arch} in {', '.join(suites)}")

        return self._store.cached("closure", key, make, package_codec())

    @contextmanager
    def _open_indexes(self, suites: Sequence[str], debian_arch: str, *, may_lack: bool = False) -> Iterator[IndexChain]:
        """Open the indexes of suites; with `may_lack`, those that the archive has."""
        with ExitStack() as stack:
            indexes = []
            for suite in suites:
                try:
                    file = self._suites.packages_file(suite, debian_arch)
                except NotFound:
                    if not may_lack:
                        raise
                    continue
                if file:
                    index = open_index(file[0], file[1].sha256, suite, self._store)
                    stack.callback(index.close)
                    indexes.append(index)
            yield IndexChain(indexes)

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
            raise BuildError(f"the lock is incomplete: {error.message}", _LOCK_HINT) from error


def _main_fault(faults: Sequence[InfraError]) -> InfraError:
    """Return the fault to report: a mirror being updated, else the first."""
    return next((fault for fault in faults if isinstance(fault, StaleMirror)), faults[0])
