"""Files that a recipe names by patterns: its local packages."""

import glob
import os
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath


def matching(folder: Path, pattern: str, root: Path) -> Iterator[Path]:
    """Yield the files that a pattern names, of a recipe that may be anybody's.

    Each folder of its project is looked at once: links to it, or `*/..`, would multiply with each part.
    """
    *parts, last = PurePosixPath(pattern).parts
    folders = {folder.resolve(): folder}
    for part in parts:
        found = [path for place in folders.values() for path in _in_folder(place, part)]
        folders = {path.resolve(): path for path in found if path.is_dir()}
        if glob.has_magic(part):
            folders = {real: path for real, path in folders.items() if real.is_relative_to(root)}
    for place in folders.values():
        yield from _in_folder(place, last)


def _in_folder(folder: Path, name: str) -> Iterator[Path]:
    """Yield the entries of a folder that a part of a pattern names."""
    if not glob.has_magic(name):
        yield from (path for path in [folder / name] if path.exists() or path.is_symlink())
        return
    with suppress(OSError):
        yield from (folder / entry.name for entry in os.scandir(folder) if _is_named(entry.name, name))


def _is_named(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and (pattern.startswith(".") or not name.startswith("."))


def project_root(recipe_path: Path) -> Path:
    """Return the folder that must contain a recipe's packages.

    It is the git work tree, or the parent of `images`.
    """
    folder = recipe_path.parent.resolve()
    tree = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)
    return tree or (folder.parent.parent if folder.parent.name == "images" else folder)
