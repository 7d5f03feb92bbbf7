"""An RPM's OpenPGP signature of its header, with the files' digest.

Source: rpm.org's reference manual, package format version 4. Old packages have one signature of header and files.
"""

import base64
import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bootmatrix.errors import UntrustedError
from bootmatrix.source.repositories.access import Keys
from bootmatrix.source.repositories.signatures import check_detached

LEAD_BYTES = 96
HEADER_LIMIT_BYTES = 64 << 20
"""Headers list all files; those of kernels have a few hundred KiB."""
_MAGIC = b"\x8e\xad\xe8\x01"
_NAME, _VERSION, _RELEASE, _EPOCH, _ARCH = 1000, 1001, 1002, 1003, 1022
_PAYLOAD_DIGEST, _PAYLOAD_DIGEST_KIND = 5092, 5093
_HEADER_SIGNATURES = (268, 267)
"""RPMSIGTAG_RSA, and RPMSIGTAG_DSA for all other algorithms."""
_OPENPGP = 278
"""Signatures of the header in base64, in newer packages."""
_WHOLE_SIGNATURES = (1002, 1005)
"""RPMSIGTAG_PGP and RPMSIGTAG_GPG: of the header and the files."""
_DIGESTS = {8: "sha256", 9: "sha384", 10: "sha512"}
"""RFC 9580, section 9.5."""
_STRINGS, _BINARY, _STRING_ARRAY, _INT32 = 6, 7, 8, 4


@dataclass(frozen=True)
class _RpmHeader:
    """A header's tags: kind, offset, count; raw bytes, end in the file."""

    tags: dict[int, tuple[int, int, int]]
    raw: bytes
    data_at: int
    end: int

    def text(self, tag: int) -> str:
        """Return the first string of a tag; empty without it."""
        kind, offset, _ = self.tags.get(tag, (0, 0, 0))
        if kind not in {_STRINGS, _STRING_ARRAY}:
            return ""
        return self.raw[self.data_at + offset :].partition(b"\0")[0].decode("ascii", "replace")

    def number(self, tag: int) -> int:
        """Return the first number of a tag; 0 without it."""
        kind, offset, _ = self.tags.get(tag, (0, 0, 0))
        data = self.raw[self.data_at + offset : self.data_at + offset + 4]
        return int.from_bytes(data, "big") if kind == _INT32 and len(data) == 4 else 0

    @property
    def package(self) -> str:
        """The package's name and version as in an index, and its architecture."""
        epoch = self.number(_EPOCH)
        version = f"{f'{epoch}:' if epoch else ''}{self.text(_VERSION)}-{self.text(_RELEASE)}"
        return f"{self.text(_NAME)} {version} {self.text(_ARCH)}"

    def binary(self, tag: int) -> bytes:
        """Return the bytes of a tag; empty without it."""
        kind, offset, count = self.tags.get(tag, (0, 0, 0))
        return self.raw[self.data_at + offset : self.data_at + offset + count] if kind == _BINARY else b""


def check_package(path: Path, name: str, keys: Keys) -> None:
    """Check that a key signed a package, its files, and that it is wanted.

    `name` is name, version and architecture: without a signed index, only the package itself tells them.

    Raises UntrustedError if one of these does not hold, or the package is damaged; HostError if gpgv is missing.
    """
    with path.open("rb") as file:
        try:
            signature = _header(file, LEAD_BYTES)
            header = _header(file, -(-signature.end // 8) * 8)
            own = _header_signature(signature)
        except (struct.error, ValueError) as error:
            raise UntrustedError(f"{name} is not an RPM package, or a damaged one: {error}") from error
        if header.package != name:
            raise UntrustedError(f"expected the package {name}, and it is {header.package[:300]!r}")
        kind = _DIGESTS.get(header.number(_PAYLOAD_DIGEST_KIND), "")
        if own and kind:
            check_detached(header.raw, own, keys.keyring, f"the package {name}", keys.revoked)
            file.seek(header.end)
            if hashlib.file_digest(file, kind).hexdigest() != header.text(_PAYLOAD_DIGEST).lower():
                raise UntrustedError(f"the files of the package {name} are not those of its signed header")
            return
        whole = next(filter(None, map(signature.binary, _WHOLE_SIGNATURES)), b"")
        if not whole:
            raise UntrustedError(f"the package {name} has no signature of its files")
        file.seek(header.end - len(header.raw))
        check_detached(file.read(), whole, keys.keyring, f"the package {name}", keys.revoked)


def _header_signature(signature: _RpmHeader) -> bytes:
    own = next(filter(None, map(signature.binary, _HEADER_SIGNATURES)), b"")
    return own or base64.b64decode(signature.text(_OPENPGP))


def _header(file: BinaryIO, offset: int) -> _RpmHeader:
    """Read a header: 16 bytes, entries of 16 bytes, and their data."""
    file.seek(offset)
    start = file.read(16)
    if len(start) < 16 or not start.startswith(_MAGIC):
        raise ValueError(f"expected a header at byte {offset}")
    count, data_bytes = struct.unpack(">II", start[8:])
    size = 16 * int(count) + int(data_bytes)
    if size > HEADER_LIMIT_BYTES:
        raise ValueError(f"a header of {size} bytes")
    body = file.read(size)
    if len(body) < size:
        raise ValueError("a truncated header")
    tags: dict[int, tuple[int, int, int]] = {}
    for number in range(count):
        tag, kind, at, entries = struct.unpack_from(">4I", body, 16 * number)
        tags.setdefault(tag, (kind, at, entries))
    return _RpmHeader(tags, start + body, 16 + 16 * count, offset + 16 + size)
