"""The guest's init, as far as its parts can be tried in a shell of the host. All of it runs in tests that boot."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

GUEST = Path(__file__).resolve().parents[1] / "specs/images/init/guest"


def function(name: str) -> str:
    """A function of init's."""
    text = GUEST.read_text()
    start = text.index(f"\n{name}() {{\n")
    return text[start : text.index("\n}\n", start) + 3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A container's root, in which the container made what it could think of."""
    root = tmp_path / "rootfs"
    for folder in ("out/folder", "var", "run"):
        (root / folder).mkdir(parents=True)
    (tmp_path / "passwd").write_text("the host's")
    (root / "out/plain").write_text("plain")
    (root / "run/x").write_text("x")
    os.mkfifo(root / "out/fifo")
    links = {
        "var/run": "/run",
        "out/absolute": "/out/plain",
        "out/relative": "folder/../plain",
        "out/loop": "loop",
        "out/up": "../../passwd",
        "out/far_up": "/../../../../../../../../etc/passwd",
        "out/zero": "/dev/zero",
        "out/memory": "/proc/1/mem",
        "out/top": "/",
    }
    for name, to in links.items():
        (root / name).symlink_to(to)
    return root


def resolved(root: Path, path: str) -> str:
    """The file that init sends, relative to the root; empty if it says that there is none."""
    script = f'set -f\n{function("resolve")}\nresolve "$1" "$2" && [ -f "$FILE" ] && printf %s "$FILE"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(root), path], capture_output=True, text=True, timeout=10, check=False
    )
    assert not done.stderr
    return done.stdout.removeprefix(f"{root}/")


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/out/plain", "out/plain"),
        ("/out/absolute", "out/plain"),
        ("/out/relative", "out/plain"),
        ("/var/run/x", "run/x"),
        ("/out/top/out/top/var/run/x", "run/x"),
        ("/out/top/../../../passwd", ""),
        ("/out/none", ""),
        ("/out/*", ""),
        ("/out/folder", ""),
        ("/out/fifo", ""),
        ("/out/loop", ""),
        ("/out/up", ""),
        ("/out/far_up", ""),
        ("/out/zero", ""),
        ("/out/memory", ""),
    ],
)
def test_a_result_is_what_its_container_would_find_there_and_never_outside_of_its_root(
    root: Path, path: str, file: str
) -> None:
    assert resolved(root, path) == file
