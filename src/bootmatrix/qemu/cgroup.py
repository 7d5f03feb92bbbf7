"""A control group per QEMU: limits on memory, cores, threads (cgroups(7)).

Version 2 is used where its controllers are on, else version 1. Where this user cannot create groups, QEMU has only the
limits of the sandbox. A group is locked while in use; an unlocked group is a leftover of a killed process.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from bootmatrix.qemu.host import groups
from bootmatrix.qemu.sandbox import MAX_THREADS

if TYPE_CHECKING:
    from bootmatrix.model import Machine

PREFIX = "bootmatrix-"
QEMU_MIB = 1536
"""Memory of QEMU beyond its guest's: at most 1 GiB of translated code, and QEMU's own."""
SPARE_CORES = 1
"""Cores for QEMU's own threads, beside one for each CPU of its guest."""
PERIOD_US = 100_000
"""Period of a CPU quota: the kernel's default (its Documentation/scheduler/sched-bwc)."""
REMOVE_TRIES, REMOVE_PAUSE_S = 20, 0.01

MEMBERS = "cgroup.procs"
KILL = "cgroup.kill"
"""Of version 2, from Linux 5.14 on: ends all processes of a group at once."""
FILES = {
    2: {"memory": "memory.max", "cpu": "cpu.max", "pids": "pids.max"},
    1: {"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us", "pids": "pids.max"},
}
"""The limit's file of each controller, by version."""
SWAP = {2: "memory.swap.max", 1: "memory.memsw.limit_in_bytes"}
"""The swap limit's file: version 2 counts swap apart, version 1 with the memory. Only kernels with swap have it."""
NICE, SHARES = "cpu.weight.nice", "cpu.shares"
"""The weight's file of version 2, as a nice value, and of version 1, as shares: 1,024 for nice 0."""
NICE_STEP = 1.25
"""Ratio of the shares of two neighbouring nice values (sched(7))."""
OOM_COUNTS = ("memory.events", "memory.oom_control")
"""Files that count out-of-memory kills of a group, on a line `oom_kill N`."""


@dataclass(frozen=True)
class CgroupLocation:
    """A folder in which groups can be made, and what they bound there."""

    folder: Path
    version: int
    controllers: tuple[str, ...]


class Bound:
    """The groups of one QEMU, by their folders; none where none can be made."""

    def __init__(self, memory_mib: int, folders: tuple[Path, ...]) -> None:
        self._memory_mib = memory_mib
        self._folders = folders

    def hold(self, pid: int) -> None:
        """Put a process into the groups, before it has taken anything."""
        for folder in self._folders:
            with suppress(OSError):  # it has ended already
                (folder / MEMBERS).write_text(f"{pid}", encoding="ascii")

    def fault(self) -> str:
        """Return an error if the kernel killed it for memory; else empty."""
        if any(_oom_kills(folder) for folder in self._folders):
            return f"killed by the kernel: it exceeded its memory limit of {self._memory_mib} MiB"
        return ""


@contextmanager
def bounded(machine: Machine) -> Iterator[Bound]:
    """Create groups for a machine's QEMU, which has to end before the context does."""
    memory_mib = machine.memory_mib + QEMU_MIB
    limits = {"memory": memory_mib << 20, "cpu": machine.cpus + SPARE_CORES, "pids": MAX_THREADS + machine.cpus}
    with ExitStack() as stack:
        folders = []
        for place in places():
            with suppress(OSError):  # such as a group of version 1 that may use fewer cores itself
                folders.append(stack.enter_context(_group(place, limits)))
        yield Bound(memory_mib, tuple(folders))


@lru_cache(maxsize=1)
def places() -> tuple[CgroupLocation, ...]:
    """Find places for groups by trying; removes leftovers of killed processes there."""
    usable = tuple(side_by_side(place for place in candidates() if _works(place)))
    for place in usable:
        sweep(place.folder)
    return usable


def side_by_side(places: Iterable[CgroupLocation]) -> Iterator[CgroupLocation]:
    """Select places that one process can use at the same time.

    In version 2 it is in one group, for all controllers.
    """
    has_second = False
    for place in places:
        if place.version == 1 or not has_second:
            yield place
        has_second = has_second or place.version == 2


def candidates() -> Iterator[CgroupLocation]:
    """List places for groups by files: most controllers, then nearest."""
    usable: dict[tuple[Path, int], list[str]] = {}
    for controller in FILES[2]:
        for folder, version in _levels(controller):
            if os.access(folder, os.W_OK) and (version == 1 or controller in _words(folder / "cgroup.subtree_control")):
                usable.setdefault((folder, version), []).append(controller)
    places = (CgroupLocation(folder, version, tuple(names)) for (folder, version), names in usable.items())
    return iter(sorted(places, key=lambda place: (-len(place.controllers), -len(place.folder.parts))))


