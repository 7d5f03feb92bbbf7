"""Means that only Linux has, each with a portable way, as on macOS.

BOOTMATRIX_PORTABLE=1 forces that on Linux.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

VARIABLE = "BOOTMATRIX_PORTABLE"
MEMINFO = Path("/proc/meminfo")
AVAILABLE_SHARE = 0.5
"""Part of the memory that counts as available where the system does not tell it."""
LEASH = (
    "sh",
    "-c",
    '(while kill -0 "$0" && kill -0 $$; do sleep 0.2; done; kill -9 $$) </dev/null >/dev/null 2>&1 & exec "$@"',
)
"""Kills a command when bootmatrix is gone. Takes our process id and the command, which it executes in its own place."""


def is_portable() -> bool:
    """Return whether the portable way is used."""
    return not sys.platform.startswith("linux") or bool(os.environ.get(VARIABLE))


def core_count() -> int:
    """Return the number of cores: those of the CPU affinity, where there is one."""
    return (os.cpu_count() or 1) if is_portable() else len(os.sched_getaffinity(0))


def memory_mib(name: str) -> int | None:
    """Return MemTotal or MemAvailable of the host; None if it does not tell."""
    if is_portable():
        total_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        return total_mib if name == "MemTotal" else int(total_mib * AVAILABLE_SHARE)
    for line in MEMINFO.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) >> 10
    return None


def unnamed_file(name: str) -> int:
    """Return a descriptor of a file without a name, in memory if possible."""
    if not is_portable():
        return os.memfd_create(name, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def slept_s() -> float:
    """Return the time that the host was suspended since boot; 0 if unknown.

    CLOCK_MONOTONIC omits it on Linux (clock_gettime(2)), CLOCK_UPTIME_RAW on macOS.
    """
    if not is_portable():
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    awake = getattr(time, "CLOCK_UPTIME_RAW", None)
    return 0.0 if awake is None else time.clock_gettime(time.CLOCK_MONOTONIC) - time.clock_gettime(awake)
