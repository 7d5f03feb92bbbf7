"""A file tree in memory, from which tar and cpio archives are written.

Paths are relative to the root, with neither `.` nor `..`. Links are followed inside the tree only, as in a chroot:
a hostile archive cannot reach the host.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import translate
from pathlib import Path
from typing import BinaryIO, Literal

from bootmatrix.assembly.slices import PIECE_BYTES, Slice, SparseSlice, Spool
from bootmatrix.assembly.tree_limits import (
    MAX_ENTRIES,
    MAX_HOLES_BYTES,
    MAX_LINKS,
    MAX_NAMES_BYTES,
    MAX_NODES,
    MAX_STEPS,
    MAX_TREE_BYTES,
    check_lengths,
    check_numbers,
    clean,
)
from bootmatrix.errors import BuildError
from bootmatrix.source.safe_archive import FAULTS, XATTR, PaxArchive, extents_of

Kind = Literal["file", "dir", "symlink", "char", "block", "fifo"]

EPOCH_S = 1492533000
"""2017-04-18T16:30Z, the time that LinuxKit gives to what it generates: images do not depend on when they are made."""
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
"""Before the name of a file that a layer takes away; and in the place of all that lower layers have in a folder."""
KEPT_XATTRS = ("security.capability", "user.")
"""Others steer the host's or an overlay's own business, `trusted.overlay.redirect` for instance."""


@dataclass(frozen=True, eq=False)
class Node:
    """A file, folder, link or device. One node under two paths is a hard link.

    `xattrs` are an image's extended attributes by name: capabilities, and the user's own. A tar archive has them,
    an initrd does not.
    """

    kind: Kind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    target: str = ""
    data: bytes | Slice = b""
    device: tuple[int, int] = (0, 0)
    xattrs: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Length of the data in bytes."""
        return self.data.size if isinstance(self.data, Slice) else len(self.data)

    def read(self) -> bytes:
        """Return the data."""
        return self.data.read() if isinstance(self.data, Slice) else self.data

    def open(self) -> BinaryIO:
        """Open a file at the beginning of the data; it may extend beyond the end."""
        return self.data.open() if isinstance(self.data, Slice) else io.BytesIO(self.data)

    def pieces(self) -> Iterator[bytes]:
        """Yield the data in pieces."""
        return self.data.pieces() if isinstance(self.data, Slice) else iter((self.data,))

    def has_data_of(self, other: Node) -> bool:
        """Return whether the data is equal, without holding it in memory."""
        if self.data == other.data or self.size != other.size:
            return self.data == other.data
        with self.open() as own, other.open() as others:
            sizes = (min(PIECE_BYTES, self.size - at) for at in range(0, self.size, PIECE_BYTES))
            return all(own.read(size) == others.read(size) for size in sizes)


def directory(mode: int = 0o755) -> Node:
    """Return a folder owned by root."""
    return Node("dir", mode)


def text_file(text: str, mode: int = 0o644) -> Node:
    """Return a file owned by root."""
    return Node("file", mode, data=text.encode())


def symlink(target: str) -> Node:
    """Return a symbolic link."""
    return Node("symlink", 0o777, target=target)


