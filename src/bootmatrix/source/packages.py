"""Package lists of the archive (Packages files), reduced to the used fields.

The reduced lists are kept in the store.
"""

import gzip
import json
import lzma
import re
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from debian.debian_support import Version

from bootmatrix.errors import NetworkError
from bootmatrix.model import Package
from bootmatrix.model.kernel import package_list
from bootmatrix.source.compressed import OPENERS
from bootmatrix.source.deb import NEEDED_FIELDS
from bootmatrix.source.reduced_index import needed_part, reduced_list
from bootmatrix.store import TEXT, Codec, Store

LIMIT_BYTES = 512 << 20
"""Debian's largest Packages files have 70 MB."""
_FORMAT = 1
_REDUCED_FORMAT = 2
_FIELD = re.compile(
    rb"^(Package|Version|Architecture|Filename|Size|SHA256|Pre-Depends|Depends|Provides):[ \t]*(.*(?:\n[ \t].*)*)$",
    re.MULTILINE,
)
_KERNEL = re.compile(rb"^Package: linux-(?:image|binary|modules|base)-\d", re.MULTILINE)
_SCHEMA = """
create table packages (
    id integer primary key, name text, version text, architecture text, filename text, size_bytes integer,
    sha256 text, depends text, provides text);
create table provides (name text, id integer);
"""
_COLUMNS = "p.name, p.version, p.architecture, p.filename, p.size_bytes, p.sha256, p.depends, p.provides"


class Index:
    """One suite's packages for one architecture. Not thread-safe; to be closed."""

    def __init__(self, suite: str, path: Path) -> None:
        self._suite = suite
        self._database = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)

    def close(self) -> None:
        self._database.close()

    def named(self, name: str) -> list[Package]:
        """Return the packages of this name, newest first."""
        return self._select("packages p where p.name = ?", name)

    def providing(self, name: str) -> list[Package]:
        """Return the packages that provide this name, by name, newest first."""
        return self._select("provides v join packages p using (id) where v.name = ?", name)

    def at(self, filename: str) -> list[Package]:
        """Return the package of this path in the archive."""
        return self._select("packages p where p.filename = ?", filename)

    def names(self) -> Iterator[str]:
        """Iterate over the names of packages and of what they provide."""
        for row in self._database.execute("select name from packages union select name from provides"):
            yield row[0]

    def _select(self, condition: str, name: str) -> list[Package]:
        rows = self._database.execute(f"select {_COLUMNS} from {condition}", (name,))  # noqa: S608  (no input in it)
        return newest_first(_package(row, self._suite) for row in rows)


class IndexChain:
    """Several indexes, the preferred first."""

    def __init__(self, indexes: Sequence[Index]) -> None:
        self._indexes = indexes

    def named(self, name: str) -> list[Package]:
        return [package for index in self._indexes for package in index.named(name)]

    def at(self, filename: str) -> Package | None:
        return next((package for index in self._indexes for package in index.at(filename)), None)

    def providing(self, name: str) -> list[Package]:
        return [package for index in self._indexes for package in index.providing(name)]

    def names(self) -> Iterator[str]:
        for index in self._indexes:
            yield from index.names()


def package_codec() -> Codec[tuple[Package, ...]]:
    """Return the codec of a list of packages."""
    packages = package_list()
    return Codec(packages.validate_json, packages.dump_json)


def newest_first(packages: Iterable[Package]) -> list[Package]:
    """Sort packages by name, and by version with the newest first."""
    by_version = sorted(packages, key=lambda package: Version(package.version), reverse=True)
    return sorted(by_version, key=lambda package: package.name)


def open_index(file: Path, sha256: str, suite: str, store: Store) -> Index:
    """Open the index of a compressed Packages file of this digest.

    It is made once, and kept in the store.

    Raises NetworkError if the file is invalid.
    """

    def make() -> str:
        with _one_at_a_time:
            return store.add_bytes(_database(_paragraphs(file)))

    digest = store.cached("index", f"{_FORMAT} {sha256}", make, TEXT, store.is_sound)
    return Index(suite, store.verified(digest))


def reduced_index(file: Path, sha256: str, store: Store, only: Iterable[str] = ()) -> Path:
    """Return a Packages file's reduced list by digest, made once.

    With `only` it has packages of these names and what they may need.

    Raises NetworkError if the file is invalid.
    """

    def make() -> str:
        with _one_at_a_time:
            return store.add_bytes(reduced_list(_paragraphs(file)))

    whole = store.verified(store.cached("reduced", f"{_REDUCED_FORMAT} {sha256}", make, TEXT, store.is_sound))
    if not (names := sorted(set(only))):
        return whole

    def make_part() -> str:
        return store.add_bytes(needed_part(whole.read_bytes(), names))

    key = json.dumps([_REDUCED_FORMAT, sha256, names])
    return store.verified(store.cached("reduced", key, make_part, TEXT, store.is_sound))


