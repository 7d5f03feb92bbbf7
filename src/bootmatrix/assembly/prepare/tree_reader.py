"""A guest's tree, with owners and capabilities, from the records of its agent. The guest is hostile."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

from bootmatrix.assembly.slices import Slice
from bootmatrix.assembly.tree import Kind, Node, Tree
from bootmatrix.assembly.tree_limits import MAX_NODES
from bootmatrix.errors import BuildError
from bootmatrix.guest.frames import AgentFault
from bootmatrix.guest.inbound import fault_cause
from bootmatrix.guest.records import FileBytes, RecordReader, RecordType, TreeRecord
from bootmatrix.store.host_faults import host_faults

DEVICES: dict[int, Kind] = {stat.S_IFCHR: "char", stat.S_IFBLK: "block", stat.S_IFIFO: "fifo"}
CAPABILITY = "security.capability"


class TreeReader:
    """Builds a tree of what the agent's `get` sends with owners. Contents are appended to a file.

    `limit_bytes` limits the contents of all files.
    """

    def __init__(self, path: Path, file: BinaryIO, limit_bytes: int) -> None:
        self.tree = Tree()
        self._path, self._file, self._limit, self._left = path, file, limit_bytes, limit_bytes
        self._reader = RecordReader()
        self._owner: tuple[int, ...] = ()
        self._xattrs: tuple[tuple[str, str], ...] = ()
        self._links: dict[tuple[int, ...], Node] = {}
        self._is_over = False
        self._count = 0

    def feed(self, data: bytes) -> None:
        """Take bytes.

        Raises:
            AgentFault: they break the protocol.
            BuildError: the guest cannot send a file, or the tree is too large.
            HostError: the disk is full.
        """
        for item in self._reader.feed(data):
            if isinstance(item, FileBytes):
                with host_faults(self._path.parent):
                    self._file.write(item.data)
            elif self._is_over:
                raise AgentFault("a record after the last one")
            else:
                self._take(item)

    def finish(self) -> Tree:
        """Return the tree.

        Raises:
            AgentFault: it is incomplete.
        """
        if not self._is_over or not self._reader.is_between:
            raise AgentFault("an incomplete tree")
        with host_faults(self._path.parent):
            self._file.flush()
        return self.tree

    def _take(self, record: TreeRecord) -> None:
        if record.type is RecordType.END:
            self._is_over = True
        elif record.type is RecordType.FAULT:
            raise BuildError(f"the guest cannot send /{record.path}: {fault_cause(record.size, self._limit)}")
        elif record.type is RecordType.OWNER:
            self._take_owner(record.target)
        else:
            self._put(record)
            self._owner, self._xattrs = (), ()

    def _take_owner(self, text: str) -> None:
        words = text.split(" ")
        try:
            *numbers, capabilities = words
            self._owner = tuple(map(int, numbers))
            value = bytes.fromhex(capabilities).decode("utf-8", "surrogateescape")
        except ValueError:
            raise AgentFault("an invalid owner") from None
        if len(self._owner) != 7 or min(self._owner) < 0:
            raise AgentFault("an invalid owner")
        self._xattrs = ((CAPABILITY, value),) if value else ()

    def _put(self, record: TreeRecord) -> None:
        if not self._owner:
            raise AgentFault("a record without an owner")
        self._count += 1
        if self._count > MAX_NODES:  # also of one path again and again
            raise BuildError(f"the guest sends more than {MAX_NODES} files and folders")
        parts = record.path.split("/")
        if record.path and any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise AgentFault(f"the path {record.path[:200]!r}")
        node = self._node(record)
        if node is not None and record.path:
            self.tree.put(record.path, node)

    def _node(self, record: TreeRecord) -> Node | None:
        uid, gid, links, device, inode, major, minor = self._owner
        mode = record.mode & 0o7777
        if record.type is RecordType.FOLDER:
            return Node("dir", mode, uid, gid)
        if record.type is RecordType.LINK:
            return Node("symlink", 0o777, uid, gid, target=record.target)
        if record.type is RecordType.OTHER:
            kind = DEVICES.get(stat.S_IFMT(record.mode))
            numbers = (major, minor) if kind in {"char", "block"} else (0, 0)
            return Node(kind, mode, uid, gid, device=numbers) if kind else None
        self._left -= record.size
        if self._left < 0:
            raise BuildError(f"the guest's files are larger than {self._limit >> 20} MiB")
        data = Slice(self._path, self._file.tell(), record.size)
        node = Node("file", mode, uid, gid, data=data, xattrs=self._xattrs)
        return self._links.setdefault((device, inode), node) if links > 1 else node
