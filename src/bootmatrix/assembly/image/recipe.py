"""Files that a recipe adds besides packages, and files that it removes."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from bootmatrix.assembly.image.libraries import unused_libraries
from bootmatrix.assembly.slices import Slice
from bootmatrix.assembly.tree import Node, Tree, directory, symlink, text_file
from bootmatrix.assembly.user_files import in_a_line, take_into
from bootmatrix.errors import BuildError
from bootmatrix.model import CopyFile, ImageRecipe, Profile
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
"""Files for people and for other inits; a recipe's `keep` keeps them."""


CONCAT_LIMIT_BYTES = 256 << 20
"""Limit of the files that a recipe joins, which are held in memory."""


@dataclass(frozen=True)
class SourceEntry:
    """A file, folder or link of a `source`, as digested, at `below` in it."""

    kind: Literal["file", "dir", "symlink"]
    below: str
    path: Path
    sha256: str = ""
    executable: bool = False
    target: str = ""

    def __str__(self) -> str:
        if self.kind == "symlink":
            return f"-> {self.target}"
        return f"{self.sha256} {0o100 if self.executable else 0}" if self.kind == "file" else "folder"


Sources = Mapping[str, tuple[SourceEntry, ...]]
"""Entries of the sources of a recipe's files, by source name."""


def placeholders(profile: Profile) -> dict[str, str]:
    """Return the placeholders of `debs` and `source` for an architecture."""
    return {**profile.names.model_dump(), "debian_arch": profile.names.debian, "arch": profile.name}


def for_architecture(recipe: ImageRecipe, profile: Profile) -> ImageRecipe:
    """Replace the placeholders of a recipe's sources, not of names alike."""
    names = placeholders(profile)

    def filled(copy: CopyFile) -> CopyFile:
        text = re.sub(r"\{([a-z_]+)\}", lambda match: names.get(match[1], match[0]), copy.source or "")
        return copy if copy.source in {None, text} else copy.model_copy(update={"source": text})

    return recipe.model_copy(update={"files": tuple(filled(copy) for copy in recipe.files)})


def read_sources(recipe: ImageRecipe, recipe_path: Path) -> Sources:
    """List and digest the sources of a recipe's files.

    Raises BuildError if a source is missing, unreadable, or outside of the recipe's folder.
    """
    return {copy.source: _entries(copy, recipe_path) for copy in recipe.files if copy.source is not None}


def source_digest(entries: tuple[SourceEntry, ...]) -> str:
    """Digest a `source`: a file, or a folder's names, modes and contents."""
    if len(entries) == 1 and entries[0].kind == "file" and not entries[0].below:
        return str(entries[0])
    names = (in_a_line(f"{entry.below} {entry}") for entry in entries)
    return hashlib.sha256(os.fsencode("\n".join(names))).hexdigest()


def put_file(copy: CopyFile, recipe_path: Path, tree: Tree, entries: tuple[SourceEntry, ...], folder: Path) -> None:
    """Add one of a recipe's `files`; `entries` of its source are in `folder`.

    Raises BuildError if the file has no content, or it is unreadable or outside of the recipe's folder; InputError if
    the content has changed since it was digested.
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
        with _readable(copy, recipe_path):
            _put_source(copy, mode, tree, entries, folder)
    else:
        raise BuildError(
            f"{recipe_path}: the file {copy.path} has no content",
            "Set one of: source, contents, concat, symlink, directory.",
        )


def _concatenated(copy: CopyFile, recipe_path: Path, tree: Tree) -> bytes:
    files = [node for path in tree.matching(copy.concat) if (node := tree.nodes[path]).kind == "file"]
    if not files:
        raise BuildError(
            f"{recipe_path}: {copy.path} joins {', '.join(copy.concat)}, which no file of the image matches"
        )
    if (size := sum(node.size for node in files)) > CONCAT_LIMIT_BYTES:
        raise BuildError(f"{recipe_path}: {copy.path} joins {size} bytes, more than {CONCAT_LIMIT_BYTES >> 20} MiB")
    return b"".join(node.read() for node in files)


def _put_source(copy: CopyFile, mode: int | None, tree: Tree, entries: tuple[SourceEntry, ...], folder: Path) -> None:
    if not (len(entries) == 1 and not entries[0].below):
        tree.put(copy.path, directory())
    for entry in entries:
        where = f"{copy.path}/{entry.below}" if entry.below else copy.path
        if entry.kind == "symlink":
            tree.put(where, symlink(entry.target))
        elif entry.kind == "dir":
            tree.put(where, directory())
        else:
            taken = take_into(folder, entry.path, entry.sha256)
            data = Slice(taken, 0, taken.stat().st_size)
            tree.put(where, Node("file", mode or (0o755 if entry.executable else 0o644), data=data))


def _entries(copy: CopyFile, recipe_path: Path) -> tuple[SourceEntry, ...]:
    with _readable(copy, recipe_path):
        source = _source(copy, recipe_path)
        if source.is_file():
            return (_entry(source.resolve(), ""),)
        below = ((path, str(path.relative_to(source))) for path in sorted(source.rglob("*")))
        return tuple(_entry(path, name) for path, name in below if path.is_symlink() or path.is_dir() or path.is_file())


def _entry(path: Path, below: str) -> SourceEntry:
    if path.is_symlink():
        return SourceEntry("symlink", below, path, target=str(path.readlink()))
    if path.is_dir():
        return SourceEntry("dir", below, path)
    return SourceEntry("file", below, path, sha256_of(path), bool(path.stat().st_mode & 0o100))


def _source(copy: CopyFile, recipe_path: Path) -> Path:
    root, source = recipe_path.parent.resolve(), recipe_path.parent / (copy.source or "")
    if not source.resolve().is_relative_to(root):
        raise BuildError(f"{recipe_path}: the source {copy.source!r} is outside the recipe's folder")
    if not source.is_dir() and not source.is_file():
        raise BuildError(
            f"{recipe_path}: file not found: {source}",
            "If its name has an architecture in it: build it for this one, or exclude the architecture.",
        )
    return source


def drop(tree: Tree, recipe: ImageRecipe, inherited: Set[str] = frozenset()) -> None:
    """Remove files that no guest needs, and those of `drop`, except for `keep`.

    `inherited` are paths of the base image, whose recipe has decided about them.
    """
    keep = set(tree.matching(recipe.keep))
    keep |= {str(folder) for path in keep for folder in PurePosixPath(path).parents}
    unneeded = [path for path in tree.matching(NOT_FOR_GUESTS) if path not in inherited]
    for path in (*unneeded, *tree.matching(recipe.drop)):
        if path not in keep:
            tree.remove(path)
    for path in unused_libraries(tree) if recipe.drop_unused_libraries else ():
        if path not in keep:
            tree.remove(path)


@contextmanager
def _readable(copy: CopyFile, recipe_path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # unreadable, a loop of links, or an invalid name
        raise BuildError(f"{recipe_path}: the source {copy.source!r} cannot be read: {error}") from error
