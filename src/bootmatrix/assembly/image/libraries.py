"""Shared libraries of an image that none of its programs links."""

import io
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from bootmatrix.assembly.tree import Node, Tree
from bootmatrix.source.elf import read_program

LIBRARY = re.compile(r"^[^/]+\.so(\.[0-9.]+)?$", re.ASCII)
MAX_PROGRAM_BYTES = 64 << 20
"""Limit of programs whose libraries are read."""


def unused_libraries(tree: Tree) -> list[str]:
    """Return the libraries that no program links, directly or by another one.

    A library is known by its name, in whatever folder. Those that a program loads while it runs are not seen.
    """
    libraries: dict[str, list[str]] = {}
    todo: list[Node] = []
    for path, node in tree.items():
        name = PurePosixPath(path).name
        if LIBRARY.match(name) and node.kind in {"file", "symlink"}:
            libraries.setdefault(name, []).append(path)
        elif node.kind == "file" and node.mode & 0o111:
            todo.append(node)
    used: set[str] = set()
    while todo:
        names = _linked(todo.pop()) - used
        used |= names
        todo += _files(tree, (path for name in names for path in libraries.get(name, ())), used)
    return [path for name, paths in libraries.items() if name not in used for path in paths]


def _linked(node: Node) -> set[str]:
    program = read_program(io.BytesIO(node.read())) if node.size <= MAX_PROGRAM_BYTES else None
    return {*program.libraries, PurePosixPath(program.interpreter).name} if program else set()


def _files(tree: Tree, paths: Iterable[str], used: set[str]) -> list[Node]:
    """Follow links to libraries; what they lead to is used, too."""
    files = []
    for path in paths:
        end = tree.resolve(path, whole=True)
        used.add(PurePosixPath(end).name)
        node = tree.nodes.get(end)
        files += [node] if node and node.kind == "file" else []
    return files
