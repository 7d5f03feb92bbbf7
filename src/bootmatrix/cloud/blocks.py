"""Blocks of a disk that are not zero, with their checksums."""

import base64
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bootmatrix.fsio import write_atomic

BLOCK_BYTES = 512 << 10
"""The block of EBS's direct API."""


@dataclass(frozen=True)
class Block:
    """A block that is not zero."""

    index: int
    data: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the data."""
        return hashlib.sha256(self.data).digest()

    @property
    def checksum(self) -> str:
        """The digest in base64, as EBS wants it."""
        return base64.b64encode(self.digest).decode()


def blocks(disk: Path) -> Iterator[Block]:
    """Yield a disk's non-zero blocks, padded; holes are not read."""
    size = disk.stat().st_size
    with disk.open("rb") as file:
        position = 0
        while position < size:
            position = _data_at(file, position, size)
            if position >= size:
                return
            position -= position % BLOCK_BYTES
            file.seek(position)
            data = file.read(BLOCK_BYTES)
            if data.count(0) != len(data):
                yield Block(position // BLOCK_BYTES, data.ljust(BLOCK_BYTES, b"\0"))
            position += BLOCK_BYTES


def digest_of(disk: Path) -> str:
    """Return a digest of a disk's size and of its blocks that are not zero."""
    digest = hashlib.sha256(f"{disk.stat().st_size}".encode())
    for block in blocks(disk):
        digest.update(f" {block.index} ".encode() + block.digest)
    return digest.hexdigest()


def _data_at(file: BinaryIO, position: int, size: int) -> int:
    """Return where the next data is; the end of the file if the rest is a hole."""
    try:
        return os.lseek(file.fileno(), position, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else position


class Progress:
    """The state of an upload in a file, from which the next run goes on."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self.snapshot = ""
        self.done: set[int] = set()
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            if saved["key"] == key:
                self.snapshot, self.done = str(saved["snapshot"]), {int(index) for index in saved["done"]}
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def save(self) -> None:
        """Write the state."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"key": self._key, "snapshot": self.snapshot, "done": sorted(self.done)})
        write_atomic(self._path, text.encode())

    def end(self) -> None:
        """Forget the upload: it is complete, or its snapshot is gone."""
        self._path.unlink(missing_ok=True)
        self.snapshot, self.done = "", set()
