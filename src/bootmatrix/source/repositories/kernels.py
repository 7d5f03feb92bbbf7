"""Kernels of repositories: by patterns, verified, pinned by SHA-256."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import cast

from bootmatrix.errors import BootmatrixError, HostError, InfraError, NetworkError, NoSuchPackage, StaleMirror
from bootmatrix.model import KernelPart
from bootmatrix.model.distribution import RepositoryKernel
from bootmatrix.progress import NullObserver, Observer
from bootmatrix.source.download import Downloader, Manner, plain_client
from bootmatrix.source.kernels import listed, matches
from bootmatrix.source.replies import NotFound
from bootmatrix.source.repositories import apk, apt, pacman, rpm_md
from bootmatrix.source.repositories.access import RepositoryAccess, RepositoryPackage, RepositoryReader
from bootmatrix.source.repositories.index_cache import IndexCache
from bootmatrix.source.repositories.keys import PackageSource, fetch_keys
from bootmatrix.source.repositories.snapshots import old_kernels
from bootmatrix.source.settings import Settings
from bootmatrix.source.suites import FaultMemory
from bootmatrix.store import TEXT, Store

_MODULES: dict[str, ModuleType] = {"apt": apt, "rpm-md": rpm_md, "apk": apk, "pacman": pacman}
RELEASE = r"\d[A-Za-z0-9.+~_]*(?:-(?:\d|rc\d)[A-Za-z0-9.+~_]*)*"
"""Components that begin with a digit, apart by `-`."""
_PLACEHOLDER = "{release}"


@dataclass(frozen=True)
class KernelCandidate:
    """A kernel of a repository: its image's package first, then its parts."""

    version: str
    repository: str
    packages: tuple[RepositoryPackage, ...]
    lacking: str = ""

    @property
    def name(self) -> str:
        """A name without characters that a kernel's name may not have."""
        return re.sub(r"[^A-Za-z0-9_.+-]", "_", self.plain_version)[:64]

    @property
    def plain_version(self) -> str:
        """The version without its epoch."""
        return _plain(self.version)


