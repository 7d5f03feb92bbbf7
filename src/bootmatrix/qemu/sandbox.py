"""The sandbox of QEMU against guests that break out; see docs/security.md."""

from __future__ import annotations

import itertools
import os
import resource
import secrets
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bootmatrix.operating_system import LEASH as PORTABLE_LEASH
from bootmatrix.operating_system import is_portable, unnamed_file

if TYPE_CHECKING:
    from bootmatrix.model import Machine

LEASH = ("setpriv", "--no-new-privs", "--pdeathsig", "KILL")
"""Makes the kernel kill QEMU when bootmatrix dies (prctl(2), PR_SET_PDEATHSIG). setpriv sets this after changing the
user, which would reset it."""
STILL_OURS = ("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')
"""Exits if bootmatrix died before the death signal was set. Takes our process id and a command, which it executes."""

OWN_UIDS = range(61184, 65520)
"""Users without an account: systemd reserves them for services with a dynamic user (https://systemd.io/UIDS-GIDS,
"Dynamic service users"). They exist in containers too."""
_turn = itertools.count(secrets.randbelow(len(OWN_UIDS)))
SETGID, SETUID, SETPCAP = 6, 7, 8
"""Numbers of capabilities(7), as bits of CapEff in proc_pid_status(5)."""

QEMU_MIB = 3072
"""Address space of QEMU beyond the guest's memory: 1.5 GiB in all profiles, 1 GiB of it for translated code."""
THREAD_MIB = 72
"""Address space of one more thread: a stack of 8 MiB and a malloc arena of 64 MiB."""
MAX_THREADS = 64
MAX_FILES = 256
MAX_FILE_BYTES = 64 << 20
"""QEMU writes to sockets and pipes, which have no size. From version 10 on the framebuffer of a board is a memory file
too: 1.2 MB at first, and the guest may request a larger one."""

FILE_OPTIONS = frozenset({"-kernel", "-initrd", "-dtb", "-bios"})
"""Options of QEMU whose value is the name of a file and nothing else."""
FILE_IN_OPTION = {"-drive": "file="}
"""Options whose value ends in a file name, and the text before it."""
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "QEMU_MODULE_DIR")
"""Variables that QEMU inherits. CI systems keep secrets in others."""
KVM = Path("/dev/kvm")
PROBE_S = 10


@dataclass(frozen=True)
class Files:
    """A command with open files: it names descriptors, which the child inherits."""

    arguments: tuple[str, ...]
    descriptors: tuple[int, ...]


@contextmanager
def opened(arguments: Sequence[str]) -> Iterator[Files]:
    """Open a command's files, so that QEMU needs no access to folders.

    A file that cannot be opened keeps its name, for QEMU to report. A name without a folder is of QEMU's own firmware,
    never of the current folder, which may be anybody's.
    """
    with ExitStack() as stack:
        changed, descriptors = list(arguments), []
        for number, option in enumerate(arguments[:-1]):
            if option not in FILE_OPTIONS and option not in FILE_IN_OPTION:
                continue
            before, name = _split_name(option, arguments[number + 1])
            if not Path(name).is_absolute():
                continue
            with suppress(OSError):
                file = stack.enter_context(_readable_by_all(Path(name)))
                descriptors.append(file.fileno())
                changed[number + 1] = f"{before}/dev/fd/{file.fileno()}"
        yield Files(tuple(changed), tuple(descriptors))


def _split_name(option: str, value: str) -> tuple[str, str]:
    """Split an option's value before its file name, in which QEMU doubles commas."""
    if option in FILE_OPTIONS:
        return "", value
    before, mark, name = value.partition(FILE_IN_OPTION[option])
    return before + mark, name.replace(",,", ",")


def _readable_by_all(path: Path) -> BinaryIO:
    """Return a descriptor that another user's process may reopen (proc_pid_fd(5)).

    Cache files are readable by all, though their folder need not be. Other files are copied to unnamed ones.
    """
    file = path.open("rb")
    mode = os.fstat(file.fileno()).st_mode
    if os.geteuid() or not stat.S_ISREG(mode) or mode & stat.S_IROTH:
        return file
    with file:
        copy = os.fdopen(unnamed_file(path.name[:200]), "w+b")
        shutil.copyfileobj(file, copy)
        copy.flush()
        return copy


