"""Programs that make file systems and disks, without the host's settings.

A missing program is reported with its package.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from bootmatrix.assembly.tree import EPOCH_S
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
    """Find a program. Raises HostError if the program is not installed."""
    path = shutil.which(name, path=PATH)
    if path is None:
        raise HostError(f"{name} is not installed", f"Install it: sudo apt-get install {TOOLS[name]}")
    return path


def versions(*names: str) -> tuple[str, ...]:
    """Identify the versions of programs: size and time of each file.

    A missing program has none: files that it made before remain usable.
    """
    files = (shutil.which(name, path=PATH) for name in names)
    stamps = (Path(path).stat() if path else None for path in files)
    return tuple(f"{stamp.st_size} {stamp.st_mtime_ns}" if stamp else "" for stamp in stamps)


def run(name: str, arguments: Sequence[str | Path], feed: Callable[[IO[bytes]], object] | None = None) -> None:
    """Run a program with the output of `feed` as input; it ends with this process.

    Raises HostError if the program is not installed, or fails.
    """
    for tool in (name, *(word for word in arguments if word in TOOLS)):
        find_tool(str(tool))
    command = [*LEASH, "--", find_tool(name), *map(str, arguments)]
    # A file instead of a pipe avoids a deadlock when a program writes much before it reads its input.
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
    """Feed a program and wait for its end; on errors, interrupt it first."""
    try:
        if feed and child.stdin:
            with suppress(BrokenPipeError), child.stdin:  # its stderr has the reason
                feed(child.stdin)
        child.wait()
    except BaseException:
        child.send_signal(signal.SIGINT)
        child.wait()
        raise
