"""Programs of the host that make file systems and disks: found, run with nothing of the host's settings, and named
with the package that brings them where they are missing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from bootmatrix.assembly.image.builder import EPOCH_S
from bootmatrix.errors import HostError

LEASH = ("setpriv", "--no-new-privs", "--pdeathsig", "INT")
"""Has the kernel interrupt a program when we die (prctl(2), PR_SET_PDEATHSIG). A kill would leave the daemon of
fakeroot, which only its script ends."""
TOOLS: Mapping[str, str] = {
    "xorriso": "xorriso",
    "mkfs.vfat": "dosfstools",
    "mmd": "mtools",
    "mcopy": "mtools",
    "sfdisk": "fdisk",
    "sqfstar": "squashfs-tools",
    "mkfs.erofs": "erofs-utils",
    "fakeroot": "fakeroot",
    "qemu-img": "qemu-utils",
    "tar": "tar",
}
"""Debian's package of each."""
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
"""Some of them are for administrators, and work for everybody."""
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "SOURCE_DATE_EPOCH": str(EPOCH_S), "MTOOLSRC": "/dev/null"}
"""The same for everybody, everywhere and at all times (reproducible-builds.org/specs/source-date-epoch)."""


def find_tool(name: str) -> str:
    """A program's path.

    Raises:
        HostError: it is not installed.
    """
    found = shutil.which(name, path=PATH)
    if found is None:
        raise HostError(f"{name} is not installed", f"Install it: sudo apt-get install {TOOLS[name]}")
    return found


def versions(*names: str) -> tuple[str, ...]:
    """What tells one version of some programs from another: size and time of each as its package has it.

    A program that is missing has none: what it made before may still be used.
    """
    found = (shutil.which(name, path=PATH) for name in names)
    stamps = (Path(path).stat() if path else None for path in found)
    return tuple(f"{stamp.st_size} {stamp.st_mtime_ns}" if stamp else "" for stamp in stamps)


def run(name: str, arguments: Sequence[str | Path], feed: Callable[[IO[bytes]], object] | None = None) -> None:
    """Run a program to its end, with what `feed` writes to its input; it ends when we do.

    Raises:
        HostError: it is not installed, or fails.
    """
    for tool in (name, *(word for word in arguments if word in TOOLS)):
        find_tool(str(tool))
    command = [*LEASH, "--", find_tool(name), *map(str, arguments)]
    # A file, as a program that complains at length would wait for us to read a pipe, and we for it to read its input.
    with tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            env={"PATH": PATH, "HOME": "/nonexistent", **ENVIRONMENT},
            umask=0o022,
        )
        _finish(child, feed)
        complaints.seek(0)
        complaint = complaints.read().decode("utf-8", "replace").strip()
    if child.returncode:
        raise HostError(f"{name} failed with status {child.returncode}: {complaint[-600:]}")


def _finish(child: subprocess.Popen[bytes], feed: Callable[[IO[bytes]], object] | None) -> None:
    """Feed a program and wait for its end; it is interrupted, and waited for, where that fails."""
    try:
        if feed and child.stdin:
            with suppress(BrokenPipeError), child.stdin:  # it says why
                feed(child.stdin)
        child.wait()
    except BaseException:
        child.send_signal(signal.SIGINT)
        child.wait()
        raise
