"""XML of rpm-md repositories, as streams by expat, without a DTD."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from xml.parsers import expat

from bootmatrix.errors import NetworkError
from bootmatrix.source.compressed import DamagedArchive
from bootmatrix.source.repositories.access import DIGESTS, MAX_PACKAGE_BYTES, MAX_WORD, RepositoryPackage
from bootmatrix.source.safe_archive import FAULTS, unpacking

PIECE_BYTES = 1 << 16
MAX_TEXT = 1 << 12
"""Characters of the elements that are read: names, versions, digests."""
MAX_PACKAGES = 10_000
"""Matching packages of one repository."""
MAX_PRIMARY_BYTES = 2 << 30
"""Limit of the packed list of packages; those of the largest distributions have 0.1 GB."""
MAX_TAG_BYTES = 4 << 20
"""Limit of one tag with its attributes, which expat reads again with each piece, and holds in memory."""
MAX_DEPTH, MAX_NAMES = 100, 10_000
"""Limits of open elements, and of different names of elements and attributes: expat keeps all of them."""
_TEXTS = {"name", "arch", "checksum", "size"}
"""Elements whose text is read. In primary.xml `size` has attributes instead."""
_READ = {*_TEXTS, "version", "location"}
"""Elements of which anything is read."""


@dataclass(frozen=True)
class Primary:
    """repomd.xml's list of packages; `href` is below the repository."""

    href: str
    checksum: str
    size_bytes: int


@dataclass
class _Element:
    """The attributes and texts of an element's children, by their names."""

    attributes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


class _Collector:
    """Calls `take` with each element of a name, and forgets it."""

    def __init__(self, name: str, take: Callable[[_Element, Mapping[str, str]], None]) -> None:
        self._name, self._take = name, take
        self._element: _Element | None = None
        self._own: Mapping[str, str] = {}
        self._text: list[str] | None = None
        self._fed = self._depth = 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._doctype

    def feed(self, data: bytes) -> None:
        """Parse a piece. Raises ExpatError or ValueError if it is not such XML."""
        self._fed += len(data)
        self.parser.Parse(data, False)
        if self._fed - self.parser.CurrentByteIndex > MAX_TAG_BYTES:
            raise ValueError(f"a tag of more than {MAX_TAG_BYTES >> 20} MiB")
        if len(self.parser.intern) > MAX_NAMES:
            raise ValueError(f"more than {MAX_NAMES} different names")

    def end(self) -> None:
        """End the document. Raises ExpatError if it is incomplete."""
        self.parser.Parse(b"", True)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"elements more than {MAX_DEPTH} deep")
        name = tag.rpartition(":")[2]
        if name == self._name:
            self._element, self._own = _Element(), attributes
        elif self._element is not None and name in _READ and name not in self._element.attributes:
            self._element.attributes[name] = attributes
            if name in _TEXTS:
                self._text = []
                self.parser.CharacterDataHandler = self._characters

    def _characters(self, text: str) -> None:
        if self._text is not None and sum(map(len, self._text)) < MAX_TEXT:
            self._text.append(text)

    def _end(self, tag: str) -> None:
        self._depth -= 1
        name = tag.rpartition(":")[2]
        if self._text is not None and self._element is not None:
            self._element.texts[name] = "".join(self._text).strip()
            self._text, self.parser.CharacterDataHandler = None, None
        if name == self._name and self._element is not None:
            self._take(self._element, self._own)
            self._element = None

    def _doctype(self, *_: object) -> None:
        raise ValueError("it has a document type declaration")


def read_primary(data: bytes, label: str) -> Primary:
    """Read repomd.xml.

    Raises NetworkError if it is not an index of a repository, or has no list of packages with a known digest.
    """
    lists: list[Primary] = []

    def take(element: _Element, own: Mapping[str, str]) -> None:
        href = element.attributes.get("location", {}).get("href", "")
        size = element.texts.get("size", "") or "0"
        if own.get("type") == "primary" and _is_relative(href) and _is_size(size, MAX_PRIMARY_BYTES):
            lists.append(Primary(href, _checksum(element), int(size)))

    collector = _Collector("data", take)
    try:
        for start in range(0, len(data), PIECE_BYTES):
            collector.feed(data[start : start + PIECE_BYTES])
        collector.end()
    except (expat.ExpatError, ValueError) as error:
        raise NetworkError(
            f"{label} is not the index of a repository: {error}",
            "Possible causes are a network's log-in page and a wrong address in the catalogue.",
        ) from error
    primary = next((entry for entry in lists if entry.checksum), None)
    if primary is None:
        limits = f"a digest of {', '.join(DIGESTS)} and at most {MAX_PRIMARY_BYTES >> 30} GiB"
        raise NetworkError(f"{label} names no list of packages with {limits}")
    return primary


def read_packages(file: Path, base: str, names: re.Pattern[str], architecture: str) -> tuple[RepositoryPackage, ...]:
    """Read the packages of primary.xml whose names match, for an architecture.

    Raises NetworkError if the file is damaged.
    """
    packages: list[RepositoryPackage] = []

    def take(element: _Element, _own: Mapping[str, str]) -> None:
        name, version = element.texts.get("name", ""), element.attributes.get("version", {})
        href, size = (element.attributes.get(tag, {}) for tag in ("location", "size"))
        if not names.fullmatch(name) or element.texts.get("arch") != architecture:
            return
        bytes_text, checksum = size.get("package", ""), _checksum(element)
        if not (checksum and _is_size(bytes_text, MAX_PACKAGE_BYTES)):
            return
        path = href.get("href", "")
        if max(len(name), len(_version(version))) > MAX_WORD or len(path) > MAX_TEXT:
            return
        if _is_relative(path) and len(packages) < MAX_PACKAGES:
            packages.append(
                RepositoryPackage(
                    name=name,
                    version=_version(version),
                    url=urljoin(base, path),
                    size_bytes=int(bytes_text),
                    checksum=checksum,
                )
            )

    collector = _Collector("package", take)
    try:
        with file.open("rb") as packed:
            plain = unpacking(packed)
            while piece := plain.read(PIECE_BYTES):
                collector.feed(piece)
        collector.end()
    except (expat.ExpatError, DamagedArchive, *FAULTS) as error:
        raise NetworkError(f"the list of packages of {base} is damaged: {error}") from error
    return tuple(packages)


def _is_size(text: str, limit_bytes: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= limit_bytes


def _version(attributes: Mapping[str, str]) -> str:
    epoch, version, release = (attributes.get(key, "") for key in ("epoch", "ver", "rel"))
    return f"{f'{epoch}:' if epoch not in {'', '0'} else ''}{version}-{release}"


def _checksum(element: _Element) -> str:
    """Return `sha256:HEX`; empty for digests that are not supported."""
    kind = element.attributes.get("checksum", {}).get("type", "").lower()
    text = element.texts.get("checksum", "").lower()
    return f"{kind}:{text}" if kind in DIGESTS and re.fullmatch(r"[0-9a-f]{64,128}", text) else ""


def _is_relative(href: str) -> bool:
    """Return whether a path stays below the repository."""
    url = urlsplit(href)
    return bool(href) and not (url.scheme or url.netloc or href.startswith("/")) and ".." not in href.split("/")
