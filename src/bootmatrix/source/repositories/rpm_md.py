"""rpm-md repositories (createrepo_c): repomd.xml, primary.xml, RPMs."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from bootmatrix.source.repositories.access import RepositoryAccess, RepositoryPackage, fetch_list, package_codec
from bootmatrix.source.repositories.rpm_signature import check_package
from bootmatrix.source.repositories.rpm_xml import Primary, read_packages, read_primary
from bootmatrix.source.repositories.signatures import check_detached
from bootmatrix.source.repositories.versions import version_key

PACKAGE_KIND = "rpm"
_FORMAT = 1


def packages(repository: str, names: re.Pattern[str], access: RepositoryAccess) -> tuple[RepositoryPackage, ...]:
    """List the packages whose whole name matches."""
    base = f"{repository.rstrip('/')}/"

    def check(files: Sequence[bytes]) -> Primary:
        if len(files) > 1:
            label, keys = f"{base}repodata/repomd.xml", access.keys
            check_detached(files[0], files[1], keys.keyring, label, keys.revoked)
        return read_primary(files[0], f"{base}repodata/repomd.xml")

    primary = access.indexes.read(_index_urls(repository, access), check)
    key = json.dumps([_FORMAT, "rpm-md", base, primary.checksum, access.architecture, names.pattern])

    def make() -> tuple[RepositoryPackage, ...]:
        url = urljoin(base, primary.href)
        try:
            file = fetch_list(
                repository, lambda: access.file(url, primary.checksum, primary.size_bytes, f"{base} packages")
            )
        except Exception:
            access.indexes.outdated(_index_urls(repository, access))
            raise
        return read_packages(file, base, names, access.architecture)

    return access.store.cached("repository-packages", key, make, package_codec())


def verify(path: Path, package: RepositoryPackage, access: RepositoryAccess) -> None:
    """Check a package's own signature, if the index is not signed."""
    if access.signed == "packages":
        check_package(path, f"{package} {access.architecture}", access.keys)


def outdated(repository: str, access: RepositoryAccess) -> None:
    """Mark a repository's index as outdated."""
    access.indexes.outdated(_index_urls(repository, access))


def order(version: str) -> Any:
    """Return the sort key of a version (rpm-version(7))."""
    return version_key(version)


def _index_urls(repository: str, access: RepositoryAccess) -> tuple[str, ...]:
    url = f"{repository.rstrip('/')}/repodata/repomd.xml"
    return (url, f"{url}.asc") if access.signed == "index" else (url,)
