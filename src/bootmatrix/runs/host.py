"""The host of a run, as far as it may affect results."""

import os
import platform
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from bootmatrix.operating_system import core_count, is_portable


def describe_host() -> dict[str, str]:
    """Describe the host as far as it may affect results, without names and addresses."""
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": _field("/proc/cpuinfo", ("model name", "Model", "cpu")) or "unknown",
        "cpus": str(core_count()),
        "memory": _memory(),
        "python": platform.python_version(),
        **({"means": "portable"} if is_portable() else {}),
    }


def _field(path: str, names: tuple[str, ...]) -> str:
    """Return the first `name : value` of a /proc file with one of these names."""
    with suppress(OSError):
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in names:
                return value.strip()
    return ""


def _memory() -> str:
    """MemTotal of /proc/meminfo (proc(5)), which is in KiB."""
    words = _field("/proc/meminfo", ("MemTotal",)).split()
    return f"{int(words[0]) / (1 << 20):.1f} GiB" if words else "unknown"


BASE_BYTES = 128 << 10
CELL_BYTES = 64 << 10
"""A record in run.json with its part of junit.xml; most take a third of it."""
MAX_BYTES = 64 << 20


class SpareRoom:
    """Room for run.json and junit.xml, without a name: gone with us."""

    def __init__(self, folder: Path, cells: int) -> None:
        self._file: IO[bytes] | None = None
        # A file system that cannot set room aside, or has none, is told when there is something to write.
        with suppress(OSError):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (open up to the end of the run)
            os.posix_fallocate(self._file.fileno(), 0, min(BASE_BYTES + cells * CELL_BYTES, MAX_BYTES))

    def release(self) -> None:
        """Give the room back to the disk."""
        if self._file:
            self._file.close()
