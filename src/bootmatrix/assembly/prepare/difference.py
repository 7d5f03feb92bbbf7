"""The difference of two trees as a layer of an image. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath

from bootmatrix.assembly.tree import WHITEOUT, Node, Tree, text_file

LEFT_OUT = (
    *("dev", "proc", "sys", "etc/hosts", "etc/resolv.conf", "etc/mtab", "etc/hostname", ".dockerenv"),
    *("var/lib/apt/lists", "var/cache/apt", "var/log/apt", "var/log/dpkg.log", "var/cache/debconf/config.dat-old"),
    *("var/cache/debconf/templates.dat-old", "var/lib/dpkg/status-old", "var/cache/ldconfig"),
)
"""Files of the guest and not of the image, and those that have times in them or can be fetched again."""


def difference(before: Tree, after: Tree) -> Tree:
    """Return what a layer has to contain: changed and new files, and whiteouts for removed ones."""
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
    return any(path == one or path.startswith(f"{one}/") for one in LEFT_OUT)


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
    return not has_capabilities and old.size == new.size and old.read() == new.read()
