"""`run --git-bisect`: the statuses that git expects, and a real search in a small repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix.cli.exits import git_bisect_status
from bootmatrix.load.data_paths import CHECKOUT
from command_line import Tool
from kernel_forms import debians_tree

pytest_plugins = ("command_line",)

SPEC = """\
init: [bootmatrix/init, bootmatrix/crun]
onboot:
  - name: builder
    image: bootmatrix/busybox
    readonly: true
    command: [/bin/busybox, grep, -q, debian-kernel, /proc/version]
"""
MAKEFILE = """\
all:
\tcp -r {built}/. .
\tsed -i "s/debian-kernel@/$$(cat builder)@/" arch/arm64/boot/Image
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


@pytest.mark.boots
def test_the_page_on_git_bisect_finds_the_first_bad_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands, in a repository whose `make` makes Debian's kernel, with the name of another builder in it."""
    built = debians_tree(tmp_path / "built")
    (tmp_path / "linux").mkdir()
    monkeypatch.chdir(tmp_path / "linux")
    Path("Makefile").write_text(MAKEFILE.format(built=built), encoding="utf-8")
    Path("tests.yml").write_text(SPEC, encoding="utf-8")
    _shell("git init -q && git add Makefile tests.yml")
    for number, builder in enumerate(("debian-kernel", "debian-kernel", "broken-kernel", "broken-kernel")):
        Path("builder").write_text(builder, encoding="utf-8")
        _shell(f"echo {number} >number && git add builder number && git commit -q -m 'commit {number}'")
    section = (CHECKOUT / "docs/bisect.md").read_text(encoding="utf-8").partition("\n## git bisect\n")[2]
    commands = "\n".join(re.findall("^    (.+)", section, re.MULTILINE))
    words = {"BAD GOOD": "HEAD HEAD~3", "x86_64": "aarch64", "--git-bisect": "--git-bisect --match 'builder exited'"}
    for word, value in words.items():
        assert word in commands
        commands = commands.replace(word, value)
    found = _shell(commands)
    first_bad = found.partition(" is the first bad commit\n")[2]
    assert "    commit 2\n" in first_bad


def _shell(script: str) -> str:
    who = {f"GIT_{role}_{what}": "t@t" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", script],
        capture_output=True,
        text=True,
        env={**os.environ, **who, "PATH": path},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