@dataclass
class Tree:
    """Nodes by path. Missing parent folders are created."""

    nodes: dict[str, Node] = field(default_factory=dict)
    size_bytes: int = 0
    _holes_bytes: int = 0
    _names_bytes: int = 0
    _steps: int = 0
    _entries: int = 0
    _inside: dict[str, set[str]] = field(default_factory=dict)
    _paths: dict[Node, int] = field(default_factory=dict)

    def resolve(self, path: str, whole: bool = False) -> str:
        """Resolve links inside the tree; that of the last part only if `whole`.

        Raises BuildError if links form a loop, or the path leaves the root.
        """
        done: list[str] = []
        cleaned = clean(path)
        if not whole and self._is_folder(cleaned.rpartition("/")[0]):
            return cleaned
        todo = cleaned.split("/")[::-1]
        links = 0
        while len(todo) > (0 if whole else 1):
            part = todo.pop()
            self._steps += len(done) + 1
            if self._steps > MAX_STEPS:
                raise BuildError(f"the folders and links that {path[:200]!r} and others lead through are too many")
            if part == "..":
                done = done[:-1]
                continue
            node = self.nodes.get("/".join([*done, part]))
            if node is None or node.kind != "symlink":
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise BuildError(f"the links of the path {path!r} form a loop")
            if node.target.startswith("/"):
                done = []
            todo += [piece for piece in reversed(node.target.split("/")) if piece not in {"", "."}]
        return "/".join([*done, *reversed(todo)])

    def get(self, path: str) -> Node | None:
        """Return a path's node, which may be a link; its folders are followed."""
        return self.nodes.get(self.resolve(path))

    def put(self, path: str, node: Node) -> None:
        """Put a node at a path; only a folder keeps an existing folder.

        Raises BuildError if the path leaves the root, the tree is too large for an initrd, or a number is too large.
        """
        where = self.resolve(path)
        if not where:
            if node.kind != "dir":
                raise BuildError(f"the path {path!r} is the root, which must be a folder")
            return
        check_numbers(path, (node.uid, node.gid), node.device)
        check_lengths(where, node.target)
        self._make_parents(where)
        present = self.nodes.get(where)
        if node.kind == "dir":
            if present is not None and present.kind == "symlink" and self._is_directory(where):
                return
        elif present is not None and present.kind == "dir":
            self._remove(where)
        self._set(where, node)
        if self.size_bytes > MAX_TREE_BYTES:
            raise BuildError(f"the files are larger than {MAX_TREE_BYTES >> 30} GiB in all")
        if len(self.nodes) > MAX_NODES:
            raise BuildError(f"more than {MAX_NODES} files and folders")
        if self._names_bytes > MAX_NAMES_BYTES:
            raise BuildError(f"the paths of all files have more than {MAX_NAMES_BYTES >> 20} MiB")

    def link(self, path: str, target: str) -> None:
        """Hard-link `path` to `target`. Raises BuildError without a target."""
        node = self.get(target)
        if node is None or node.kind == "dir":
            raise BuildError(f"{path} is a hard link to {target}, which does not exist")
        self.put(path, node)

    def remove(self, path: str) -> None:
        """Remove a node and its contents, if it exists."""
        where = self.resolve(path)
        if where in self.nodes:
            self._remove(where)

    def matching(self, patterns: Iterable[str]) -> list[str]:
        """List paths that match a glob, in order.

        `*` matches slashes too; a matching folder includes its contents.

        Raises BuildError if a glob leaves the root.
        """
        resolved = [self.resolve(pattern) for pattern in patterns]
        globs = [translate(text) for pattern in resolved if pattern for text in (pattern, pattern + "/*")]
        if not globs:
            return []
        matches = re.compile("|".join(globs)).match
        return [path for path in sorted(self.nodes) if matches(path)]

    def graft(self, other: Tree, prefix: str) -> None:
        """Add another tree below a folder, which is created if missing."""
        if prefix:
            self.put(prefix, directory())
        for path, node in sorted(other.nodes.items()):
            self.put(f"{prefix}/{path}", node)

    def add_tar(self, archive: tarfile.TarFile, spool: Spool | None = None) -> None:
        """Add a tar archive, which may be hostile. Contents go to the spool, if any.

        Raises BuildError if a path leaves the root, a hard link has no target, or the archive is too large.
        """
        for member in archive:
            if member.islnk():
                self.link(member.name, member.linkname)
                continue
            node = _node_of(member)
            if node.kind == "file":
                if self.size_bytes + member.size > MAX_TREE_BYTES:
                    raise BuildError(f"the files are larger than {MAX_TREE_BYTES >> 30} GiB in all")
                file = archive.extractfile(member)
                assert file
                node = replace(node, data=spool.add(file) if spool else file.read())
            self.put(member.name, node)

    def add_layer(self, layer: Path) -> None:
        """Apply an image's layer: an uncompressed, maybe hostile, tar file.

        Contents stay in place. Whiteouts (`.wh.` files, opencontainers/image-spec, layer.md) are applied first.
        A file without a byte is an empty layer: some builders write one for a step that changes nothing.

        Raises BuildError if the file is missing or damaged; or as for `add_tar`.
        """
        try:
            if layer.stat().st_size == 0:
                return
            with PaxArchive.open(layer, mode="r:", encoding="utf-8") as archive:
                members = list(archive)
            self._entries += len(members)
            if self._entries > MAX_ENTRIES:
                raise BuildError(f"its layers have more than {MAX_ENTRIES} entries")
            for member in members:
                self._take_away(member.name)
            for member in members:
                if _whiteout(member.name) is None:
                    self._add_member(member, layer)
        except FAULTS as error:
            raise BuildError(f"the layer {layer.name} is not a valid tar archive: {error}") from error

    def _take_away(self, name: str) -> None:
        hidden = _whiteout(name)
        if hidden is None:
            return
        folder = self.resolve(name.rpartition("/")[0] or ".", whole=True) if "/" in name.strip("/") else ""
        if hidden == OPAQUE:
            for path in list(self._inside.get(folder, ())):
                self._remove(path)
        elif hidden not in {"", ".", ".."}:
            where = f"{folder}/{hidden}" if folder else hidden
            if where in self.nodes:
                self._remove(where)

    def _add_member(self, member: tarfile.TarInfo, layer: Path) -> None:
        if member.islnk():
            self.link(member.name, member.linkname)
            return
        node = _node_of(member)
        if member.isreg():
            node = replace(node, data=self._slice(member, layer))
        elif member.isdir():
            self._unlink(member.name)
        self.put(member.name, node)

    def _slice(self, member: tarfile.TarInfo, layer: Path) -> Slice:
        extents = extents_of(member)
        if extents is None:
            return Slice(layer, member.offset_data, member.size)
        data = SparseSlice(layer, member.offset_data, member.size, tuple(extents))
        self._holes_bytes += data.holes_bytes
        if self._holes_bytes > MAX_HOLES_BYTES:
            raise BuildError(f"{member.name}: the files have holes of more than {MAX_HOLES_BYTES >> 20} MiB in all")
        return data

    def _unlink(self, path: str) -> None:
        """Remove a node that is not a folder, even a link to one."""
        where = self.resolve(path)
        there = self.nodes.get(where)
        if there is not None and there.kind != "dir":
            self._remove(where)

    def items(self) -> Iterator[tuple[str, Node]]:
        """Yield paths and nodes, each folder before its contents."""
        return iter(sorted(self.nodes.items(), key=lambda item: item[0].split("/")))

    def _make_parents(self, where: str) -> None:
        if self._is_folder(where.rpartition("/")[0]):
            return
        parts = where.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            parent = "/".join(parts[:count])
            node = self.nodes.get(parent)
            if node is None or node.kind != "dir":
                self._set(parent, directory())

    def _is_folder(self, where: str) -> bool:
        """Return whether a path is a folder itself; then it contains no links."""
        node = self.nodes.get(where)
        return node is not None and node.kind == "dir"

    def _is_directory(self, where: str) -> bool:
        try:
            target = self.resolve(where, whole=True)
        except BuildError:
            return False
        node = self.nodes.get(target)
        return not target or (node is not None and node.kind == "dir")

    def _set(self, where: str, node: Node) -> None:
        self._paths[node] = self._paths.get(node, 0) + 1
        if self._paths[node] == 1:
            self.size_bytes += node.size
        if where in self.nodes:
            self._forget(self.nodes[where])
        else:
            self._names_bytes += len(where)
        self.nodes[where] = node
        self._inside.setdefault(where.rpartition("/")[0], set()).add(where)

    def _remove(self, where: str) -> None:
        self._inside[where.rpartition("/")[0]].discard(where)
        doomed = [where]
        while doomed:
            path = doomed.pop()
            doomed += self._inside.pop(path, ())
            self._names_bytes -= len(path)
            self._forget(self.nodes.pop(path))

    def _forget(self, node: Node) -> None:
        self._paths[node] -= 1
        if not self._paths[node]:
            del self._paths[node]
            self.size_bytes -= node.size


