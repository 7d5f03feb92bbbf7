"""What the host has for guests, and what those that run take of it: measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bootmatrix.errors import HostError

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")
UTIME, STIME = 11, 12
"""Fields of /proc/PID/stat behind the name, which ends with the last bracket (proc_pid_stat(5): 14 and 15)."""


def available_cores() -> int:
    """Cores that this process may keep busy: those it may run on, and not more than its control group may use."""
    cores = len(os.sched_getaffinity(0))
    for folder in groups("cpu"):
        with suppress(OSError, ValueError, IndexError):
            cores = min(cores, max(1, round(_quota(folder))))
    return cores


def available_memory_mib() -> int:
    """Memory that may be taken without swapping: what the host has free or can drop, within our group's limit.

    Raises:
        HostError: /proc/meminfo does not say.
    """
    available_mib = _meminfo_mib()
    for folder in groups("memory"):
        with suppress(OSError, ValueError):
            available_mib = min(available_mib, _room_bytes(folder) >> 20)
    return max(0, available_mib)


def children_cpu_s() -> float:
    """CPU time of the processes that this one has started and that run: its guests."""
    ticks = sum(sum(_ticks(child)) for child in _children())
    return ticks / os.sysconf("SC_CLK_TCK")


def private_mib(process: int) -> int | None:
    """Memory that only this process has, by proc_pid_smaps(5): pages of no file. None where it does not say."""
    with suppress(OSError, StopIteration, ValueError, IndexError):
        lines = (PROC / str(process) / "smaps_rollup").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("Anonymous:")).split()[1]) >> 10
    return None


def idle_cpu_s() -> float:
    """Time that all cores of the host were idle since it started: the fourth and fifth number of proc_stat(5)."""
    words = (PROC / "stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return (int(words[4]) + int(words[5])) / os.sysconf("SC_CLK_TCK")


def _meminfo_mib() -> int:
    for line in (PROC / "meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    raise HostError("/proc/meminfo does not say how much memory is available", "bootmatrix needs Linux 3.14 or later.")


def groups(controller: str, process: str = "self") -> Iterator[Path]:
    """Folders of a process's control groups, from its own up, of version 2 and of version 1 (cgroups(7))."""
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
    """Where the groups of a controller of version 1, or those of version 2 (""), are mounted, and which one is there.

    Where the kernel does not say (proc_pid_mountinfo(5)), it is the place that all distributions have.
    """
    with suppress(OSError, ValueError, IndexError):
        for line in (PROC / "self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            words, kind = (half.split() for half in line.split(" - ", 1))
            if kind[0] == "cgroup2" if controller == "" else kind[0] == "cgroup" and controller in kind[2].split(","):
                return Path(words[4]), words[3].rstrip("/")
    return (CGROUPS / controller if controller else CGROUPS), ""


def _quota(folder: Path) -> float:
    """Cores that a group may use: cpu.max of version 2, the two files of version 1.

    Raises:
        OSError, ValueError: there is no limit.
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
    """What a group may still take; files that are in memory can be dropped.

    Raises:
        OSError, ValueError: there is no limit.
    """
    names = ("memory.max", "memory.current") if (folder / "memory.max").exists() else V1_MEMORY
    limit, used = (int((folder / name).read_text(encoding="ascii")) for name in names)
    stat = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
    values = {name: int(value) for name, value in (line.split() for line in stat)}
    return limit - used + values.get("total_inactive_file", values.get("inactive_file", 0))


V1_MEMORY = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def _children() -> list[str]:
    """Ids of the children of all our threads (proc_tid_children(5)); none where the kernel has no such file."""
    found: list[str] = []
    for file in (PROC / "self/task").glob("*/children"):
        with suppress(OSError):
            found += file.read_text(encoding="ascii").split()
    return found


def _ticks(process: str) -> tuple[int, int]:
    with suppress(OSError, ValueError, IndexError):
        words = (PROC / process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return int(words[UTIME]), int(words[STIME])
    return 0, 0
