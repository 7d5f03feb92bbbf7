"""A guest's tree by its hostile agent, and the difference as a layer."""

import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from bootmatrix.assembly.slices import Slice
from bootmatrix.assembly.tree import WHITEOUT, Kind, Node, Tree, text_file
from bootmatrix.assembly.tree_limits import MAX_NODES
from bootmatrix.errors import BuildError
from bootmatrix.guest.frames import AgentFault
from bootmatrix.guest.inbound import fault_cause
from bootmatrix.guest.records import RecordReader, RecordType, TreeRecord
from bootmatrix.store.host_faults import host_faults

DEVICES: dict[int, Kind] = {stat.S_IFCHR: "char", stat.S_IFBLK: "block", stat.S_IFIFO: "fifo"}
CAPABILITY = "security.capability"


class TreeReader:
    """Builds a tree of what `get` sends with owners; contents go to a file.

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

        Raises AgentFault if they break the protocol; BuildError if the guest cannot send a file, or the tree is too
        large; HostError if the disk is full.
        """
        for item in self._reader.feed(data):
            if isinstance(item, bytes):
                with host_faults(self._path.parent):
                    self._file.write(item)
            elif self._is_over:
                raise AgentFault("a record after the last one")
            else:
                self._take(item)

    def finish(self) -> Tree:
        """Return the tree. Raises AgentFault if it is incomplete."""
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


LEFT_OUT = (
    *("dev", "proc", "sys", "etc/hosts", "etc/resolv.conf", "etc/mtab", "etc/hostname", ".dockerenv"),
    *("var/lib/apt/lists", "var/cache/apt", "var/log/apt", "var/log/dpkg.log", "var/cache/debconf/config.dat-old"),
    *("var/cache/debconf/templates.dat-old", "var/lib/dpkg/status-old", "var/cache/ldconfig"),
)
"""Files of the guest and not of the image, and those that have times in them or can be fetched again."""


def difference(before: Tree, after: Tree) -> Tree:
    """Return a layer's content: changed and new files, and whiteouts."""
    layer = Tree()
    for path, node in after.items():
        if not _is_left_out(path) and not _is_same(before.nodes.get(path), node):
            _put_parents(layer, after, path)
            layer.put(path, node)
    for path, _ in before.items():
        parent = path.rpartition("/")[0]
        is_top = not parent or (parent in after.nodes and after.nodes[parent].kind == "dir")
        if path not in after.nodes and is_top and not _is_left_out(path):
            _put_parents(layer, after, path)
            layer.put(f"{parent}/{WHITEOUT}{path.rpartition('/')[2]}".lstrip("/"), text_file(""))
    return layer


def _is_left_out(path: str) -> bool:
    return any(path == pattern or path.startswith(f"{pattern}/") for pattern in LEFT_OUT)


def _put_parents(layer: Tree, after: Tree, path: str) -> None:
    """Add the folders of a path as they are: a layer's folders replace those below."""
    for folder in reversed(PurePosixPath(path).parents[:-1] if "/" in path else ()):
        if str(folder) not in layer.nodes:
            layer.put(str(folder), after.nodes[str(folder)])


def _is_same(old: Node | None, new: Node) -> bool:
    if old is None:
        return False
    if old.kind == "symlink" == new.kind:
        return old.target == new.target and (old.uid, old.gid) == (new.uid, new.gid)
    is_alike = (old.kind, old.mode, old.uid, old.gid, old.device) == (new.kind, new.mode, new.uid, new.gid, new.device)
    if not is_alike or new.kind != "file":
        return is_alike
    has_capabilities = bool(new.xattrs) and old.xattrs != new.xattrs
    return not has_capabilities and old.has_data_of(new)
