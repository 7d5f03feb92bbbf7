"""Copies of source trees, without what .gitignore names, within limits."""

import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bootmatrix.errors import InputError, readable

IGNORE_FILE = ".gitignore"
ALWAYS = {".git", ".hg", ".svn"}
MAX_FILES = 20_000
MAX_BYTES = 512 << 20
MAX_DEPTH = 64
NAMED = 3
"""Paths that a message names."""


@dataclass
class CopiedTree:
    """The extent of a copy, and what it omits."""

    files: int = 0
    size_bytes: int = 0
    special: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    largest: Counter[str] = field(default_factory=Counter)

    def notes(self) -> Iterator[str]:
        """Yield notes for the user."""
        yield f"copied {self.files} files, {self.size_bytes:,} bytes (.gitignore is honoured)"
        if self.special:
            yield f"left out, as they are not files: {_some(self.special)}"
        if self.outside:
            yield f"links that lead out of the tree lead nowhere in the guest: {_some(self.outside)}"


def _some(paths: list[str]) -> str:
    more = len(paths) - NAMED
    return ", ".join(paths[:NAMED]) + (f" and {more} more" if more > 0 else "")


def copy_tree(source: Path, target: Path, without: Path | None = None) -> CopiedTree:
    """Copy a source tree, except for the folder `without`, in which the copy may be.

    Raises InputError if there are too many, too large or unreadable files, or none at all.
    """
    copier = _Copier(source, without)
    target.mkdir(parents=True)
    copier.copy(source, target, (), 0)
    if not copier.tree.files:
        raise InputError(f"{source}: no file is left to copy", f"Is everything in {IGNORE_FILE}?")
    return copier.tree


class _Copier:
    def __init__(self, root: Path, without: Path | None) -> None:
        self.root, self.tree = root, CopiedTree()
        self.without = without.resolve() if without else None

    def copy(self, folder: Path, target: Path, rules: tuple[tuple[Path, object], ...], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InputError(f"{folder}: more than {MAX_DEPTH} folders deep")
        rules = (*rules, *self._rules(folder))
        with readable(folder, hint=_ADVICE):
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        for entry in entries:
            path = Path(entry.path)
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name in ALWAYS or _is_ignored(path, is_folder, rules):
                continue
            if is_folder and self.without and path.resolve() == self.without:
                continue
            if is_folder:
                (target / entry.name).mkdir()
                self.copy(path, target / entry.name, rules, depth + 1)
            else:
                self._copy_entry(path, target / entry.name)

    def _rules(self, folder: Path) -> Iterator[tuple[Path, object]]:
        file = folder / IGNORE_FILE
        if file.is_file():
            from pathspec import GitIgnoreSpec  # slow import

            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            try:
                yield folder, GitIgnoreSpec.from_lines(lines)
            except ValueError as error:
                raise InputError(f"{file}: {error}") from error

    def _copy_entry(self, path: Path, target: Path) -> None:
        name = str(path.relative_to(self.root))
        try:
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                self._copy_link(path, target, name)
            elif stat.S_ISREG(mode):
                self._count(path, name)
                shutil.copyfile(path, target, follow_symlinks=False)
                target.chmod(0o755 if mode & 0o100 else 0o644)
            else:
                self.tree.special.append(name)
        except OSError as error:
            raise InputError(f"{path}: cannot be copied: {error.strerror}", _ADVICE) from error

    def _copy_link(self, path: Path, target: Path, name: str) -> None:
        words = str(path.readlink())
        if not Path(os.path.normpath(path.parent / words)).is_relative_to(self.root):
            self.tree.outside.append(name)
        target.symlink_to(words)
        self.tree.files += 1

    def _count(self, path: Path, name: str) -> None:
        size = path.stat().st_size
        self.tree.files += 1
        self.tree.size_bytes += size
        self.tree.largest[name.partition("/")[0]] += size or 1
        if self.tree.files > MAX_FILES or self.tree.size_bytes > MAX_BYTES:
            what = ", ".join(name for name, _ in self.tree.largest.most_common(NAMED))
            raise InputError(
                f"{self.root}: more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB; most of it so far: {what}",
                f"Add what the guest does not need to {IGNORE_FILE}, or try a smaller folder.",
            )


_ADVICE = f"Make it readable, or add it to {IGNORE_FILE}."


def _is_ignored(path: Path, is_folder: bool, rules: tuple[tuple[Path, object], ...]) -> bool:
    """Return whether the innermost rule about a path excludes it."""
    for folder, spec in reversed(rules):
        relative = f"{path.relative_to(folder)}{'/' if is_folder else ''}"
        verdict = spec.check_file(relative).include  # type: ignore[attr-defined]
        if verdict is not None:
            return bool(verdict)
    return False
