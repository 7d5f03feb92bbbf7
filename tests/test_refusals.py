"""What the operating system refuses is said with its path and what to do, and with no traceback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from command_line import Tool, refused, tool
from stage import Stage, set_up
from test_faults import on_disk

__all__ = ["tool"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return set_up(tmp_path_factory.mktemp("refusals"), ("sound",))


def said(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode in {2, 3}, done.stdout + done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert [word for word in words if word not in done.stderr] == [], done.stderr


@pytest.mark.parametrize(("options", "words"), [("size=48k", "space"), ("ro", "choose another folder")])
def test_a_build_onto_a_disk_that_is_full_or_read_only(stage: Stage, options: str, words: str) -> None:
    said(on_disk(stage, options, "build", "fake.yml", "--arch", "fake", "-o", "disk/built"), "disk/", words)


def test_a_current_folder_that_was_removed(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    for words in ("matrix hello", "validate x.yml", "plan hello", "arch"):
        script = 'cd "$0" && rmdir "$0" && "$@"; s=$?; mkdir -p "$0"; exit $s'
        done = subprocess.run(
            ["sh", "-c", script, str(tmp_path / "gone"), *stage.command(*words.split())],
            env=stage.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said(done, "cannot use the current folder", "cd ~")
        assert done.returncode == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave a cache of root's")
def test_a_cache_that_belongs_to_root(stage: Stage, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o755)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    script = (
        "import os; os.setgid(65534); os.setuid(65534)\n"
        "from bootmatrix.store import Store\n"
        "from pathlib import Path\n"
        "from bootmatrix.errors import HostError\n"
        f"try: Store(Path({str(cache)!r}))\n"
        "except HostError as error: print(error)\n"
    )
    program = stage.command()[0]
    done = subprocess.run([program, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    if "No module named" in done.stderr or done.returncode == 126:
        pytest.skip("another user cannot read this Python")
    assert "belongs to root" in done.stdout, done.stdout + done.stderr
    assert str(cache) in done.stdout


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *((name, value) for name in ("SNAPSHOTS_MIB", "CACHE_MAX", "MAX_AGE_H") for value in ("x", "-1", "1e3", "٣")),
        *((f"DOWNLOAD_{name}", value) for name in ("MIN_RATE", "MAX_TIME") for value in ("inf", "1.5")),
        *((name, "/nonexistent") for name in ("ARCH", "CATALOGUES")),
        *((name, "/etc/passwd") for name in ("ARCH", "CATALOGUES", "CACHE", "REPORTS")),
    ],
)
def test_a_variable_with_a_bad_value(variable: str, value: str, monkeypatch: pytest.MonkeyPatch, tool: Tool) -> None:
    """It is refused by every command, before anything of it is done."""
    monkeypatch.setenv(f"BOOTMATRIX_{variable}", value)
    for words in (["runs"], ["plan", "hello", "--arch", "x86_64"]):
        refused(tool(*words), f"BOOTMATRIX_{variable}")


def test_an_option_of_a_folder_that_is_a_file(tool: Tool) -> None:
    refused(tool("runs", "--reports", "/etc/passwd"), "--reports /etc/passwd: expected a folder")
