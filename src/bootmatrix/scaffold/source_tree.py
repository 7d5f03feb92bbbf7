"""Copies of source trees, without what .gitignore names, within limits."""

import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bootmatrix.errors import InputError, ToolMissing, readable
from bootmatrix.git import run_git
from bootmatrix.judge.result_files import counts_as_report

IGNORE_FILE = ".gitignore"
ALWAYS = {".git", ".hg", ".svn"}
MAX_FILES = 20_000
MAX_BYTES = 512 << 20
MAX_DEPTH = 64
MAX_RULES_BYTES = 1 << 20
STARS, MAX_STARS = re.compile(r"\*+"), 4
MATCHING_S = 60.0
"""The time that patterns take grows with the power of their stars; the tree may be anybody's."""
NAMED = 3
"""Paths that a message names."""


@dataclass
class CopiedTree:
    """The extent of a copy, and what it omits.

    `largest` and `fullest` count bytes and files by the first folder.
    """

    files: int = 0
    size_bytes: int = 0
    ignored: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    largest: Counter[str] = field(default_factory=Counter)
    fullest: Counter[str] = field(default_factory=Counter)

    def notes(self) -> Iterator[str]:
        """Yield notes for the user."""
        files = "1 file" if self.files == 1 else f"{self.files:,} files"
        yield f"copied {files}, {self.size_bytes:,} bytes"
        if self.ignored:
            yield f"left out, as {IGNORE_FILE} says: {some(self.ignored)}; --no-ignore copies them"
        if self.special:
            yield f"left out, as they are not files: {some(self.special)}"
        if self.outside:
            yield f"links that lead out of the tree lead nowhere in the guest: {some(self.outside)}"


def some(paths: Sequence[str]) -> str:
    """List the first paths, and count the others."""
    more = len(paths) - NAMED
    return ", ".join(paths[:NAMED]) + (f" and {more} more" if more > 0 else "")


def copy_tree(source: Path, target: Path, without: Iterable[Path] = (), *, honours_ignore: bool = True) -> CopiedTree:
    """Copy a source tree, except for the folders `without`, in which the copy may be.

    As git does, it leaves out what .gitignore names and is not tracked, unless `honours_ignore` is false.

    Raises InputError if there are too many, too large or unreadable files, or none at all.
    """
    copier = _Copier(source, without, honours_ignore)
    target.mkdir(parents=True)
    for path, mode in list(copier.walk(source, (), 0)):
        copier.copy(path, mode, target / path.relative_to(source))
    if not copier.tree.files:
        hint = f"Is everything in {IGNORE_FILE}?" if any(source.iterdir()) else "The folder is empty."
        raise InputError(f"{source}: no file is left to copy", hint)
    return copier.tree


def check_program(word: str, source: Path, copy: Path) -> None:
    """Check a command's first word, if it is a path in a tree, by its copy.

    Raises InputError if it is not there, was left out, or cannot be executed.
    """
    if "/" not in word or word.startswith("/"):
        return
    path, original = (Path(os.path.normpath(folder / word)) for folder in (copy, source))
    way = [part for part in (path, *path.parents) if part.is_relative_to(copy)]
    if not way or any(map(Path.is_symlink, way)):
        return  # a link may lead to what only the guest has
    if not path.exists() and original.exists():
        raise InputError(f"{word} is not copied, as {IGNORE_FILE} names it", "Copy it, too: --no-ignore.")
    if not path.exists():
        raise InputError(f"{word} is not in {source}", "Build it before, or in the guest: -- sh -c 'make && …'.")
    if not path.is_file() or not path.stat().st_mode & 0o100:
        hint = f"Make it so: chmod +x {word}, or name its interpreter: -- sh {word}."
        raise InputError(f"{word} in {source} is not executable", hint)


def remove_reports(tree: Path, place: str, results: Iterable[str]) -> list[str]:
    """Remove reports of tests from a copy that will be at a place in a guest.

    Those that `results`, paths or patterns there, name: if the command wrote none, an old one would count as its own.
    """
    removed = []
    for name in results:
        path = PurePosixPath(name)
        if path == PurePosixPath(place) or not path.is_relative_to(place):
            continue
        for file in sorted(tree.glob(str(path.relative_to(place)))):
            if file.is_file() and not file.is_symlink() and counts_as_report(file):
                file.unlink()
                removed.append(str(file.relative_to(tree)))
    return removed