@dataclass
class Repositories:
    """Repositories of all distributions. Thread-safe and blocking.

    `debian_arch` of methods is the architecture for which keys are looked up in the archive.
    """

    settings: Settings
    store: Store
    downloader: Downloader
    progress: Observer
    archive: PackageSource

    @cached_property
    def _faults(self) -> FaultMemory:
        return FaultMemory(self.store)

    def impatient(self) -> Repositories:
        """Return the same repositories without retries, to try whether they answer."""
        manner = Manner(partial(plain_client, self.settings), "", pauses_s=())
        return replace(self, downloader=Downloader(self.store, NullObserver(), self.settings, manner))

    @cached_property
    def _indexes(self) -> IndexCache:
        return IndexCache(self.settings, self.store, self.downloader, self.progress)

    @property
    def good_until_s(self) -> float:
        """Return when answers may change, in seconds since 1970."""
        return self._indexes.good_until_s

    def parts(self, source: RepositoryKernel, debian_arch: str) -> tuple[KernelPart, ...]:
        """Find an entry's newest kernel, as a custom kernel's verified parts.

        Raises NoSuchPackage if the repositories have no such kernel, or it lacks a part; InfraError if they are
        unavailable or untrusted.
        """
        candidates, faults = self._candidates(source, debian_arch)
        fitting = _fitting(candidates, source.version)
        if not fitting:
            raise faults[0] if faults else self._no_such_kernel(source, candidates)
        for fault in faults:
            self.progress.note(f"{source.distribution} kernel {fitting[-1].version}: {fault.message}")
        return self.pinned(fitting[-1], source, debian_arch)

    def all_kernels(
        self, sources: Sequence[RepositoryKernel], debian_arch: str
    ) -> list[tuple[KernelCandidate, RepositoryKernel]]:
        """List whole kernels of entries of a format, oldest first.

        Raises InfraError if all repositories are unavailable.
        """
        by_version: dict[str, tuple[KernelCandidate, RepositoryKernel]] = {}
        faults: list[InfraError] = []
        for source in sources:
            candidates, more = self._candidates(source, debian_arch)
            faults += more
            by_version |= {entry.version: (entry, source) for entry in candidates if not entry.lacking}
        if faults and not by_version:
            raise faults[0]
        for fault in faults:
            self.progress.note(f"skipped the kernels of a repository: {fault.message}")
        order = sorted(by_version.values(), key=lambda entry: _reader(entry[1]).order(entry[0].version))
        return [(kernel, _only(source, kernel.plain_version, (kernel.repository,))) for kernel, source in order]

    def old_kernels(
        self, sources: Sequence[RepositoryKernel], one: str, other: str
    ) -> list[tuple[KernelCandidate, RepositoryKernel]]:
        """List kernels between versions in all states, as `all_kernels` does.

        No index is read yet: that a state has the kernel with all parts is found when it is used.

        Raises InputError if one of them is not a version, InfraError if the service that keeps the states is
        unavailable.
        """
        found = []
        for source in sources:
            for kernel in old_kernels(source, _image_name(source), one, other, self._indexes):
                places = kernel.repositories(source.states)
                candidate = KernelCandidate(kernel.version, places[0], ())
                found.append((candidate, _only(source, candidate.plain_version, places)))
        return found

    def pinned(self, kernel: KernelCandidate, source: RepositoryKernel, debian_arch: str) -> tuple[KernelPart, ...]:
        """Return the parts of a kernel with the SHA-256 of each package, verified.

        Raises NoSuchPackage if it lacks a part, StaleMirror if a package is missing on the server, UntrustedError if a
        package is not what the index or its signature says.
        """
        reader, access = _reader(source), self._access(source, debian_arch)
        if kernel.lacking:
            reader.outdated(kernel.repository, access)
            raise NoSuchPackage(
                f"{kernel.packages[0]} needs {kernel.lacking}, which {kernel.repository} lacks",
                "The mirror may be in the middle of an update: try again in an hour.",
            )
        try:
            return tuple(self._pin(package, reader, access) for package in kernel.packages)
        except NotFound as error:
            raise self.gone(source, debian_arch, error) from error

    def gone(self, source: RepositoryKernel, debian_arch: str, error: InfraError) -> StaleMirror:
        """Return the error for a lost package; its indexes are outdated."""
        reader, access = _reader(source), self._access(source, debian_arch)
        for repository in source.repositories:
            reader.outdated(repository, access)
        return StaleMirror(
            f"{', '.join(source.repositories)} lacks a package that its index lists: {error.message}",
            "The mirror is being updated. Try again: the index will be fetched again.",
        )

    def check(self, source: RepositoryKernel, debian_arch: str) -> tuple[str, str]:
        """Try an entry without downloading packages: its version, or the fault."""
        try:
            candidates, faults = self._candidates(source, debian_arch)
        except BootmatrixError as error:
            return "", _briefly(error)
        fitting = _fitting(candidates, source.version)
        if not fitting:
            return "", _briefly(faults[0] if faults else self._no_such_kernel(source, candidates))
        newest = fitting[-1]
        return newest.version, f"lacks {newest.lacking}" if newest.lacking else ""

    def _candidates(self, source: RepositoryKernel, debian_arch: str) -> tuple[list[KernelCandidate], list[InfraError]]:
        """Return all kernels of an entry, oldest first, and faults of repositories."""
        reader, access = _reader(source), self._access(source, debian_arch)
        names = _names(source)
        candidates: list[KernelCandidate] = []
        faults: list[InfraError] = []
        for repository in source.repositories:
            try:
                packages = self._faults.call(repository, partial(reader.packages, repository, names, access))
            except HostError:
                raise
            except InfraError as error:
                faults.append(error)
                continue
            candidates += _assembled(source, repository, packages)
            if source.snapshots and any(_is_whole(entry, source.version) for entry in candidates):
                break  # later states have the same package
        newest = {entry.version: entry for entry in reversed(candidates) if not entry.lacking}
        every = {entry.version: entry for entry in candidates} | newest
        return sorted(every.values(), key=lambda entry: reader.order(entry.version)), faults

    def _access(self, source: RepositoryKernel, debian_arch: str) -> RepositoryAccess:
        return RepositoryAccess(
            settings=self.settings,
            store=self.store,
            downloader=self.downloader,
            progress=self.progress,
            indexes=self._indexes,
            keys=fetch_keys(source.keys, source.folder, self.archive, self.store, debian_arch),
            signed=source.signed,
            architecture=source.architecture,
            archived=source.archived,
        )

    def _pin(self, package: RepositoryPackage, reader: RepositoryReader, access: RepositoryAccess) -> KernelPart:
        """Verify a package once, and return it as a part."""
        # All that is verified: an index that nobody signed may offer a known file as another version.
        key = json.dumps(
            [package.model_dump(mode="json"), access.signed, access.architecture, access.keys.keyring.name]
        )

        def make() -> str:
            path = self._fetch(package, access)
            try:
                reader.verify(path, package, access)
            except BootmatrixError:
                path.unlink(missing_ok=True)
                raise
            return path.name

        kind, _, digest = package.checksum.partition(":")
        is_pinned = kind == "sha256" and access.signed == "index"
        sha256 = digest if is_pinned else self.store.cached("repository-package", key, make, TEXT, self.store.has)
        return KernelPart(kind=reader.PACKAGE_KIND, url=package.url, sha256=sha256, size_bytes=package.size_bytes)

    def _fetch(self, package: RepositoryPackage, access: RepositoryAccess) -> Path:
        if ":" in package.checksum:
            return access.file(package.url, package.checksum, package.size_bytes, str(package))
        digest = self.downloader.unpinned(package.url, package.size_bytes, str(package))
        return self.store.verified(digest)

    def _no_such_kernel(self, source: RepositoryKernel, candidates: Sequence[KernelCandidate]) -> NoSuchPackage:
        version = f" {source.version}" if source.version else ""
        return NoSuchPackage(
            f"no kernel{version} ({source.image}, {source.architecture}) in {', '.join(source.repositories)}",
            f"Available: {listed(entry.version for entry in reversed(candidates))}."
            if candidates
            else "Correct the catalogue, or name another mirror in one of your own: docs/kernels.md.",
        )


