"""Keys of repositories: files of a package of the Debian archive, or of the user."""

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from bootmatrix.errors import BuildError, InputError
from bootmatrix.fsio import open_plain
from bootmatrix.model import Package
from bootmatrix.model.distribution import RepositoryKeys
from bootmatrix.source.deb import open_data
from bootmatrix.source.repositories.access import Keys
from bootmatrix.source.repositories.signatures import binary_keys
from bootmatrix.store import Store

_FORMAT = 1
KEY_LIMIT_BYTES = 16 << 20
_FINGERPRINT = re.compile(r"\b[0-9A-F]{40,64}\b")


class PackageSource(Protocol):
    """The archive, as far as keys need it."""

    def closure(
        self, names: Sequence[str], without: Sequence[str], suites: Sequence[str], debian_arch: str
    ) -> tuple[Package, ...]:
        """Resolve packages."""

    def fetch(self, package: Package) -> Path:
        """Download a package."""


def fetch_keys(keys: RepositoryKeys, folder: str, archive: PackageSource, store: Store, debian_arch: str) -> Keys:
    """Return the keys of a catalogue.

    Raises InputError if the user's files are missing, BuildError if the package has no such files, InfraError if the
    package cannot be fetched.
    """
    if keys.package:
        digests = _of_package(keys, archive, store, debian_arch)
        files = {name: store.verified(digest).read_bytes() for name, digest in digests.items()}
    else:
        files = _own_files(keys, Path(folder))
    revoked = files.pop(_base(keys.revoked), b"") if keys.revoked else b""
    try:
        binary = b"".join(map(binary_keys, files.values()))
    except ValueError as error:
        raise InputError(f"{', '.join(keys.files)}: {error}") from error
    return Keys(
        keyring=store.verified(store.add_bytes(binary)),
        files=files,
        revoked=frozenset(_FINGERPRINT.findall(revoked.decode("ascii", "replace"))),
    )


def _own_files(keys: RepositoryKeys, folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name in filter(None, (*keys.files, keys.revoked)):
        try:
            with open_plain((folder / name).resolve(), KEY_LIMIT_BYTES) as file:
                files[_base(name)] = file.read()
        except OSError as error:
            raise InputError(f"{folder / name}: the keys of a repository cannot be read: {error.strerror}") from error
    return files


def _of_package(keys: RepositoryKeys, archive: PackageSource, store: Store, debian_arch: str) -> dict[str, str]:
    """Return the digests of the files in the store, by name."""
    closure = archive.closure([keys.package], [], keys.suites, keys.architecture or debian_arch)
    package = next(entry for entry in closure if entry.name == keys.package)
    key = json.dumps([_FORMAT, package.sha256, keys.files, keys.revoked])

    def make() -> dict[str, str]:
        return _read(archive.fetch(package), keys, package, store)

    return store.cached("repository-keys", key, make, is_whole=lambda found: all(map(store.has, found.values())))


def _read(deb: Path, keys: RepositoryKeys, package: Package, store: Store) -> dict[str, str]:
    patterns = [pattern for pattern in (*keys.files, keys.revoked) if pattern]
    digests: dict[str, str] = {}
    with open_data(deb) as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            if not any(fnmatchcase(path, pattern) for pattern in patterns):
                continue
            content = archive.extractfile(member) if member.isreg() and member.size <= KEY_LIMIT_BYTES else None
            if content:
                digests[_base(path)] = store.add_bytes(content.read())
    if not set(digests) - {_base(keys.revoked)}:
        raise BuildError(f"{package} has no keys {', '.join(keys.files)}", "Correct the catalogue: docs/kernels.md.")
    return digests


def _base(path: str) -> str:
    return path.rpartition("/")[2]
