"""A guest's file, or a tree as a tar: the host gets one file."""

import errno
import tarfile
from pathlib import Path
from typing import BinaryIO

from bootmatrix.errors import GuestFileError
from bootmatrix.guest.frames import AgentFault
from bootmatrix.guest.inbound import TreeCheck, fault_cause
from bootmatrix.guest.records import RecordReader, RecordType, TreeRecord

MAX_FILES = 100_000
REPORTS = (".xml", ".tap")
BLOCK_BYTES = tarfile.BLOCKSIZE
TAR_TYPES = {RecordType.FILE: tarfile.REGTYPE, RecordType.FOLDER: tarfile.DIRTYPE, RecordType.LINK: tarfile.SYMTYPE}


class ArchiveReceiver(TreeCheck):
    """Receive a file, or a folder as a tar with modes, times and links.

    `plain` and `tar` are where the one or the other is written. What exceeds a limit is left out, and noted in `cut`.
    `lack` is the first file left out that may be a report of tests, by its suffix.
    """

    def __init__(self, source: str, plain: Path, tar: Path, limit_bytes: int, max_files: int | None = None) -> None:
        super().__init__(source, MAX_FILES if max_files is None else max_files)
        self.path: Path | None = None
        self.size_bytes = self.files = 0
        self.cut = self.lack = ""
        self._plain, self._tar = plain, tar
        self._limit = self._left = limit_bytes
        self._reader = RecordReader()
        self._out: BinaryIO | None = None
        self._written = 0
        self._is_over = False

    @property
    def is_tree(self) -> bool:
        """True if it is a folder."""
        return self.path == self._tar

    def feed(self, data: bytes) -> None:
        """Take what the agent's `get` sends.

        Raises GuestFileError if it cannot be fetched, AgentFault if the guest does not keep to the protocol, OSError if
        it cannot be written.
        """
        for item in self._reader.feed(data):
            self._write(item) if isinstance(item, bytes) else self._begin(item)

    def finish(self) -> None:
        """End the file. Raises AgentFault if it is incomplete."""
        if not self._is_over or not self._reader.is_between:
            raise AgentFault("an incomplete tree")
        self.close()

    def close(self) -> None:
        """Close the file. A tar gets its end."""
        if self._out is None:
            return
        with self._out as out:
            self._pad(out)
            if self.is_tree:
                out.write(bytes(2 * BLOCK_BYTES))
        self._out = None

    def _begin(self, record: TreeRecord) -> None:
        if self._is_over:
            raise AgentFault("a record after the last one")
        if record.type is RecordType.END:
            self._is_over = True
        elif record.type is RecordType.FAULT:
            self._fault(record)
        else:
            self._check(record)
            self._add(record)

    def _fault(self, record: TreeRecord) -> None:
        text = f"{self._named(record)}: {fault_cause(record.size, self._limit)}"
        if not record.path:
            raise GuestFileError(text)
        if record.path.lower().endswith(REPORTS):
            self.lack = self.lack or text
        if record.size == errno.EFBIG:
            self.cut = self.cut or text
        else:
            self._note(text)

    def _add(self, record: TreeRecord) -> None:
        if record.type is RecordType.OTHER:
            self._leave_out(record)
        elif record.type is RecordType.FILE and record.size > self._left:
            raise AgentFault("more than it was asked for")
        elif record.type is not RecordType.LINK or self._may_link(record):
            self._put(record)

    def _put(self, record: TreeRecord) -> None:
        if self._out is None:
            self.path = self._plain if record.type is RecordType.FILE else self._tar
            self.path.parent.mkdir(exist_ok=True)
            self._out = self.path.open("xb")
        if record.type is RecordType.FILE:
            self._left -= record.size
            self.size_bytes += record.size
            self.files += 1
        if self.is_tree and record.path:
            self._pad(self._out)
            self._out.write(_header(record))

    def _write(self, data: bytes) -> None:
        assert self._out
        self._out.write(data)
        self._written += len(data)

    def _pad(self, out: BinaryIO) -> None:
        if self.is_tree:
            out.write(bytes(-self._written % BLOCK_BYTES))
            self._written = 0


def _header(record: TreeRecord) -> bytes:
    """Return the header of an entry; names that are not UTF-8 are kept."""
    info = tarfile.TarInfo(record.path)
    info.type = TAR_TYPES[record.type]
    info.size = record.size if record.type is RecordType.FILE else 0
    info.mode, info.mtime = record.mode & 0o777, max(0, min(record.mtime_s, 1 << 33))
    info.linkname = record.target
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
