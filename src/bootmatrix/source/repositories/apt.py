"""apt repositories as the Debian archive's: `ADDRESS SUITE`."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from debian.debian_support import Version

from bootmatrix.errors import InfraError, NetworkError, StaleMirror, UntrustedError
from bootmatrix.source.packages import select_packages
from bootmatrix.source.repositories.access import RepositoryAccess, RepositoryPackage, package_codec
from bootmatrix.source.settings import Settings
from bootmatrix.source.suites import Suites

PACKAGE_KIND = "deb"
_HINT = "Name another mirror, or its keys, in a catalogue of your own: docs/kernels.md."
_FORMAT = 1


class _RepositorySettings(Settings):
    """Settings of an apt repository beside the archive: its own address and keys."""

    def __init__(self, base: Settings, address: str, access: RepositoryAccess) -> None:
        super().__init__(address, base.offline, base.refresh, allow_older=base.allow_older or access.archived)
        self.keyring, self.signers = access.keys.keyring, access.keys.keyring.name
        self._is_archived = access.archived

    @property
    def checks_valid_until(self) -> bool:
        """Return whether expired indexes are refused: not those of snapshots."""
        return not self._is_archived and super().checks_valid_until


def packages(repository: str, names: re.Pattern[str], access: RepositoryAccess) -> tuple[RepositoryPackage, ...]:
    """List the packages whose whole name matches."""
    address, suite = _parts(repository)
    suites = _suites(address, access)
    with _own_hints(repository, access):
        file = suites.index_file(suite, access.architecture)
        access.indexes.good_until_s = min(access.indexes.good_until_s, suites.good_until_s)
        if file is None:
            return ()
        key = json.dumps([_FORMAT, "apt", file.sha256, address, suite, names.pattern])

        def make() -> tuple[RepositoryPackage, ...]:
            index = suites.packages_file(suite, access.architecture)
            return _read(index[0], address, suite, names) if index else ()

        return access.store.cached("repository-packages", key, make, package_codec())


def _read(file: Path, address: str, suite: str, names: re.Pattern[str]) -> tuple[RepositoryPackage, ...]:
    header = re.compile(rf"^Package:[ \t]*(?:{names.pattern})[ \t]*$".encode(), re.MULTILINE)
    return tuple(
        RepositoryPackage(
            name=package.name,
            version=package.version,
            url=f"{address}/{quote(package.filename)}",
            size_bytes=package.size_bytes,
            checksum=f"sha256:{package.sha256}",
        )
        for package in select_packages(file, suite, header)
    )


def verify(path: Path, package: RepositoryPackage, access: RepositoryAccess) -> None:
    """Accept a package: the signed index has its SHA-256."""


def outdated(repository: str, access: RepositoryAccess) -> None:
    """Mark a repository's index as outdated."""
    address, suite = _parts(repository)
    _suites(address, access).outdated(suite)


def order(version: str) -> Any:
    """Return the sort key of a version (deb-version(7))."""
    return Version(version)


def _parts(repository: str) -> tuple[str, str]:
    address, _, suite = repository.partition(" ")
    return address.rstrip("/"), suite


def _suites(address: str, access: RepositoryAccess) -> Suites:
    settings = _RepositorySettings(access.settings, address, access)
    return Suites(settings, access.store, access.downloader, access.progress)


@contextmanager
def _own_hints(repository: str, access: RepositoryAccess) -> Iterator[None]:
    """Name the repository and its keys in errors, with hints that fit it."""
    try:
        yield
    except (StaleMirror, UntrustedError, NetworkError) as error:
        message = error.message.replace(str(access.keys.keyring), ", ".join(access.keys.files))
        raise type(error)(f"{repository}: {message}", _HINT) from error
    except InfraError:
        raise
