"""Memory that a guest needs for its unpacked initrd."""

from bootmatrix.errors import BuildError
from bootmatrix.model import Bootable, Machine

STEP_MIB = 256
"""Guests get memory in multiples of it, so that few sizes occur."""
WORK_MIB = 256
"""Memory for the programs of a guest whose memory follows its initrd."""


def needed_bytes(bootable: Bootable) -> int:
    """Return the least memory of a guest.

    The kernel unpacks an initrd to half of the memory (tmpfs(5)), not counting the packed initrd.
    """
    packed_bytes = bootable.initrd.size_bytes if bootable.initrd else 0
    return packed_bytes + 2 * bootable.unpacked_bytes


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
    """Check the memory for the initrd. Raises BuildError if it is too large."""
    if needed_bytes(bootable) <= machine.memory_mib << 20:
        return
    packed_bytes = bootable.initrd.size_bytes if bootable.initrd else 0
    raise BuildError(
        f"the initrd of {packed_bytes >> 20} MiB unpacks to {bootable.unpacked_bytes >> 20} MiB, and "
        f"{machine.machine} has {machine.memory_mib} MiB of memory, and it may fill half of what is left of that",
        _advice(machine, bootable),
    )


def _advice(machine: Machine, bootable: Bootable) -> str:
    enough_mib = -(-((needed_bytes(bootable) >> 20) + 1) // STEP_MIB) * STEP_MIB
    most_mib = machine.max_memory_mib
    if most_mib is None or most_mib < enough_mib:
        return "Choose another machine, or reduce the spec's images: this one cannot have as much."
    return f"Give it more: --memory {enough_mib}M, or 'resources: {{memory: {enough_mib}M}}' in the matrix."
