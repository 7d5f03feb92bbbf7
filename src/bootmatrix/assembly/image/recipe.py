"""What a recipe puts into an image besides packages, and what it takes away."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from bootmatrix.assembly.slices import PIECE_BYTES, Slice
from bootmatrix.assembly.tree import Node, Tree, directory, symlink, text_file
from bootmatrix.errors import BuildError
from bootmatrix.model import CopyFile, ImageRecipe
from bootmatrix.store import sha256_of

NOT_FOR_GUESTS = (
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/share/bash-completion",
    "usr/lib/systemd",
    "etc/systemd",
    "etc/init.d",
    "etc/cron.*",
)
"""What packages carry for people and for other inits; a recipe's `keep` brings it back."""


def put_file(copy: CopyFile, recipe_path: Path, tree: Tree) -> None:
    """Put one of the recipe's `files`.

    Raises:
        BuildError: it has no content, or one that cannot be read, or lies outside of the recipe's folder.
    """
    mode = int(copy.mode, 8) if copy.mode else None
    if copy.directory:
        tree.put(copy.path, directory(mode or 0o755))
    elif copy.symlink is not None:
        tree.put(copy.path, symlink(copy.symlink))
    elif copy.contents is not None:
        tree.put(copy.path, text_file(copy.contents, mode or 0o644))
    elif copy.concat:
        tree.put(copy.path, Node("file", mode or 0o644, data=_concatenated(copy, recipe_path, tree)))
    elif copy.source is not None:
        _put_source(copy, mode, recipe_path, tree)
    else:
        raise BuildError(
            f"{recipe_path}: the file {copy.path} has no content",
            "Give it one of: source, contents, concat, symlink, directory.",
        )


def _concatenated(copy: CopyFile, recipe_path: Path, tree: Tree) -> bytes:
    files = [node for path in tree.matching(copy.concat) if (node := tree.nodes[path]).kind == "file"]
    if not files:
        raise BuildError(
            f"{recipe_path}: no file of the image is named by {', '.join(copy.concat)}, of which {copy.path} is made"
        )
    return b"".join(node.read() for node in files)


def _put_source(copy: CopyFile, mode: int | None, recipe_path: Path, tree: Tree) -> None:
    with _readable(copy, recipe_path):
        source = _source(copy, recipe_path)
        if not source.is_dir():
            tree.put(copy.path, _file_node(source, mode))
            return
        tree.put(copy.path, directory())
        for path in sorted(source.rglob("*")):
            below = f"{copy.path}/{path.relative_to(source)}"
            if path.is_symlink():
                tree.put(below, symlink(str(path.readlink())))
            elif path.is_dir():
                tree.put(below, directory())
            elif path.is_file():
                tree.put(below, _file_node(path, mode))


def _file_node(path: Path, mode: int | None) -> Node:
    default = 0o755 if path.stat().st_mode & 0o100 else 0o644
    size = path.stat().st_size
    data = path.read_bytes() if size <= PIECE_BYTES else Slice(path.absolute(), 0, size)
    return Node("file", mode or default, data=data)


def _source(copy: CopyFile, recipe_path: Path) -> Path:
    root, source = recipe_path.parent.resolve(), recipe_path.parent / (copy.source or "")
    if not source.resolve().is_relative_to(root):
        raise BuildError(f"{recipe_path}: the source {copy.source!r} is outside the recipe's folder")
    if not source.is_dir() and not source.is_file():
        raise BuildError(f"{recipe_path}: there is no file {source}")
    return source


def drop(tree: Tree, recipe: ImageRecipe) -> None:
    """Take away what no guest needs, and what the recipe drops, but for what it keeps."""
    kept = set(tree.matching(recipe.keep))
    kept |= {str(folder) for path in kept for folder in PurePosixPath(path).parents}
    for path in tree.matching((*NOT_FOR_GUESTS, *recipe.drop)):
        if path not in kept:
            tree.remove(path)


def source_digest(copy: CopyFile, recipe_path: Path) -> str:
    """The digest of a `source`: of a file, or of a folder's names, modes and contents.

    Raises:
        BuildError: there is no such file.
    """
    with _readable(copy, recipe_path):
        source = _source(copy, recipe_path)
        if source.is_file():
            return _digest(source)
        names = [f"{path.relative_to(source)} {_digest(path)}" for path in sorted(source.rglob("*"))]
        return hashlib.sha256(os.fsencode("\n".join(names))).hexdigest()


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    if path.is_file():
        return f"{sha256_of(path)} {path.stat().st_mode & 0o100}"
    return "folder" if path.is_dir() else ""


@contextmanager
def _readable(copy: CopyFile, recipe_path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # not readable; a loop of links; not a name at all
        raise BuildError(f"{recipe_path}: the source {copy.source!r} cannot be read: {error}") from error