def _whiteout(name: str) -> str | None:
    """Return the name that a whiteout removes, OPAQUE for a folder's content."""
    last = name.rstrip("/").rpartition("/")[2]
    if last.startswith(OPAQUE):
        return OPAQUE
    return last.removeprefix(WHITEOUT) if last.startswith(WHITEOUT) else None


def _xattrs(member: tarfile.TarInfo) -> tuple[tuple[str, str], ...]:
    """Return the extended attributes of a guest from POSIX headers."""
    attributes = (
        (name.removeprefix(XATTR), value) for name, value in member.pax_headers.items() if name.startswith(XATTR)
    )
    return tuple(sorted((name, value) for name, value in attributes if name.startswith(KEPT_XATTRS)))


def _node_of(member: tarfile.TarInfo) -> Node:
    kinds: dict[bytes, Kind] = {
        tarfile.DIRTYPE: "dir",
        tarfile.SYMTYPE: "symlink",
        tarfile.CHRTYPE: "char",
        tarfile.BLKTYPE: "block",
        tarfile.FIFOTYPE: "fifo",
    }
    kind = "file" if member.isreg() else kinds.get(member.type)
    if kind is None:
        raise BuildError(f"{member.name} has an unsupported type: {member.type!r}")
    device = (member.devmajor, member.devminor) if kind in {"char", "block"} else (0, 0)
    target = member.linkname if kind == "symlink" else ""
    return Node(kind, member.mode & 0o7777, member.uid, member.gid, target, device=device, xattrs=_xattrs(member))


def write_tar(tree: Tree, target: tarfile.TarFile, mtime_s: int) -> None:
    """Write a tree in a reproducible order, with reproducible times."""
    first_paths: dict[int, str] = {}
    types = {"dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "char": tarfile.CHRTYPE}
    types |= {"block": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE, "file": tarfile.REGTYPE}
    for path, node in tree.items():
        member = tarfile.TarInfo(path)
        member.mode, member.uid, member.gid, member.mtime = node.mode, node.uid, node.gid, mtime_s
        member.type, member.linkname = types[node.kind], node.target
        member.devmajor, member.devminor = node.device
        member.pax_headers = {XATTR + name: value for name, value in node.xattrs}
        if node.kind == "file" and id(node) in first_paths:
            member.type, member.linkname = tarfile.LNKTYPE, first_paths[id(node)]
            target.addfile(member)
            continue
        first_paths[id(node)] = path
        if node.kind != "file":
            target.addfile(member)
            continue
        member.size = node.size
        with node.open() as data:
            target.addfile(member, data)
