"""pacman repositories: a database, and detached signatures.

Source: pacman's repo-add(8) and its database format. A repository is `FOLDER NAME`, for FOLDER/NAME.db.
"""

import base64
import binascii
import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bootmatrix.errors import NetworkError, UntrustedError
from bootmatrix.source.repositories.access import (
    MAX_PACKAGE_BYTES,
    MAX_WORD,
    RepositoryAccess,
    RepositoryPackage,
    package_codec,
)
from bootmatrix.source.repositories.signatures import SIGNATURE_LIMIT_BYTES, check_detached
from bootmatrix.source.repositories.versions import version_key
from bootmatrix.source.safe_archive import FAULTS, open_packed_tar

PACKAGE_KIND = "tar"
_FORMAT = 2
_FIELD = re.compile(r"^%([A-Z0-9]+)%\n([^\n]*)$", re.MULTILINE)
DESC_LIMIT_BYTES = 1 << 20
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+:~-]{0,254}")
_INFO_LIMIT_BYTES = 1 << 20
_SIGNATURE_CHARACTERS = 8192


def packages(repository: str, names: re.Pattern[str], access: RepositoryAccess) -> tuple[RepositoryPackage, ...]:
    """List the packages whose whole name matches."""
    urls = _index_urls(repository, access)

    def check(files: Sequence[bytes]) -> bytes:
        if len(files) > 1:
            check_detached(files[0], files[1], access.keys.keyring, urls[0], access.keys.revoked)
        return files[0]

    data = access.indexes.read(urls, check)
    digest = hashlib.sha256(data).hexdigest()
    key = json.dumps([_FORMAT, "pacman", repository, digest, names.pattern])

    def make() -> tuple[RepositoryPackage, ...]:
        return tuple(_packages(data, repository, names))

    return access.store.cached("repository-packages", key, make, package_codec())


def verify(path: Path, package: RepositoryPackage, access: RepositoryAccess) -> None:
    """Check a package's own signature, if the index is not signed."""
    if access.signed == "index":
        return
    if package.signature:
        signature = base64.b64decode(package.signature)
    else:
        reply = access.downloader.small(f"{package.url}.sig", SIGNATURE_LIMIT_BYTES)
        signature = reply.body if reply else b""
    check_detached(path, signature, access.keys.keyring, f"the package {package}", access.keys.revoked)
    expected = f"{package} {access.architecture}"
    if (found := _own_name(path)) != expected:
        raise UntrustedError(f"expected the package {expected}, and it is {found[:300]!r}")


def outdated(repository: str, access: RepositoryAccess) -> None:
    """Mark a repository's index as outdated."""
    access.indexes.outdated(_index_urls(repository, access))


def order(version: str) -> Any:
    """Return the sort key of a version (vercmp(8))."""
    return version_key(version)


def _index_urls(repository: str, access: RepositoryAccess) -> tuple[str, ...]:
    folder, _, name = repository.partition(" ")
    url = f"{folder.rstrip('/')}/{name}.db"
    return (url, f"{url}.sig") if access.signed == "index" else (url,)


def _packages(data: bytes, repository: str, names: re.Pattern[str]) -> Iterator[RepositoryPackage]:
    folder = repository.partition(" ")[0].rstrip("/")
    try:
        with open_packed_tar(io.BytesIO(data)) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.name.endswith("/desc") else None
                if content and member.size <= DESC_LIMIT_BYTES:
                    fields = dict(_FIELD.findall(content.read().decode("utf-8", "replace")))
                    if names.fullmatch(fields.get("NAME", "")) and _is_sound(fields):
                        yield _package(fields, folder)
    except FAULTS as error:
        raise NetworkError(f"{repository} is not a database of packages, or a damaged one: {error}") from error


def _is_sound(fields: dict[str, str]) -> bool:
    size, signature = fields.get("CSIZE", ""), fields.get("PGPSIG", "")
    if (
        len(signature) > _SIGNATURE_CHARACTERS
        or max(len(fields.get(key, "")) for key in ("NAME", "VERSION")) > MAX_WORD
    ):
        return False
    try:
        base64.b64decode(signature, validate=True)
    except binascii.Error:
        return False
    return (
        size.isdigit()
        and int(size) <= MAX_PACKAGE_BYTES
        and bool(re.fullmatch(r"[0-9a-f]{64}", fields.get("SHA256SUM", "")))
        and bool(_FILE.fullmatch(fields.get("FILENAME", "")))
    )


def _package(fields: dict[str, str], folder: str) -> RepositoryPackage:
    return RepositoryPackage(
        name=fields["NAME"],
        version=fields.get("VERSION", ""),
        url=f"{folder}/{quote(fields['FILENAME'])}",
        size_bytes=int(fields["CSIZE"]),
        checksum=f"sha256:{fields['SHA256SUM']}",
        signature=fields.get("PGPSIG", ""),
    )


def _own_name(path: Path) -> str:
    """Return name, version and architecture of a package's .PKGINFO."""
    try:
        with path.open("rb") as file, open_packed_tar(file) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.name == ".PKGINFO" else None
                if content:
                    text = content.read(_INFO_LIMIT_BYTES).decode("utf-8", "replace")
                    fields = dict(re.findall(r"^(pkgname|pkgver|arch) = (\S+)$", text, re.MULTILINE))
                    return " ".join(fields.get(key, "") for key in ("pkgname", "pkgver", "arch"))
    except FAULTS as error:
        raise UntrustedError(f"{path.name} is not a package, or a damaged one: {error}") from error
    return ""