class _Copier:
    def __init__(self, root: Path, without: Iterable[Path], honours_ignore: bool) -> None:
        self.root, self.tree = root, CopiedTree()
        self._honours_ignore = honours_ignore
        self._tracked = _tracked(root) if honours_ignore else set()
        self.without = {path.resolve() for path in without}
        self._until_s = time.process_time() + MATCHING_S

    def walk(self, folder: Path, rules: tuple[tuple[Path, object], ...], depth: int) -> Iterator[tuple[Path, int]]:
        """Yield paths with their modes, each folder before its content, and count them."""
        if depth > MAX_DEPTH:
            raise InputError(f"{folder}: more than {MAX_DEPTH} folders deep")
        with readable(folder, hint=_ADVICE):
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        rules = (*rules, *self._rules(folder)) if self._honours_ignore else ()
        for entry in entries:
            path = Path(entry.path)
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name in ALWAYS:
                continue
            if time.process_time() > self._until_s:
                raise InputError(f"{self.root}: {IGNORE_FILE} takes too long to match", "Simplify its patterns.")
            if _is_ignored(path, is_folder, rules) and path not in self._tracked:
                self.tree.ignored.append(f"{path.relative_to(self.root)}{'/' if is_folder else ''}")
                continue
            if is_folder and path.resolve() in self.without:
                continue
            with readable(path, hint=_ADVICE):
                status = entry.stat(follow_symlinks=False)
            self._count(path, status)
            yield path, status.st_mode
            if is_folder:
                yield from self.walk(path, rules, depth + 1)

    def _rules(self, folder: Path) -> Iterator[tuple[Path, object]]:
        file = folder / IGNORE_FILE
        if file.is_file():
            from pathspec import GitIgnoreSpec  # slow import

            with readable(file, hint=_ADVICE), file.open("rb") as stream:
                lines = stream.read(MAX_RULES_BYTES).decode("utf-8", "replace").splitlines()
            for number, line in enumerate(lines, 1):
                parts = [] if line.startswith("#") else line.split("/")
                if max(parts.count("**"), 0, *(len(STARS.findall(part)) for part in parts)) > MAX_STARS:
                    raise InputError(
                        f"{file}:{number}: more than {MAX_STARS} '*' in a pattern", "It would take hours to match."
                    )
            try:
                yield folder, GitIgnoreSpec.from_lines(lines)
            except ValueError as error:
                raise InputError(f"{file}: {error}") from error

    def copy(self, path: Path, mode: int, target: Path) -> None:
        """Copy a file, a link or a folder without its content; note what is left out."""
        try:
            if stat.S_ISDIR(mode):
                target.mkdir()
            elif stat.S_ISLNK(mode):
                self._copy_link(path, target)
            elif stat.S_ISREG(mode):
                shutil.copyfile(path, target, follow_symlinks=False)
                target.chmod(0o755 if mode & 0o100 else 0o644)
            else:
                self.tree.special.append(str(path.relative_to(self.root)))
        except (PermissionError, FileNotFoundError) as error:
            raise InputError(f"{path}: cannot be copied: {error.strerror}", _ADVICE) from error

    def _copy_link(self, path: Path, target: Path) -> None:
        words = str(path.readlink())
        if not Path(os.path.normpath(path.parent / words)).is_relative_to(self.root):
            self.tree.outside.append(str(path.relative_to(self.root)))
        target.symlink_to(words)

    def _count(self, path: Path, status: os.stat_result) -> None:
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            return
        tree, size = self.tree, status.st_size if stat.S_ISREG(status.st_mode) else 0
        tree.files += 1
        tree.size_bytes += size
        top = path.relative_to(self.root).parts[0]
        tree.largest[top] += size
        tree.fullest[top] += 1
        if tree.files > MAX_FILES or tree.size_bytes > MAX_BYTES:
            is_many = tree.files > MAX_FILES
            limit = f"{MAX_FILES:,} files" if is_many else f"{MAX_BYTES >> 20} MiB"
            counts = (tree.fullest if is_many else tree.largest).most_common(NAMED)
            most = ", ".join(name for name, count in counts if count > 1)
            raise InputError(
                f"{self.root}: more than {limit} to copy{f'; most of it so far: {most}' if most else ''}",
                f"Add what the guest does not need to {IGNORE_FILE}, or try a smaller folder.",
            )


def _tracked(root: Path) -> set[Path]:
    """Return tracked files that .gitignore names, with their folders."""
    words = ("ls-files", "-z", "--cached", "--ignored", f"--exclude-per-directory={IGNORE_FILE}")
    try:
        done = run_git(root, *words, is_trusted=False)
    except ToolMissing:
        return set()
    names = done.stdout.split("\0")[:-1] if done.returncode == 0 else []
    return {root / part for name in names for part in (name, *map(str, Path(name).parents))}


_ADVICE = f"Make it readable, or add it to {IGNORE_FILE}."


def _is_ignored(path: Path, is_folder: bool, rules: tuple[tuple[Path, object], ...]) -> bool:
    """Return whether the innermost rule about a path excludes it."""
    for folder, spec in reversed(rules):
        relative = f"{path.relative_to(folder)}{'/' if is_folder else ''}"
        verdict = spec.check_file(relative).include  # type: ignore[attr-defined]
        if verdict is not None:
            return bool(verdict)
    return False
