"""How an architecture is emulated: what `arch/<name>.yml` says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from bootmatrix.model.base import Model, Name

Version = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)*$")]
KernelForm = Literal["bzImage", "Image", "zImage", "vmlinux", "uImage"]
"""What QEMU loads. A `vmlinux` is taken out of a bzImage, and a `uImage` made of a zImage, where one is found."""
Bus = Literal["virtio-pci", "virtio-mmio", "pci", "usb"]
ResultChannel = Literal["virtio-serial", "console"]
GuestExit = Literal["poweroff", "reboot", "semihosting"]
"""How a guest leaves QEMU; `semihosting`: by a call of the emulator, which its `exit_program` makes."""


class Names(Model):
    """What the architecture is called elsewhere. `oci` is a platform: `linux`, architecture, perhaps a variant."""

    kernel: str
    qemu: str
    debian: str
    oci: Annotated[str, StringConstraints(pattern=r"^linux/[a-z0-9]+(/[a-z0-9]+)?$")]
    gnu: str
    uname: str


class KernelSource(Model):
    """Where a named kernel comes from in the Debian archive.

    `version` is a version prefix, the kernel's own name when not given and empty for whatever is newest; `flavour` is
    Debian's; `suites` are those searched, all of them, for the newest match. `page_kib` is the size of a page of memory
    that its configuration chooses.
    """

    version: str | None = None
    flavour: str
    suites: tuple[str, ...] = Field(min_length=1)
    page_kib: Literal[4, 8, 16, 32, 64, 256] = 4


class Machine(Model):
    """A QEMU board. Times are multiplied by `time_factor`, which is 1 for the fastest of them."""

    description: str
    qemu: Annotated[str, StringConstraints(pattern=r"^qemu-system-[a-z0-9_]+$")]
    qemu_package: str
    min_qemu: Version
    machine: str
    cpu: str | None = None
    cpus: int = Field(default=1, ge=1, le=64)
    threads: int = Field(default=1, ge=1, le=64, description="host cores that the emulated CPUs keep busy")
    memory_mib: int = Field(ge=64, le=65536)
    accelerators: tuple[str, ...] = ("tcg",)
    arguments: tuple[str, ...] = ()
    console: Name
    cmdline: tuple[str, ...] = ()
    kernel_form: KernelForm
    ram_start: int = Field(default=0, ge=0, description="where the RAM begins, for a kernel_form that has an address")
    dtb: str | None = Field(default=None, description="file name of the device tree in the kernel's packages")
    firmware: str | None = Field(default=None, description="file for -bios; none: QEMU's own default")
    bus: Bus | None = Field(default=None, description="where virtio devices go; none: the board has none")
    network: str | None = Field(default=None, description="the QEMU device model of the network card")
    result: ResultChannel
    exit: GuestExit
    exit_program: str = Field(default="", description="for exit: semihosting, the static program in base64")
    modules: tuple[str, ...] = Field(default=(), description="kernel modules the board itself needs")
    network_modules: tuple[str, ...] = ()
    time_factor: float = Field(ge=1, le=100)
    kernels: dict[Name, KernelSource] | None = Field(default=None, description="replaces the profile's of that name")
    source: str = Field(default="", description="where these values come from")


class Profile(Model):
    """An architecture. `name` is the file's; the first machine is the one meant when none is named."""

    name: Name
    description: str
    names: Names
    endian: Literal["little", "big"]
    bits: Literal[32, 64]
    aliases: tuple[Name, ...] = ()
    machines: dict[Name, Machine] = Field(min_length=1)
    kernels: dict[Name, KernelSource] = Field(min_length=1)

    def default_machine(self) -> str:
        """Name of the machine meant when none is named."""
        return next(iter(self.machines))

    def kernels_of(self, machine: str) -> dict[str, KernelSource]:
        """Kernel sources of a machine, by kernel name."""
        return {**self.kernels, **(self.machines[machine].kernels or {})}
