"""Selection of cells beside the files, and the matrix that it makes of them."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bootmatrix.console.kernel_messages import WARNINGS
from bootmatrix.errors import InputError
from bootmatrix.load.facts import ANY_KERNEL
from bootmatrix.load.qemu_args import parse_qemu_args
from bootmatrix.model import BootKind, GuestSize, Matrix, Network, QemuArgs, ResourceRule, RootPlace, Tier
from bootmatrix.model.cluster import Host
from bootmatrix.model.durations import duration_s
from bootmatrix.model.guest_size import AUTO, MAX_CPUS, disk_mib, limit_bytes, memory_mib
from bootmatrix.model.matrix import PageSize

FACTS = ("page_size", "va_bits", "bits", "kernel_bits", "endian", "cpu")
"""Keys of a matrix that choose kernels and machines by facts."""


@dataclass(frozen=True)
class Selection:
    """Selection beside the files: architectures, kernels, matrix keys.

    An empty `arch` means all architectures, or the matrix's; an empty `kernel` 6.1, or the matrix's. `verify_fork` is a
    number of forked cells that are booted cold as well. `needs_qemu` skips or refuses machines whose QEMU is missing;
    `must_test` refuses a plan that tests nothing.

    The keys of FACTS choose kernels and machines by facts; `machine` is a board of each of the
    architectures. `memory` (`2G`, `auto`), `cpus` and `disk` (`4G`) are the guests' size. `append` is added to the
    kernel command line; `timeout` (`90s`) replaces the limits of onboot containers, services and checks, `get_limit`
    (`2G`) that of result files. `network` replaces that of the specs. `fail_on_warning` makes the kernel's warnings
    failures.

    `only` has patterns of cell ids; `rerun_failed` names a run whose cells that are not as expected are selected;
    `shard` is a part of it all, such as `2/4`; `budget` a duration. `boards` are those of the hardware tier.
    """

    arch: tuple[str, ...] = ()
    kernel: tuple[str, ...] = ()
    boot: BootKind | None = None
    roots: RootPlace | None = None
    tier: tuple[Tier, ...] = ()
    flaky: int | None = None
    qemu_args: tuple[str, ...] = ()
    verify_fork: int | None = None
    allow_empty: bool = False
    needs_qemu: bool = True
    must_test: bool = True
    page_size: tuple[PageSize, ...] = ()
    va_bits: tuple[Literal["all"] | int, ...] = ()
    bits: tuple[Literal[32, 64], ...] = ()
    kernel_bits: tuple[Literal[32, 64], ...] = ()
    endian: tuple[Literal["little", "big"], ...] = ()
    cpu: tuple[str, ...] = ()
    machine: str | None = None
    memory: str | None = None
    cpus: int | None = None
    disk: str | None = None
    append: tuple[str, ...] = ()
    timeout: str | None = None
    fail_on_warning: bool = False
    get_limit: str | None = None
    network: Network | None = None
    only: tuple[str, ...] = ()
    shard: str = ""
    budget: str = ""
    rerun_failed: str = ""
    boards: tuple[Host, ...] = ()


def board_targets(selection: Selection) -> tuple[str, ...]:
    """Return the selected architectures, with `machine` for those that name none.

    Raises InputError if a machine has no architecture.
    """
    if selection.machine is None:
        return selection.arch
    if not selection.arch:
        raise InputError("--machine needs --arch", f"Such as --arch A --machine {selection.machine}.")
    return tuple(name if "/" in name else _on_board(name, selection.machine) for name in selection.arch)


def _on_board(arch: str, machine: str) -> str:
    name, at, cpu = arch.partition("@")
    return f"{name}/{machine}{at}{cpu}"


def apply(selection: Selection, matrix: Matrix) -> Matrix:
    """Return the matrix with a selection's keys. Raises InputError."""
    changes: dict[str, Any] = {
        name: value
        for name in ("boot", "roots", "network", "tier", "flaky", *FACTS)
        if (value := getattr(selection, name)) not in {None, ()}
    }
    if selection.qemu_args:
        words = shlex.join(split_qemu_args(selection.qemu_args))
        changes["qemu_args"] = (*matrix.qemu_args, QemuArgs(args=words))
    if any(value is not None for value in (selection.memory, selection.cpus, selection.disk)):
        changes["resources"] = (*matrix.resources, _resources(selection))
    if selection.append:
        changes["append"] = " ".join(filter(None, (matrix.append, *map(_checked_append, selection.append))))
    if selection.fail_on_warning:
        changes["fail_on"] = tuple(dict.fromkeys((*matrix.fail_on, *WARNINGS)))
    if selection.get_limit is not None:
        limit_bytes(selection.get_limit)
        changes["get_limit"] = selection.get_limit
    if selection.timeout is not None:
        limit_s = duration_s(selection.timeout, "--timeout")
        limits = {"onboot": limit_s, "services": limit_s}
        changes |= {"limit": limit_s, "timeouts": matrix.timeouts.model_copy(update=limits)}
    return matrix.model_copy(update=changes)


def requested_size(selection: Selection) -> GuestSize:
    """Return a selection's guest size. Raises InputError if invalid."""
    return _resources(selection).size


def default_kernels(selection: Selection, kernels: Iterable[str]) -> tuple[str, ...]:
    """Return kernel names: the given ones, or any version where facts choose."""
    return tuple(kernels) or ((ANY_KERNEL,) if selection.page_size or selection.va_bits else ())


def _resources(selection: Selection) -> ResourceRule:
    if selection.memory not in {None, AUTO}:
        memory_mib(selection.memory or "", "--memory")
    if selection.cpus is not None and not 1 <= selection.cpus <= MAX_CPUS:
        raise InputError(f"--cpus {selection.cpus}: must be a number from 1 to {MAX_CPUS}")
    if selection.disk is not None:
        disk_mib(selection.disk, "--disk")
    return ResourceRule(memory=selection.memory, cpus=selection.cpus, disk=selection.disk)


def _checked_append(words: str) -> str:
    if not words.isprintable() or len(words) > 1000:
        raise InputError("--append must be one line of printable text, of at most 1000 characters")
    return words


def split_qemu_args(texts: Sequence[str]) -> tuple[str, ...]:
    """Split QEMU's arguments. Raises InputError if one is not allowed."""
    return tuple(word for text in texts for word in parse_qemu_args(text, Path()))
