"""Programs of the host: what they say, however much it is, and that none is left when we end."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.assembly.formats.clouds import VMDK_TEXT_BYTES, with_cid
from bootmatrix.assembly.formats.tools import run
from bootmatrix.errors import HostError

WAITING = """
import signal, sys, time
from bootmatrix.assembly.formats.tools import run
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where tests run in the background
script = 'echo "$FAKEROOTKEY" >"$0.new" && mv "$0.new" "$0"; cat >/dev/null'
run("fakeroot", ["--", "sh", "-c", script, sys.argv[1]], lambda _pipe: time.sleep(600))
"""


def test_many_complaints_stop_neither_side() -> None:
    """More of them, and more input, than a pipe holds."""
    script = "head -c 1000000 /dev/zero >&2; cat >/dev/null; echo at the end >&2; exit 3"
    with pytest.raises(HostError, match=r"status 3: .*at the end"):
        run("fakeroot", ["--", "sh", "-c", script], lambda pipe: pipe.write(bytes(1_000_000)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_daemon_of_fakeroot_ends_with_us(tmp_path: Path, number: signal.Signals) -> None:
    """It has a queue of messages for as long as it lives (proc(5), /proc/sysvipc)."""
    told = tmp_path / "key"
    ours = subprocess.Popen([sys.executable, "-c", WAITING, told], stderr=subprocess.DEVNULL)
    wait_until(told.exists)
    key = told.read_text(encoding="ascii").strip()
    assert has_queue(key)
    ours.send_signal(number)
    ours.wait(60)
    wait_until(lambda: not has_queue(key))


def has_queue(key: str) -> bool:
    """Whether somebody listens under this key."""
    lines = Path("/proc/sysvipc/msg").read_text(encoding="ascii").splitlines()[1:]
    return any(line.split()[0] == key for line in lines)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait, and fail if it never comes."""
    until_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def test_a_vmdk_is_the_same_whatever_number_was_drawn(tmp_path: Path) -> None:
    """One of sixteen has less than eight digits."""
    raw, path = tmp_path / "raw", tmp_path / "vmdk"
    raw.write_bytes(bytes(1 << 20))
    run("qemu-img", ["convert", "-f", "raw", "-O", "vmdk", raw, path])
    whole = path.read_bytes()
    drawn = re.search(rb"(?<=\nCID=)[0-9a-f]+", whole)
    assert drawn
    end = whole.index(b"\0", drawn.end())
    made = set()
    for number in (b"1", b"89abcde", b"89abcdef"):
        text = whole[: drawn.start()] + number + whole[drawn.end() : end]
        other = text.ljust(end, b"\0") + whole[max(end, len(text)) :]
        made.add(with_cid(other[:VMDK_TEXT_BYTES], b"01234567") + other[VMDK_TEXT_BYTES:])
    assert len(made) == 1
    path.write_bytes(made.pop())
    told = subprocess.run(["qemu-img", "info", path], capture_output=True, text=True, check=True)
    assert "cid: 19088743\n" in told.stdout


@pytest.mark.parametrize("head", [b"", b"\nCID=12\n", b"\nCID=123\n\0full", b"\nCID=123456789\n" + bytes(20)])
def test_what_is_no_vmdk_is_told(head: bytes) -> None:
    with pytest.raises(HostError, match="without a CID"):
        with_cid(head, b"01234567")


def test_another_version_of_a_program_is_told_from_the_one_before(tmp_path: Path) -> None:
    code = "from bootmatrix.assembly.formats.tools import versions; print(versions('xorriso', 'sqfstar'))"
    program = tmp_path / "xorriso"

    def told() -> str:
        environment = {"PATH": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    said = set()
    for text in ("#!/bin/true", "#!/bin/false"):
        program.write_text(text)
        program.chmod(0o755)
        said.add(told())
        assert told() in said, "the same one is the same"
    assert len(said) == 2
