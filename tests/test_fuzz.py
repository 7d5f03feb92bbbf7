"""Every reader of what others wrote holds, whatever it reads: a bounded run. `make fuzz` goes on for longer."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz_targets import Broken, Target, expect, hold, targets

ROOT = Path(__file__).parents[1]
EXAMPLES = 100
"""Of each target; some tenths of a second. The same ones each time, so that a failure here is a change's."""
WAYS = ("atheris", "hypothesis") if sys.platform == "linux" and platform.machine() == "x86_64" else ("hypothesis",)
"""Of the long run: there is no atheris for other platforms."""
NAMES = tuple(targets(Path()))


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_holds(tmp_path: Path, name: str) -> None:
    target = targets(tmp_path)[name]
    for seed in target.seeds:
        target.run(seed)
    hold(target, EXAMPLES, same=True)


def breaks_on_two_words(data: bytes) -> None:
    """A reader that takes all but these."""
    expect(b"exit 0" not in data or b"9999" not in data, "both words")


def test_a_fault_would_be_found(tmp_path: Path) -> None:
    target = Target(breaks_on_two_words, targets(tmp_path)["message"].seeds, (b"9999",))
    with pytest.raises(Broken, match="both words"):
        hold(target, 4500, same=True)


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.long) if way == "atheris" else way for way in WAYS]
)
def test_the_long_run_works_each_way(way: str) -> None:
    command = [sys.executable, "-m", "benchmarks.fuzz", "--by", way, "--seconds", "1", "message"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all readers held" in done.stdout
