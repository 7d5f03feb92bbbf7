"""What a QEMU may do on the host, should its guest break out of it: as little as it needs. See docs/security.md."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from bootmatrix.model import Machine

LEASH = ("setpriv", "--no-new-privs", "--pdeathsig", "KILL")
"""Has the kernel kill QEMU when we die, by whatever cause (prctl(2), PR_SET_PDEATHSIG). setpriv asks for this after it
has changed the user, which would undo it."""
STILL_OURS = ("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')
"""Gives up if we died before that was asked for. Takes our process id, and then the command, which takes its place."""

OWN_UIDS = range(61184, 65520)
"""Users that no account has: systemd keeps them for services that get a user only while they run
(https://systemd.io/UIDS-GIDS, "Dynamic service users"). They exist in containers too."""
_turn = itertools.count(secrets.randbelow(len(OWN_UIDS)))
SETGID, SETUID, SETPCAP = 6, 7, 8
"""Numbers of capabilities(7), as bits of CapEff in proc_pid_status(5)."""

QEMU_MIB = 3072
"""Address space of QEMU beyond the guest's memory: 1.5 GiB in all profiles, 1 GiB of it for translated code."""
THREAD_MIB = 72
"""Address space of one more thread: a stack of 8 MiB and an arena of malloc's of 64 MiB."""
MAX_THREADS = 64
MAX_FILES = 256
MAX_FILE_BYTES = 64 << 20
"""QEMU writes to sockets and pipes, which have no size. From version 10 on the picture of a board with a screen is a
file too, in memory: 1.2 MB at first, and the guest may ask for a larger one."""

FILE_OPTIONS = frozenset({"-kernel", "-initrd", "-dtb", "-bios"})
"""Options of QEMU whose value is the name of a file and nothing else."""
FILE_IN_OPTION = {"-drive": "file="}
"""Options whose value ends in the name of a file, and what stands before the name."""
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "QEMU_MODULE_DIR")
"""What QEMU may see of our environment, in which a CI system keeps its secrets."""
KVM = Path("/dev/kvm")
PROBE_S = 10


@dataclass(frozen=True)
class Files:
    """A command whose files are open already: it names their descriptors, which the child has to inherit."""

    arguments: tuple[str, ...]
    descriptors: tuple[int, ...]


@contextmanager
def opened(arguments: Sequence[str]) -> Iterator[Files]:
    """Open what the command names, for reading, so that QEMU needs no way to the folder in which it stands.

    A name that cannot be opened is left for QEMU to complain about.
    """
    with ExitStack() as stack:
        changed, descriptors = list(arguments), []
        for number, option in enumerate(arguments[:-1]):
            if option not in FILE_OPTIONS and option not in FILE_IN_OPTION:
                continue
            before, name = _split_name(option, arguments[number + 1])
            with suppress(OSError):
                file = stack.enter_context(_readable_by_all(Path(name)))
                descriptors.append(file.fileno())
                changed[number + 1] = f"{before}/dev/fd/{file.fileno()}"
        yield Files(tuple(changed), tuple(descriptors))


def _split_name(option: str, value: str) -> tuple[str, str]:
    """What stands before the name of a file in an option's value, and the name, in which QEMU has a comma twice."""
    if option in FILE_OPTIONS:
        return "", value
    before, mark, name = value.partition(FILE_IN_OPTION[option])
    return before + mark, name.replace(",,", ",")


def _readable_by_all(path: Path) -> BinaryIO:
    """A file of which a process of another user may open its own copy of the descriptor: proc_pid_fd(5).

    The cache's files are readable by all, though their folder need not be. Of another, a copy is made that has no name.
    """
    file = path.open("rb")
    mode = os.fstat(file.fileno()).st_mode
    if os.geteuid() or not stat.S_ISREG(mode) or mode & stat.S_IROTH:
        return file
    with file:
        copy = os.fdopen(os.memfd_create(path.name[:200]), "w+b")
        shutil.copyfileobj(file, copy)
        copy.flush()
        return copy


def confined(machine: Machine, program: Path, writes_bytes: int = 0) -> tuple[str, ...]:
    """The words before a command that take from it what QEMU does not need, and end it when we end.

    Each starts the next one in its own place, so that the process id stays.
    """
    user = own_user(machine, program)
    return (
        *_alone(),
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
    """setpriv's options for a user and a group that this QEMU shares with nobody; None where it stays ours.

    We have to be root to give it one. It stays ours too if only root can reach the program or the device for KVM.
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
    """Limits on a process's resources; that on threads counts all of a user's, so only an own user can have it."""
    threads = MAX_THREADS + machine.cpus
    address_mib = machine.memory_mib + QEMU_MIB + THREAD_MIB * machine.cpus
    wanted = {"core": 0, "fsize": max(MAX_FILE_BYTES, writes_bytes), "nofile": MAX_FILES, "as": address_mib << 20}
    wanted |= {"nproc": threads} if alone else {}
    return ("prlimit", *(f"--{name}={_within(name, value)}" for name, value in wanted.items()), "--")


def _within(name: str, wanted: int) -> int:
    """A limit that is not above the one that we are under ourselves, which only root could raise."""
    import resource

    hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


@lru_cache(maxsize=1)
def _alone() -> tuple[str, ...]:
    """A network without any device and a System V IPC of its own, where the host allows it: found by trying, once."""
    as_root = ("unshare", "--net", "--ipc", "--")
    as_user = ("unshare", "--map-current-user", "--net", "--ipc", "--")
    for words in (as_root, as_user):
        with suppress(OSError, subprocess.TimeoutExpired):
            tried = subprocess.run([*words, "true"], input=b"", capture_output=True, timeout=PROBE_S, check=False)
            if tried.returncode == 0:
                return words
    return ()


def _may_change_user() -> bool:
    """Whether this root may become another user: in a container it need not have the right, nor the other exist."""
    maps = (Path("/proc/self/uid_map").read_text("ascii"), Path("/proc/self/gid_map").read_text("ascii"))
    return _has_capabilities(SETUID, SETGID) and all(_is_mapped(text) for text in maps)


def _is_mapped(text: str) -> bool:
    """Whether one line of a map of user_namespaces(7) holds all of OWN_UIDS."""
    lines = [[int(word) for word in line.split()] for line in text.splitlines()]
    return any(first <= OWN_UIDS.start and OWN_UIDS.stop <= first + count for first, _, count in lines)


def _has_capabilities(*numbers: int) -> bool:
    lines = Path("/proc/thread-self/status").read_text("ascii", errors="replace").splitlines()
    effective = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return all(effective >> number & 1 for number in numbers)


def _is_reachable(program: Path) -> bool:
    """Whether anybody may execute this program."""
    try:
        path = program.resolve(strict=True)
        return all(one.stat().st_mode & stat.S_IXOTH for one in (path, *path.parents))
    except OSError:
        return False


def _kvm_groups(machine: Machine) -> str | None:
    """setpriv's option for the groups that the machine's accelerators take; None if they take root."""
    if not any(str(name).startswith("kvm") for name in machine.emulated().accelerators) or not KVM.exists():
        return "--clear-groups"
    status = KVM.stat()
    if status.st_mode & 0o006 == 0o006:
        return "--clear-groups"
    return f"--groups={status.st_gid}" if status.st_mode & 0o060 == 0o060 else None
