"""`run --git-bisect`: the statuses that git expects, and a real search in a small repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bootmatrix.cli.exits import git_bisect_status
from bootmatrix.load.data_paths import CHECKOUT
from command_line import Tool

pytest_plugins = ("command_line",)

SPEC = """\
init: ["@pkg:./images/init", "@pkg:./images/crun"]
onboot:
  - name: number
    image: "@pkg:./images/busybox"
    command: [/bin/sh, -c, "test {number} -lt 5"]
"""


def test_only_verdicts_of_guests_are_good_or_bad() -> None:
    assert {status: git_bisect_status(status) for status in (0, 1, 2, 3, 130)} == {0: 0, 1: 1, 2: 125, 3: 125, 130: 130}


def test_what_cannot_be_tested_is_skipped(tool: Tool) -> None:
    assert tool("run", "missing.yml", "--arch", "x86_64", "--git-bisect").returncode == 125
    done = tool("run", "hello", "--arch", "x86_64", "--git-bisect", "--build", "touch built; exit 7")
    assert (done.returncode, Path("built").exists()) == (125, True)
    assert "--build: touch built; exit 7: status 7" in done.stderr


def test_bad_usage_stops_the_search(tool: Tool) -> None:
    assert tool("run", "hello", "--git-bisect", "--no-such-option").returncode == 128
    assert tool("run", "hello", "--arch", "x86_64", "--match", "panic").returncode == 2


def _git(*words: str) -> str:
    who = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t"}
    done = subprocess.run(
        ["git", *words], capture_output=True, text=True, check=True, env={**os.environ, **who}, timeout=300
    )
    return done.stdout


@pytest.mark.boots
def test_git_finds_the_first_bad_commit(tool: Tool) -> None:
    shutil.copytree(CHECKOUT / "specs/images", "images")
    _git("init", "-q")
    for number in (3, 4, 5, 6):
        Path("spec.yml").write_text(SPEC.format(number=number))
        _git("add", "spec.yml")
        _git("commit", "-q", "-m", f"commit {number}")
    _git("bisect", "start", "HEAD", "HEAD~3")
    program = shutil.which("bootmatrix") or str(CHECKOUT / ".venv/bin/bootmatrix")
    cell = ("--arch", "x86_64", "--kernel", "6.1", "--git-bisect", "--match", "number exited with status 1")
    found = _git("bisect", "run", program, "run", "spec.yml", *cell)
    assert "is the first bad commit" in found
    assert "commit 5" in found
