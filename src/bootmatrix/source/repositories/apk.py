"""apk repositories of version 2: signed APKINDEX.tar.gz, packages.

Sources: apk-tools' apk-package(5) and apk-repositories(5). A repository is the folder of one architecture.
"""

import base64
import binascii
import gzip
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bootmatrix.errors import BuildError, NetworkError, UntrustedError
from bootmatrix.source.compressed import DamagedArchive
from bootmatrix.source.kernel_formats.apk import VERSION_3, end_of_stream, parts_of
from bootmatrix.source.repositories.access import (
    MAX_PACKAGE_BYTES,
    Keys,
    RepositoryAccess,
    RepositoryPackage,
    package_codec,
)
from bootmatrix.source.repositories.versions import version_key
from bootmatrix.source.safe_archive import FAULTS, open_packed_tar

PACKAGE_KIND = "apk"
_FORMAT = 3
_SIGNATURE = re.compile(r"\.SIGN\.(RSA|RSA256|RSA512)\.([A-Za-z0-9@._-]+\.rsa\.pub)")
CONTROL_LIMIT_BYTES = 16 << 20
INDEX_LIMIT_BYTES = 256 << 20
MAX_STREAMS = 16
"""Signatures and the list; what the file has more than that is nobody's index."""
_TAR_END = gzip.compress(bytes(1024), mtime=0)
_CHECKSUMS = {"Q1": "sha1", "Q2": "sha256"}
"""Prefixes of digests of control data; SHA-1 is what the format has."""


def packages(repository: str, names: re.Pattern[str], access: RepositoryAccess) -> tuple[RepositoryPackage, ...]:
    """List the packages whose whole name matches."""
    url = _index_url(repository)
    data = access.indexes.read((url,), lambda files: _verified(files[0], access.keys, url))
    digest = hashlib.sha256(data).hexdigest()
    key = json.dumps([_FORMAT, "apk", repository, digest, access.architecture, names.pattern])

    def make() -> tuple[RepositoryPackage, ...]:
        return tuple(_packages(_index_text(data, url), repository.rstrip("/"), names, access.architecture))

    return access.store.cached("repository-packages", key, make, package_codec())


def verify(path: Path, package: RepositoryPackage, access: RepositoryAccess) -> None:  # noqa: ARG001  (protocol)
    """Check digests: the index has the control data's, they the files'."""
    kind, expected = _CHECKSUMS.get(package.checksum[:2], ""), package.checksum[2:]
    data = path.read_bytes()
    _check_version(data, package.url)
    try:
        control_at, files_at = parts_of(io.BytesIO(data))
        control, files = data[control_at:files_at], data[files_at:]
        digest = base64.b64encode(hashlib.new(kind, control).digest()).decode() if kind else ""
        info = _member(control, ".PKGINFO").decode("utf-8", "replace") if digest == expected else ""
    except FAULTS as error:
        raise UntrustedError(f"{package.url} is not an apk package, or a damaged one: {error}") from error
    if digest != expected:
        raise UntrustedError(f"{package.url} is corrupt: its control data is not what the index lists")
    datahash = re.search(r"^datahash = ([0-9a-f]{64})$", info, re.MULTILINE)
    if not datahash or datahash[1] != hashlib.sha256(files).hexdigest():
        raise UntrustedError(f"{package.url} is corrupt: its files are not those of its control data")


def outdated(repository: str, access: RepositoryAccess) -> None:
    """Mark a repository's index as outdated."""
    access.indexes.outdated((_index_url(repository),))


def order(version: str) -> Any:
    """Return the sort key of a version."""
    return version_key(version)


def _index_url(repository: str) -> str:
    return f"{repository.rstrip('/')}/APKINDEX.tar.gz"