def confined(machine: Machine, program: Path, writes_bytes: int = 0) -> tuple[str, ...]:
    """Return the prefix that drops rights and ends with bootmatrix.

    Each word executes the next in place, so the process id stays. The portable way ends the command, and drops nothing.
    """
    if is_portable():
        return (*PORTABLE_LEASH, str(os.getpid()))
    user = own_user(machine, program)
    return (
        *_alone(changes_user=user is not None),
        *_limits(machine, user is not None, writes_bytes),
        *LEASH,
        *(user or ()),
        "--",
        *STILL_OURS,
        str(os.getpid()),
    )


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The part of our environment that QEMU gets."""
    return {name: ours[name] for name in ENVIRONMENT if name in ours}


def own_user(machine: Machine, program: Path) -> tuple[str, ...] | None:
    """Return setpriv's options for a user of this QEMU alone, or None.

    Only root can change the user. Ours stays also if only root can reach the program or KVM's device.
    """
    if os.geteuid() != 0 or not _may_change_user() or not _is_reachable(program):
        return None
    groups = _kvm_groups(machine)
    if groups is None:
        return None
    uid = OWN_UIDS[next(_turn) % len(OWN_UIDS)]
    bounds = ("--bounding-set=-all",) if _has_capabilities(SETPCAP) else ()
    return (f"--reuid={uid}", f"--regid={uid}", groups, "--inh-caps=-all", *bounds)


def _limits(machine: Machine, alone: bool, writes_bytes: int) -> tuple[str, ...]:
    """A process's limits; that of threads needs a user of its own."""
    threads = MAX_THREADS + machine.cpus
    address_mib = machine.memory_mib + QEMU_MIB + THREAD_MIB * machine.cpus
    limits = {"core": 0, "fsize": max(MAX_FILE_BYTES, writes_bytes), "nofile": MAX_FILES, "as": address_mib << 20}
    limits |= {"nproc": threads} if alone else {}
    return ("prlimit", *(f"--{name}={_within(name, value)}" for name, value in limits.items()), "--")


def _within(name: str, value: int) -> int:
    """Limit a value to our own limit, which only root could raise."""
    hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


@lru_cache(maxsize=2)
def _alone(*, changes_user: bool) -> tuple[str, ...]:
    """Options for an own network and System V IPC; tested once.

    A user namespace has one user: a program that `changes_user` does without it.
    """
    as_root = ("unshare", "--net", "--ipc", "--")
    as_user = ("unshare", "--map-current-user", "--net", "--ipc", "--")
    for words in (as_root,) if changes_user else (as_root, as_user):
        with suppress(OSError, subprocess.TimeoutExpired):
            tried = subprocess.run([*words, "true"], input=b"", capture_output=True, timeout=PROBE_S, check=False)
            if tried.returncode == 0:
                return words
    return ()


def _may_change_user() -> bool:
    """Return whether this root may change its user, as in a container."""
    maps = (Path("/proc/self/uid_map").read_text("ascii"), Path("/proc/self/gid_map").read_text("ascii"))
    return _has_capabilities(SETUID, SETGID) and all(_is_mapped(text) for text in maps)


def _is_mapped(text: str) -> bool:
    """Return whether a line of a map of user_namespaces(7) contains all of OWN_UIDS."""
    lines = [[int(word) for word in line.split()] for line in text.splitlines()]
    return any(first <= OWN_UIDS.start and OWN_UIDS.stop <= first + count for first, _, count in lines)


def _has_capabilities(*numbers: int) -> bool:
    lines = Path("/proc/thread-self/status").read_text("ascii", errors="replace").splitlines()
    effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return all(effective >> number & 1 for number in numbers)


def _is_reachable(program: Path) -> bool:
    """Return whether everybody may execute this program."""
    try:
        path = program.resolve(strict=True)
        return all(file.stat().st_mode & stat.S_IXOTH for file in (path, *path.parents))
    except OSError:
        return False


def _kvm_groups(machine: Machine) -> str | None:
    """Return setpriv's option for the accelerators' groups; None if they need root."""
    if not any(str(name).startswith("kvm") for name in machine.emulated().accelerators) or not KVM.exists():
        return "--clear-groups"
    status = KVM.stat()
    if status.st_mode & 0o006 == 0o006:
        return "--clear-groups"
    return f"--groups={status.st_gid}" if status.st_mode & 0o060 == 0o060 else None
