"""The guest's init, as far as its parts can be tried in a shell of the host. All of it runs in tests that boot."""

from __future__ import annotations

import os
import subprocess
import sys
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


RECORDS = r"""
6,0,0,-;Linux version 6.1.0
3,1,10,-;an error\x0aof two lines
 SUBSYSTEM=acpi
4,2,20,-;a warning
6,3,30,-;    not ok 1 example
14,4,40,-;read up to here: MARK
15,5,50,-;behind it
"""
STRANGE = (
    "x[$(touch PATH)],1,2,-;x",
    "09,1,2,-;x",
    "4",
    ",",
    "4,y,2,-;x",
    f"{'9' * 30},1,2,-;x",
    "4+4,1,2,-;x",
    "-4,1,2,-;x",
)


def kernel_account(tmp_path: Path, log: str) -> str:
    """The words about the kernel's log that init sends, and `alive` if init goes on behind it."""
    (tmp_path / "kmsg").write_text(log.lstrip("\n"))
    functions = function("is_number") + function("read_log").replace("/dev/kmsg", f"{tmp_path}/kmsg")
    script = f'set -f\nCHANNEL=port LOG_BYTES=9999\n{functions}\nread_log MARK\necho "$RECORDS alive"'
    command = ["bash", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, cwd=tmp_path).stdout.strip()


WHOLE = (
    r"3,1,10,-;an\x20error\x0aof\x20two\x20lines 4,2,20,-;a\x20warning "
    r"6,3,30,-;\x20\x20\x20\x20not\x20ok\x201\x20example alive"
)


def test_the_kernels_log_is_read_up_to_the_mark(tmp_path: Path) -> None:
    assert kernel_account(tmp_path, RECORDS) == f"1 0 0 {WHOLE}"


@pytest.mark.parametrize("line", STRANGE)
def test_a_line_of_the_kernels_log_that_is_not_a_record_is_counted_as_left_out(tmp_path: Path, line: str) -> None:
    lines = RECORDS.splitlines()
    log = "\n".join([*lines[:3], line.replace("PATH", f"{tmp_path}/made"), *lines[3:]]) + "\n"
    assert kernel_account(tmp_path, log) == f"1 0 1 {WHOLE}"
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("word", ["", "x", "1.5", "-1", "1+1", "08", "$((1))", "1" * 19])
def test_a_scale_that_is_not_a_number_is_ignored(word: str) -> None:
    functions = function("is_number") + function("read_cmdline").replace("</proc/cmdline", "")
    script = f"{functions}\nSCALE=1\nread_cmdline\necho $((SCALE * 20))"
    done = subprocess.run(
        ["sh", "-c", script],
        input=f"quiet bootmatrix.scale={word}\n",
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert done.stdout == "20\n", done.stderr


LEAVES_NONBLOCK = """
import fcntl, os
fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_NONBLOCK)
try:
    while True:
        os.write(1, b"x" * 4095 + b"\\n")
except BlockingIOError:
    pass
"""


def test_the_end_of_outputs_is_marked_though_the_pipe_is_full_and_does_not_wait(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text(LEAVES_NONBLOCK)
    script = "\n".join(
        (
            function("supervise"),
            'logged() { sleep 0.5; grep -c -- "$MARK"; }',
            f"supervise 1 x {sys.executable} leaves.py; MARK=another; wait",
        )
    )
    command = ["bash", "-c", f"exec 3>&1 4>events\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd=tmp_path)
    assert done.stdout.strip() == "1", done.stderr
    assert (tmp_path / "events").read_text() == "ended 1 0\n"