def _verified(data: bytes, keys: Keys, url: str) -> bytes:
    """Return an index, if a key signed it."""
    parts = _parts_of(data, url)
    try:
        signatures = _signatures(parts[0])
    except FAULTS as error:
        raise UntrustedError(f"{url} is damaged: {error}") from error
    known = [(kind, keys.files[name], data) for kind, name, data in signatures if name in keys.files]
    if not known:
        names = ", ".join(name for _, name, _ in signatures) or "none"
        raise UntrustedError(
            f"{url} is not signed by a key of its distribution: signed by {names}",
            "Update bootmatrix's catalogue (its 'keys'), or name newer keys in one of your own: docs/kernels.md.",
        )
    from bootmatrix.source.repositories.rsa import is_signed  # slow import

    if not any(is_signed(b"".join(parts[1:]), *signature) for signature in known):
        raise UntrustedError(f"{url}: the signature does not fit: it was changed")
    return data


def _check_version(data: bytes, url: str) -> None:
    if data.startswith(VERSION_3):
        raise BuildError(
            f"{url} is of apk 3, which is not supported",
            "Name a repository of apk 2, or add the kernel's own image: bootmatrix kernels add.",
        )


def _parts_of(data: bytes, url: str) -> list[bytes]:
    _check_version(data, url)
    try:
        parts = list(_streams(data))
    except FAULTS as error:
        raise NetworkError(f"{url} is not the index of a repository: {error}", "Check its address.") from error
    if len(parts) < 2:
        raise UntrustedError(f"{url} has no signature")
    return parts


def _streams(data: bytes) -> Iterator[bytes]:
    """Yield the gzip streams of an index, still compressed."""
    file, start = io.BytesIO(data), 0
    for _ in range(MAX_STREAMS):
        if start == len(data):
            return
        end = end_of_stream(file, start, INDEX_LIMIT_BYTES)
        yield data[start:end]
        start = end
    raise DamagedArchive(f"it has more than {MAX_STREAMS} parts")


def _signatures(part: bytes) -> list[tuple[str, str, bytes]]:
    """Return digest, key's name and bytes of the signatures in the first stream."""
    found = []
    for name, data in _members(part):
        match = _SIGNATURE.fullmatch(name)
        if match:
            found.append((match[1], match[2], data))
    return found


def _member(part: bytes, name: str) -> bytes:
    return next((data for path, data in _members(part) if path == name), b"")


def _members(part: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the small files of a stream, which lacks a tar archive's end."""
    with open_packed_tar(io.BytesIO(part + _TAR_END)) as archive:
        for member in archive:
            if member.isreg() and member.size <= CONTROL_LIMIT_BYTES:
                content = archive.extractfile(member)
                yield member.name, content.read() if content else b""


def _index_text(data: bytes, url: str) -> str:
    for part in _parts_of(data, url)[1:]:
        with open_packed_tar(io.BytesIO(part)) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.name == "APKINDEX" else None
                if content and member.size <= INDEX_LIMIT_BYTES:
                    return content.read().decode("utf-8", "replace")
    raise NetworkError(f"{url} lists no packages")


def _packages(text: str, base: str, names: re.Pattern[str], architecture: str) -> Iterator[RepositoryPackage]:
    for paragraph in text.split("\n\n"):
        fields = dict(line.split(":", 1) for line in paragraph.splitlines() if line[1:2] == ":")
        name, version, size, checksum = (fields.get(key, "") for key in "PVSC")
        is_sound = size.isdigit() and int(size) <= MAX_PACKAGE_BYTES and _is_checksum(checksum)
        if fields.get("A") != architecture:  # a mirror may serve another folder's signed index
            continue
        if names.fullmatch(name) and is_sound and re.fullmatch(r"[A-Za-z0-9._+~-]{1,256}", version):
            yield RepositoryPackage(
                name=name, version=version, url=f"{base}/{name}-{version}.apk", size_bytes=int(size), checksum=checksum
            )


def _is_checksum(text: str) -> bool:
    try:
        return text[:2] in _CHECKSUMS and bool(base64.b64decode(text[2:], validate=True))
    except binascii.Error:
        return False
