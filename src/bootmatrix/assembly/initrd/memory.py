"""Memory that a guest needs for its kernel and its unpacked initrd."""

from contextlib import suppress
from pathlib import Path

from bootmatrix.errors import BuildError
from bootmatrix.model import Bootable, Machine
from bootmatrix.source.elf import loaded_bytes

STEP_MIB = 256
"""Guests get memory in multiples of it, so that few sizes occur."""
WORK_MIB = 256
"""Memory for the programs of a guest whose memory follows its initrd."""

BEGIN_MIB = 24
"""Memory for a kernel beside its image and the initrd, until a program runs.

Measured with kernels of distributions, 6.1 and 7.2: all panic with less, and boot with 27 MiB or more.
"""


def needed_bytes(bootable: Bootable) -> int:
    """Return the least memory of a guest.

    The kernel unpacks an initrd to half of the memory (tmpfs(5)), not counting the packed initrd.
    """
    packed_bytes = bootable.initrd.size_bytes if bootable.initrd else 0
    return packed_bytes + 2 * bootable.unpacked_bytes


def begin_bytes(bootable: Bootable) -> int:
    """Return the least memory in which a kernel begins, as far as its file says.

    A kernel that unpacks itself takes more.
    """
    packed_bytes = bootable.initrd.size_bytes if bootable.initrd else 0
    return _kernel_bytes(bootable) + packed_bytes + bootable.unpacked_bytes + (BEGIN_MIB << 20)


def _kernel_bytes(bootable: Bootable) -> int:
    """Return the size of a kernel in memory: of an ELF file only the segments."""
    if bootable.kernel is None:
        return 0
    with suppress(OSError), Path(bootable.kernel.path).open("rb") as file:
        segments = loaded_bytes(file)
        return bootable.kernel.size_bytes if segments is None else segments
    return bootable.kernel.size_bytes


def largest(machine: Machine) -> Machine:
    """Return the machine with the most memory that it can have."""
    most_mib = machine.max_memory_mib
    return machine if most_mib is None else machine.model_copy(update={"memory_mib": most_mib})


def grown(machine: Machine, bootable: Bootable) -> Machine:
    """Return the machine with memory for initrd and programs, if possible."""
    if machine.max_memory_mib is None:
        return machine
    needed_mib = (needed_bytes(bootable) >> 20) + 1 + WORK_MIB
    memory_mib = min(-(-needed_mib // STEP_MIB) * STEP_MIB, machine.max_memory_mib)
    return machine if memory_mib <= machine.memory_mib else machine.model_copy(update={"memory_mib": memory_mib})


def check_memory(machine: Machine, bootable: Bootable) -> None:
    """Check the memory for kernel and initrd. Raises BuildError if it is too little."""
    memory_bytes, packed_bytes = machine.memory_mib << 20, bootable.initrd.size_bytes if bootable.initrd else 0
    unpacks = f"of {packed_bytes >> 20} MiB unpacks to {bootable.unpacked_bytes >> 20} MiB"
    if needed_bytes(bootable) > memory_bytes:
        raise BuildError(
            f"the initrd {unpacks}, and {machine.machine} has {machine.memory_mib} MiB of memory, and it may fill half "
            "of what is left of that",
            _advice(machine, bootable),
        )
    if _is_ample(memory_bytes, bootable) or begin_bytes(bootable) <= memory_bytes:
        return
    raise BuildError(
        f"{machine.machine} has {machine.memory_mib} MiB of memory, and its kernel has {_kernel_bytes(bootable) >> 20} "
        f"MiB and needs {BEGIN_MIB} MiB more to begin, and the initrd {unpacks}",
        _advice(machine, bootable),
    )


def _is_ample(memory_bytes: int, bootable: Bootable) -> bool:
    """Return whether the kernel's file, which takes time, need not be read."""
    parts = [part.size_bytes for part in (bootable.kernel, bootable.initrd) if part]
    return memory_bytes >= 2 * sum(parts) + bootable.unpacked_bytes + (BEGIN_MIB << 20)


def _advice(machine: Machine, bootable: Bootable) -> str:
    least_bytes = max(needed_bytes(bootable), begin_bytes(bootable))
    enough_mib = -(-((least_bytes >> 20) + 1) // STEP_MIB) * STEP_MIB
    most_mib = machine.max_memory_mib
    if most_mib is None or most_mib < enough_mib:
        return "Choose another machine, or reduce the spec's images: this one cannot have as much."
    return f"Give it more: --memory {enough_mib}M, or 'resources: {{memory: {enough_mib}M}}' in the matrix."
