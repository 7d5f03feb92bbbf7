"""The QEMU that the host has."""

import os
import re
import shutil
import subprocess
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG

from bootmatrix.errors import HostError, QemuMissing, QemuTooOld
from bootmatrix.model import Machine

VERSION_LIMIT_S = 30
"""More than QEMU takes to print its version, even from a cold disk on a busy host."""

_VERSIONS: dict[tuple[str, int, int], str] = {}
"""By path, time and size, which stand for a file's contents."""


def install_hint(package: str) -> str:
    """The command that installs a package of the system."""
    return f"Install it: sudo apt-get install {package}"


def find_qemu(machine: Machine) -> Path:
    """Return the path of the machine's QEMU. Raises QemuMissing if it is not in PATH."""
    return _found(machine)[0]


def qemu_version(machine: Machine) -> str:
    """Version of the machine's QEMU, such as `7.2.22`. Asked once for each file.

    Raises HostError if QEMU does not run; QemuMissing, QemuTooOld: it is not there, or older than the machine needs.
    """
    path, stat = _found(machine)
    file = (str(path), stat.st_mtime_ns, stat.st_size)
    version = _VERSIONS.get(file) or _VERSIONS.setdefault(file, _ask(path))
    if _numbers(version) < _numbers(machine.min_qemu):
        raise QemuTooOld(
            f"{path} is version {version}, and {machine.min_qemu} or later is needed for this machine",
            f"A newer {machine.qemu_package} may be in your distribution's backports.",
        )
    return version


def learn_version(path: str, mtime_ns: int, size_bytes: int, version: str) -> None:
    """Take the version that a file of this time and size said it has before."""
    _VERSIONS[path, mtime_ns, size_bytes] = version


def qemu_fault(machine: Machine) -> HostError | None:
    """Return why the machine's QEMU cannot be used here; empty if it can."""
    try:
        qemu_version(machine)
    except HostError as error:
        return error
    return None


def _found(machine: Machine) -> tuple[Path, os.stat_result]:
    """Return QEMU's path and stat. Raises QemuMissing if not in PATH."""
    path = _which(machine.qemu, os.environ.get("PATH"))
    with suppress(OSError):
        if path and S_ISREG((now := path.stat()).st_mode):
            return path, now
    _which.cache_clear()
    raise QemuMissing(f"{machine.qemu} is not installed", install_hint(machine.qemu_package))


@lru_cache(maxsize=64)
def _which(program: str, path: str | None) -> Path | None:
    """Find a program in PATH, cached: each cell asks several times."""
    location = shutil.which(program, path=path)
    return Path(location) if location else None


def _ask(path: Path) -> str:
    """Return the version that a file says it has."""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, timeout=VERSION_LIMIT_S, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{path} --version does not run: {error}") from error
    text = done.stdout.decode("utf-8", "replace")
    match = re.search(r"\bversion (\d+(?:\.\d+)+)", text)
    if match is None:
        output = (text or done.stderr.decode("utf-8", "replace")).strip()[:200]
        raise HostError(f"{path} --version gives no version but {output!r} (exit status {done.returncode})")
    return match[1]


@lru_cache(maxsize=64)
def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
