"""Measured capacity and use of the host."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bootmatrix.errors import HostError
from bootmatrix.operating_system import core_count, is_portable, memory_mib

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")
UTIME, STIME = 11, 12
"""Fields of /proc/PID/stat after the name, which ends at the last bracket (proc_pid_stat(5): 14 and 15)."""


def available_cores() -> int:
    """Return the number of usable cores: CPU affinity, limited by the control group."""
    cores = core_count()
    for folder in groups("cpu"):
        with suppress(OSError, ValueError, IndexError):
            cores = min(cores, max(1, round(_quota(folder))))
    return cores


def available_memory_mib() -> int:
    """Return memory available without swapping, within the group's limit.

    Raises HostError if /proc/meminfo lacks it.
    """
    available_mib = _meminfo_mib("MemAvailable")
    for folder in groups("memory"):
        with suppress(OSError, ValueError):
            available_mib = min(available_mib, _room_bytes(folder) >> 20)
    return max(0, available_mib)


def children_cpu_s() -> float:
    """CPU time of the processes that this one has started and that run: its guests."""
    ticks = sum(sum(_ticks(child)) for child in children())
    return ticks / os.sysconf("SC_CLK_TCK")


def private_mib(process: int) -> int | None:
    """Return a process's anonymous memory (proc_pid_smaps(5)), or None."""
    with suppress(OSError, StopIteration, ValueError, IndexError):
        lines = (PROC / str(process) / "smaps_rollup").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("Anonymous:")).split()[1]) >> 10
    return None


def idle_cpu_s() -> float:
    """Return all cores' idle time since boot (proc_stat(5)); 0 if unknown."""
    if is_portable():
        return 0.0
    words = (PROC / "stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return (int(words[4]) + int(words[5])) / os.sysconf("SC_CLK_TCK")


def total_memory_mib() -> int:
    """Return the host's memory. Raises HostError if /proc/meminfo lacks it."""
    return _meminfo_mib("MemTotal")


def _meminfo_mib(name: str) -> int:
    if (value_mib := memory_mib(name)) is not None:
        return value_mib
    raise HostError(f"/proc/meminfo lacks {name}", "bootmatrix needs Linux 3.14 or later.")


def groups(controller: str, process: str = "self") -> Iterator[Path]:
    """List a process's groups upwards, both versions (cgroups(7))."""
    with suppress(OSError):
        for line in (PROC / process / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines():
            number, names, path = line.split(":", 2)
            if number != "0" and controller not in names.split(","):
                continue
            root, top = _mount("" if number == "0" else controller)
            folder = root / (path.removeprefix(top).lstrip("/") if ".." not in path else "")
            for level in (folder, *folder.parents):
                if level.is_relative_to(root):
                    yield level


def _mount(controller: str) -> tuple[Path, str]:
    """Return a controller's mount point (version 2: "") and its root.

    If the kernel does not list it (proc_pid_mountinfo(5)), return the usual place.
    """
    with suppress(OSError, ValueError, IndexError):
        for line in (PROC / "self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            words, kind = (half.split() for half in line.split(" - ", 1))
            if kind[0] == "cgroup2" if controller == "" else kind[0] == "cgroup" and controller in kind[2].split(","):
                return Path(words[4]), words[3].rstrip("/")
    return (CGROUPS / controller if controller else CGROUPS), ""


def _quota(folder: Path) -> float:
    """Return a group's CPU quota in cores: cpu.max, or version 1's files.

    Raises OSError, ValueError without a limit.
    """
    with suppress(FileNotFoundError):
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)
    quota_us, period_us = (
        int((folder / name).read_text(encoding="ascii")) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    )
    if quota_us <= 0:
        raise ValueError("no limit")
    return quota_us / period_us


def _room_bytes(folder: Path) -> int:
    """Return the memory left in a group. File cache counts as free.

    Raises OSError, ValueError without a limit.
    """
    names = ("memory.max", "memory.current") if (folder / "memory.max").exists() else V1_MEMORY
    limit, used = (int((folder / name).read_text(encoding="ascii")) for name in names)
    stat = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    values = {name: int(value) for name, value in (line.split() for line in stat)}
    return limit - used + values.get("total_inactive_file", values.get("inactive_file", 0))


V1_MEMORY = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def children() -> list[str]:
    """List all our threads' children (proc_tid_children(5)), if possible."""
    children: list[str] = []
    for file in (PROC / "self/task").glob("*/children"):
        with suppress(OSError):
            children += file.read_text(encoding="ascii").split()
    return children


def _ticks(process: str) -> tuple[int, int]:
    with suppress(OSError, ValueError, IndexError):
        words = (PROC / process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return int(words[UTIME]), int(words[STIME])
    return 0, 0