def _levels(controller: str) -> Iterator[tuple[Path, int]]:
    """List our group and ancestors with version, up to the first limit.

    Groups beside a limited group would escape its limit. In version 1 every group may have children, so only our own
    counts.
    """
    for folder in groups(controller):
        if (folder / FILES[1][controller]).exists() and not (folder / "cgroup.controllers").exists():
            yield folder, 1
            return
        if (folder / "cgroup.controllers").exists():
            yield folder, 2
            if any(_words(folder / name)[:1] not in ([], ["max"]) for name in FILES[2].values()):
                return


def _words(file: Path) -> list[str]:
    with suppress(OSError):
        return file.read_text(encoding="ascii", errors="replace").split()
    return []


def _works(place: CgroupLocation) -> bool:
    """Return whether a child can join a group there, not only create it."""
    with suppress(OSError), _group(place, {}) as folder:
        child = subprocess.Popen(("cat",), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with child:
            (folder / MEMBERS).write_text(f"{child.pid}", encoding="ascii")
        return True
    return False


@contextmanager
def _group(place: CgroupLocation, limits: Mapping[str, int]) -> Iterator[Path]:
    """A new, locked, limited group, removed in the end. Raises OSError."""
    folder, lock = _made(place.folder)
    try:
        for controller in place.controllers:
            if controller in limits:
                text = _limit(controller, limits[controller], place.version)
                (folder / FILES[place.version][controller]).write_text(text, encoding="ascii")
        if "memory" in place.controllers and "memory" in limits:
            _bound_swap(folder / SWAP[place.version], limits["memory"] if place.version == 1 else 0)
        if "cpu" in place.controllers:
            _keep_nice(folder, place.version)
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def _bound_swap(file: Path, most_bytes: int) -> None:
    """Deny swap to a group whose memory is limited."""
    if file.exists():
        file.write_text(f"{most_bytes}", encoding="ascii")


def _keep_nice(folder: Path, version: int) -> None:
    """Give a group the weight of this process.

    Nice values count within their group only.
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(OSError):
        if version == 2:
            (folder / NICE).write_text(f"{nice}", encoding="ascii")
        else:
            (folder / SHARES).write_text(f"{round(1024 * NICE_STEP**-nice)}", encoding="ascii")


def _made(parent: Path) -> tuple[Path, int]:
    """Create a group, and return it with its lock.

    Another process may remove it as a leftover before it is locked.

    Raises OSError if it cannot create it.
    """
    while True:
        folder = parent / f"{PREFIX}{secrets.token_hex(8)}"
        folder.mkdir()
        with suppress(FileNotFoundError, BlockingIOError):
            return folder, _locked(folder)


def _locked(folder: Path) -> int:
    """A descriptor that holds a folder's lock.

    Raises BlockingIOError if somebody has it. FileNotFoundError: the folder is gone.
    """
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.stat()
    except OSError:
        os.close(lock)
        raise
    return lock


def _limit(controller: str, value: int, version: int) -> str:
    if controller != "cpu":
        return f"{value}"
    quota_us = value * PERIOD_US
    return f"{quota_us} {PERIOD_US}" if version == 2 else f"{quota_us}"


def _remove(folder: Path) -> None:
    """Remove a group, and kill its processes."""
    for _ in range(REMOVE_TRIES):
        with suppress(OSError):
            folder.rmdir()
            return
        _end_all(folder)
        time.sleep(REMOVE_PAUSE_S)


def _end_all(folder: Path) -> None:
    with suppress(OSError):
        if (folder / KILL).exists():
            (folder / KILL).write_text("1", encoding="ascii")
            return
    for word in _words(folder / MEMBERS):
        with suppress(OSError, ValueError):
            if int(word) > 0:  # 0 stands for a process outside of our namespace, and for our own session in kill(2)
                os.kill(int(word), signal.SIGKILL)


def sweep(parent: Path) -> None:
    """Remove groups without a holder, and kill what their killed holder left running."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = _locked(folder)
            try:
                _remove(folder)
            finally:
                os.close(lock)


def _oom_kills(folder: Path) -> int:
    lines = [words for name in OOM_COUNTS for words in _pairs(folder / name)]
    return sum(int(value) for name, value in lines if name == "oom_kill" and value.isdigit())


def _pairs(file: Path) -> Iterator[tuple[str, str]]:
    words = _words(file)
    return zip(words[::2], words[1::2], strict=False)
