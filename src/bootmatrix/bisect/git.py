"""`git bisect` in a work tree: git chooses, bootmatrix answers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.git import run_git
from bootmatrix.report.sanitize import one_line

OLD, NEW, SKIP = "before", "after", "skip"
"""Terms of the search. git's own, good and bad, would forbid a good commit that is newer than the bad one."""
SHORT = 12
MERGE_BASE = 3
"""Exit status of git bisect if the merge base of both ends is like the newer one."""
FIRST = re.compile(rf"^# first {NEW} commit: \[([0-9a-f]+)\]", re.MULTILINE)
POSSIBLE = re.compile(rf"^# possible first {NEW} commit: \[([0-9a-f]+)\]", re.MULTILINE)


@dataclass(frozen=True)
class Commit:
    """A commit: its whole object name, and the first line of its message."""

    id: str
    subject: str

    @property
    def name(self) -> str:
        """The short object name, as a kernel is called."""
        return self.id[:SHORT]


class GitTree:
    """A work tree in which git commands run."""

    def __init__(self, path: Path) -> None:
        """Raises InputError if the path is not a work tree."""
        self.path = path
        if not path.is_dir():
            raise InputError(f"--tree {path}: no such folder")
        if self.run("rev-parse", "--is-inside-work-tree").stdout.strip() != "true":
            raise InputError(f"--tree {path}: not a git work tree")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a git command; any exit status is returned.

        Raises ToolMissing if git is not installed.
        """
        return run_git(self.path, *words)

    def git(self, *words: str) -> str:
        """Run git and return its output. Raises InputError if it fails."""
        done = self.run(*words)
        if done.returncode:
            raise InputError(f"git {' '.join(words[:2])} in {self.path}: {_last_line(done.stderr or done.stdout)}")
        return done.stdout.strip()

    def commit(self, revision: str) -> Commit:
        """Find a commit by a name. Raises InputError if git knows none."""
        result = self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        if result.returncode:
            raise InputError(f"{self.path} has no commit {revision!r}", "Name a commit, tag or branch of the tree.")
        name = result.stdout.strip()
        return Commit(name, one_line(self.git("show", "--no-patch", "--format=%s", name)))

    def check_usable(self) -> None:
        """Check that a search cannot lose the user's changes.

        Raises InputError if files have changes, or a search is under way.
        """
        log = self.git("rev-parse", "--path-format=absolute", "--git-path", "BISECT_LOG")
        if Path(log).exists():
            raise InputError(f"a git bisect is under way in {self.path}", "End it: git bisect reset.")
        changes = self.git("status", "--porcelain", "--untracked-files=no").splitlines()
        if changes:
            raise InputError(
                f"{self.path} has changes that are not committed: {changes[0].strip()}", "Commit or stash them."
            )

    def check_out(self, commit: Commit) -> None:
        """Check a commit out, without a branch."""
        self.git("checkout", "--quiet", "--detach", commit.id)

    @contextmanager
    def bisect(self, good: Commit, bad: Commit) -> Iterator[GitBisect]:
        """Search between two commits; the tree is as before afterwards.

        Raises InputError if git refuses the search.
        """
        self.check_usable()
        self.git("bisect", "start", f"--term-old={OLD}", f"--term-new={NEW}")
        try:
            yield GitBisect(self, good, bad)
        finally:
            self.git("bisect", "reset")


class GitBisect:
    """A search under way.

    `is_fix`: the good commit is the newer one. `trouble` is git's reason to end without a result.
    """

    def __init__(self, tree: GitTree, good: Commit, bad: Commit) -> None:
        self.tree, self.good, self.bad = tree, good, bad
        self.is_fix = tree.run("merge-base", "--is-ancestor", bad.id, good.id).returncode == 0
        self.trouble = ""

    @property
    def ends(self) -> tuple[Commit, Commit]:
        """The older end and the newer one."""
        return (self.bad, self.good) if self.is_fix else (self.good, self.bad)

    def answer(self, commit: Commit, *, is_good: bool | None) -> None:
        """Tell git a commit's result, None for a skip; it checks out the next."""
        word = SKIP if is_good is None else OLD if is_good != self.is_fix else NEW
        done = self.tree.run("bisect", word, commit.id)
        if done.returncode == MERGE_BASE:
            base = self.tree.git("merge-base", self.good.id, self.bad.id)[:SHORT]
            self.trouble = (
                f"their merge base {base} has the fault too, so it is mended between that and the good commit"
            )
        elif done.returncode and not self.candidates():
            self.trouble = _last_line(done.stdout.strip() or done.stderr)

    def next(self) -> Commit | None:
        """Return the commit to test, which is checked out; None at the end."""
        if self.trouble or self.candidates():
            return None
        return self.tree.commit("HEAD")

    def candidates(self) -> tuple[str, ...]:
        """Return the commits that may be the first; none before the end."""
        log = self.log()
        return tuple(dict.fromkeys(FIRST.findall(log) or POSSIBLE.findall(log)))

    def left(self) -> int:
        """Return the number of commits between the known ones."""
        return int(self.tree.git("rev-list", "--count", f"refs/bisect/{NEW}", "--not", f"--glob=refs/bisect/{OLD}-*"))

    def log(self) -> str:
        """Return the search so far, as `git bisect replay` takes it."""
        return self.tree.git("bisect", "log") + "\n"


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason given")