def kernel_packages(sha256: str, suite: str, store: Store, file: Path | None = None) -> tuple[Package, ...] | None:
    """Return the kernel packages of a compressed Packages file of this digest.

    Without `file`, return None if they are not cached.

    Raises NetworkError if the file is invalid.
    """
    key = json.dumps([_FORMAT, sha256, suite])
    if file is None:
        record = store.memo("kernels", key)
        return package_codec().load(record) if record is not None else None
    return store.cached("kernels", key, lambda: _read_kernels(file, suite), package_codec())


def _read_kernels(file: Path, suite: str) -> tuple[Package, ...]:
    return tuple(package for package in select_packages(file, suite, _KERNEL) if "-dbg" not in package.name)


def select_packages(file: Path, suite: str, paragraphs: re.Pattern[bytes]) -> tuple[Package, ...]:
    """Read matching paragraphs of a Packages file, newest first.

    Raises NetworkError if the file is invalid.
    """
    with _one_at_a_time:
        rows = [_row(paragraph) for paragraph in _paragraphs(file) if paragraphs.search(paragraph)]
    return tuple(newest_first(_package(row, suite) for row in rows if row))


Row = tuple[str, str, str, str, int, str, str, str]


_one_at_a_time = threading.Lock()
"""Parsing a list needs several times its 70 MB of memory, which guests need too."""


def _paragraphs(file: Path) -> list[bytes]:
    with file.open("rb") as compressed:
        magic = compressed.read(6)
        compressed.seek(0)
        try:
            text = _uncompressed(compressed, magic)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise NetworkError(f"cannot decompress the archive's list of packages: {error}") from error
    if len(text) > LIMIT_BYTES:
        raise NetworkError(f"the archive's list of packages is larger than the limit of {LIMIT_BYTES} bytes")
    return text.split(b"\n\n")


def _uncompressed(file: BinaryIO, magic: bytes) -> bytes:
    if magic.startswith(b"\x1f\x8b"):
        with gzip.open(file) as plain:
            return plain.read(LIMIT_BYTES + 1)
    stream, text = OPENERS[".xz"](file), bytearray()
    while len(text) <= LIMIT_BYTES and (data := stream.read(1 << 20)):
        text += data
    return bytes(text[: LIMIT_BYTES + 1])


def _row(paragraph: bytes) -> Row | None:
    """The fields of one package; None for what cannot be downloaded."""
    fields = {name: b" ".join(value.split()).decode(errors="replace") for name, value in _FIELD.findall(paragraph)}
    if not all(pattern.fullmatch(fields.get(name, "")) for name, pattern in NEEDED_FIELDS.items()):
        return None
    fixed = (fields[b"Package"], fields[b"Version"], fields[b"Architecture"], fields[b"Filename"])
    depends = ", ".join(fields[name] for name in (b"Pre-Depends", b"Depends") if name in fields)
    return (*fixed, int(fields[b"Size"]), fields[b"SHA256"], depends, fields.get(b"Provides", ""))


def _package(row: Row, suite: str) -> Package:
    name, version, architecture, filename, size_bytes, sha256, depends, provides = row
    return Package(
        name=name,
        version=version,
        architecture=architecture,
        suite=suite,
        filename=filename,
        size_bytes=size_bytes,
        sha256=sha256,
        depends=_items(depends),
        provides=_items(provides),
    )


def _items(text: str) -> tuple[str, ...]:
    return tuple(item for part in text.split(",") if (item := part.strip()))


def _database(paragraphs: Iterable[bytes]) -> bytes:
    """The rows as SQLite: Python has it, and lookups read few pages."""
    rows = [row for row in map(_row, paragraphs) if row]
    provided = [
        (item.split(" ")[0].split("(")[0], number)
        for number, row in enumerate(rows)
        if row[7]
        for item in _items(row[7])
    ]
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(_SCHEMA)
        database.executemany(
            "insert into packages values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((number, *row) for number, row in enumerate(rows)),
        )
        database.executemany("insert into provides values (?, ?)", provided)
        database.executescript("create index by_name on packages (name); create index by_provided on provides (name);")
        database.commit()
        return database.serialize()
