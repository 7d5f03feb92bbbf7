"""Records of files on the agent's channel (guest/agent_tree.h). Pure."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from bootmatrix.guest.frames import AgentFault, kind_of

HEAD = struct.Struct(">cIQqHH")
"""Type, mode, size, seconds since 1970, lengths of path and target."""
MAX_TEXT_BYTES = 4095
PARTIAL = ".bootmatrix-partial-"
"""Begins the names of folders of trees that are not whole yet, beside their targets."""


class RecordType(Enum):
    """Types of records."""

    FILE = b"f"
    FOLDER = b"d"
    LINK = b"l"
    OTHER = b"o"
    OWNER = b"m"
    FAULT = b"x"
    END = b"e"


@dataclass(frozen=True)
class TreeRecord:
    """A file, folder or link; `path` below the top is empty for the top."""

    type: RecordType
    path: str = ""
    mode: int = 0
    size: int = 0
    mtime_s: int = 0
    target: str = ""

    def encoded(self) -> bytes:
        """Return the record's head and texts; a file's bytes follow."""
        path, target = (text.encode("utf-8", "surrogateescape") for text in (self.path, self.target))
        head = HEAD.pack(self.type.value, self.mode, self.size, self.mtime_s, len(path), len(target))
        return head + path + target


class RecordReader:
    """Records and contents out of a stream of bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._left = 0

    def feed(self, data: bytes) -> Iterator[TreeRecord | bytes]:
        """Yield records and parts of files. Raises AgentFault for invalid bytes."""
        self._buffer += data
        while self._buffer:
            if self._left:
                part = bytes(self._buffer[: self._left])
                del self._buffer[: len(part)]
                self._left -= len(part)
                yield part
                continue
            record = self._next()
            if record is None:
                return
            self._left = record.size if record.type is RecordType.FILE else 0
            yield record

    @property
    def is_between(self) -> bool:
        """True if no record is incomplete."""
        return not self._buffer and not self._left

    def _next(self) -> TreeRecord | None:
        if len(self._buffer) < HEAD.size:
            return None
        kind, mode, size, mtime_s, path_bytes, target_bytes = HEAD.unpack_from(self._buffer)
        if path_bytes > MAX_TEXT_BYTES or target_bytes > MAX_TEXT_BYTES:
            raise AgentFault("a path that is too long")
        middle, end = HEAD.size + path_bytes, HEAD.size + path_bytes + target_bytes
        if len(self._buffer) < end:
            return None
        path, target = (
            bytes(part).decode("utf-8", "surrogateescape")
            for part in (self._buffer[HEAD.size : middle], self._buffer[middle:end])
        )
        del self._buffer[:end]
        return TreeRecord(kind_of(RecordType, kind, "a record of type"), path, mode, size, mtime_s, target)
