"""Commands of git in a work tree."""

import os
import subprocess
from pathlib import Path

from bootmatrix.errors import ToolMissing

LOCATIONS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
"""Variables that a hook of git sets, and that would name another repository than the tree's."""
NO_WATCHER = ("-c", "core.fsmonitor=false")
NO_FETCH = {"GIT_ALLOW_PROTOCOL": "", "GIT_NO_LAZY_FETCH": "1"}
"""For the work tree of a stranger: its settings may name a program that watches files, or one that fetches the objects
that it lacks, which git does unasked."""


def run_git(tree: Path, *words: str, is_trusted: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a git command in a folder; any exit status is returned.

    If the tree is not trusted, git starts no program that its settings name, and fetches nothing.

    Raises ToolMissing if git is not installed.
    """
    env = {name: value for name, value in os.environ.items() if name not in LOCATIONS}
    env |= {"LC_ALL": "C"} | ({} if is_trusted else NO_FETCH)
    command = ["git", "-C", str(tree), *(() if is_trusted else NO_WATCHER), *words]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=env)
    except FileNotFoundError as error:
        raise ToolMissing("git is not installed", "Install git.") from error
    # Not text=True, which makes lines of carriage returns: a commit's subject may hold any text behind one.
    output, errors = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(command, done.returncode, output, errors)