def _reader(source: RepositoryKernel) -> RepositoryReader:
    return cast(RepositoryReader, _MODULES[source.format])


def _briefly(error: BootmatrixError) -> str:
    """Return a message without its URL, whose host is the last word."""
    is_long = isinstance(error, NetworkError) and not isinstance(error, NotFound) and "cannot download" in error.message
    return error.message.rpartition(": ")[2] if is_long else error.message


def _fitting(candidates: Sequence[KernelCandidate], version: str) -> list[KernelCandidate]:
    """Return the kernels of exactly a version, else of a prefix."""
    exact = [entry for entry in candidates if entry.plain_version == version]
    return exact or [entry for entry in candidates if matches(entry.plain_version, version)]


def _plain(version: str) -> str:
    """Return a version without its epoch."""
    return version.rpartition(":")[2]


def _pattern(template: str) -> str:
    return RELEASE.join(re.escape(piece) for piece in template.split(_PLACEHOLDER))


def _names(source: RepositoryKernel) -> re.Pattern[str]:
    templates = (source.image, *source.parts, *source.optional)
    return re.compile("|".join(dict.fromkeys(map(_pattern, templates))))


def _assembled(
    source: RepositoryKernel, repository: str, packages: Sequence[RepositoryPackage]
) -> list[KernelCandidate]:
    """Join a repository's images with their parts of the same version."""
    by_name = {(package.name, package.version): package for package in packages}
    found = []
    image_name = _image_name(source)
    for image in packages:
        match = image_name.fullmatch(image.name)
        if not match:
            continue
        release = match[1] if match.groups() else ""
        wanted = [(name.replace(_PLACEHOLDER, release), name in source.optional) for name in _parts(source)]
        parts = [by_name.get((name, image.version)) for name, _ in wanted]
        lacking = [name for (name, is_optional), part in zip(wanted, parts, strict=True) if not (part or is_optional)]
        kernel = KernelCandidate(image.version, repository, (image, *filter(None, parts)))
        found.append(replace(kernel, lacking=", ".join(lacking)))
    return found


def _image_name(source: RepositoryKernel) -> re.Pattern[str]:
    return re.compile(f"({RELEASE})".join(map(re.escape, source.image.split(_PLACEHOLDER))))


def _only(source: RepositoryKernel, version: str, repositories: tuple[str, ...]) -> RepositoryKernel:
    return source.model_copy(update={"version": version, "repositories": repositories})


def _is_whole(kernel: KernelCandidate, version: str) -> bool:
    return kernel.plain_version == version and not kernel.lacking


def _parts(source: RepositoryKernel) -> tuple[str, ...]:
    return (*source.parts, *source.optional)
