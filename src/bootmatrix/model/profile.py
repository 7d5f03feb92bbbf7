"""Profiles: the emulation of an architecture, `arch/<name>.yml`."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints

from bootmatrix.model.base import Model, Name
from bootmatrix.model.distribution import RepositoryKernel
from bootmatrix.model.guest_size import GuestSize
from bootmatrix.model.kernel import CustomKernel, PageKib, VaBits

Version = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)*$")]
KernelForm = Literal["bzImage", "Image", "zImage", "vmlinux", "uImage"]
"""Kernel forms that QEMU loads. A bzImage is converted to `vmlinux`, and a zImage to `uImage`."""
QemuProgram = Annotated[str, StringConstraints(pattern=r"^qemu-system-[a-z0-9_]+$")]
PackageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.+-]*[a-z0-9])?$", max_length=100)]
"""The name of a package of Debian, which CI installs as root: neither an option nor a file, and without a last `-`."""
_MAGIC = r"\d+:([0-9a-f]{2})+(/([0-9a-f]{2})+)?"
Magic = Annotated[str, StringConstraints(pattern=rf"^{_MAGIC}( {_MAGIC})*$")]
"""`OFFSET:BYTES[/MASK]`, one or several: bytes, in hexadecimal, by which a kernel's file is known."""


def has_magic(data: bytes, rules: str) -> bool:
    """Return whether the beginning of a file has all of these bytes."""
    return all(_has_bytes(data, rule) for rule in rules.split())


def _has_bytes(data: bytes, rule: str) -> bool:
    """Return whether data matches `OFFSET:BYTES[/MASK]`."""
    offset, _, text = rule.partition(":")
    wanted, mask = (bytes.fromhex(part) if part else b"" for part in text.partition("/")[::2])
    found = data[int(offset) : int(offset) + len(wanted)]
    masked = bytes(byte & bits for byte, bits in zip(found, mask, strict=False)) if mask else found
    return masked == wanted


Bus = Literal["virtio-pci", "virtio-mmio", "virtio-ccw", "pci", "usb"]
ResultChannel = Literal["virtio-serial", "console"]
GuestExit = Literal["poweroff", "reboot", "watchdog", "semihosting"]
"""Ways to exit QEMU. `watchdog`: a reboot, on a board that reboots by its watchdog, which QEMU reports;
`semihosting`: by a call of the emulator, where it has one."""

Sysrq = Literal["break", "ctrl-o"]
"""Console signals for sysrq: a break on a serial line, or Ctrl-O on a hypervisor's console."""


class Names(Model):
    """Names of an architecture, parts of paths; `oci` is `linux/ARCH[/VARIANT]`."""

    kernel: Name
    qemu: Name
    debian: Name
    oci: Annotated[str, StringConstraints(pattern=r"^linux/[a-z0-9]+(/[a-z0-9]+)?$")]
    gnu: Name
    uname: Name


class KernelSource(Model):
    """Source of a named kernel in the Debian archive.

    `version` is a version prefix: by default the kernel's name, and empty for the newest. `flavour` is Debian's;
    `suites` are all searched for the newest match. `architecture` is Debian's name of the kernel's architecture, if
    it differs from the userland's: a 64-bit kernel runs 32-bit programs. `page_kib` is the page size of its
    configuration, `va_bits` the width of addresses, where that is the kernel's choice.
    """

    version: str | None = None
    flavour: str
    architecture: str | None = None
    suites: tuple[str, ...] = Field(min_length=1)
    page_kib: PageKib = 4
    va_bits: VaBits | None = None


AnyKernel = KernelSource | CustomKernel | RepositoryKernel
"""Sources of named kernels: the archive, the user, other distributions."""


class Firmware(Model):
    """A firmware file of a Debian package; `path` is its path in the package.

    `architecture` names the index that lists the package; firmware packages are the same for all.
    """

    package: str
    path: Annotated[str, StringConstraints(pattern=r"^[^/].*$")]
    suites: tuple[str, ...] = Field(min_length=1)
    architecture: str | None = None


class Efi(Model):
    """The boot of kernels from a disk by UEFI.

    `program` is the default file name in EFI/BOOT; `stub` the program that is combined with kernel, initrd and
    command line (systemd-stub(7)); `machine` the profile's machine with UEFI; `room_kib` the memory behind the
    kernel that it uses while unpacking.
    """

    program: Annotated[str, StringConstraints(pattern=r"^BOOT[A-Z0-9]+\.EFI$")]
    stub: Firmware
    machine: Name
    room_kib: int = Field(default=0, ge=0, le=1 << 20)


class Bios(Model):
    """Boot from a disk by a BIOS: ISOLINUX, its module, a boot sector.

    `machine` is the profile's machine with a BIOS.
    """

    loader: Firmware
    module: Firmware
    sector: Firmware
    machine: Name


class Card(Model):
    """Files on an SD card's first partition, beside the firmware.

    `kernel` and `initrd` are file names there, `config` the contents of config.txt; `machine` is the board.
    `cmdline` is put before the machine's command line; `dtbs` are device trees of similar boards.
    """

    kernel: Name
    initrd: Name
    config: str
    machine: Name
    cmdline: str = ""
    dtbs: tuple[str, ...] = ()


class Accelerator(Model):
    """An accelerator on some hosts, used after a guest booted with it.

    `name` is a value of QEMU's -accel; `hosts` are systems and processors as in uname, `Linux/…`. `cpu`, `machine`
    and `qemu` replace the machine's own.
    """

    name: str
    hosts: tuple[str, ...] = Field(min_length=1)
    cpu: str = "host"
    machine: str | None = None
    qemu: QemuProgram | None = None


class GuestTarget(Model):
    """zig's target for the guest's init, and CPU features (`-mcpu`).

    `library` is the target of what Debian's programs link, where its way to pass floating-point numbers is another.
    """

    target: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+-linux-musl[a-z0-9]*$")]
    library: Annotated[str, StringConstraints(pattern=r"^([a-z0-9_]+-linux-[a-z0-9]+)?$")] = ""
    cpu: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+([+-][a-z0-9_]+)*$")] = "baseline"


class CpuModel(Model):
    """A further CPU of a machine, with what differs by it."""

    cpu: str = Field(description="QEMU's name of the CPU, with its properties: -cpu help")
    machine: str | None = Field(default=None, description="QEMU's name of the board, and its options, if others")
    min_qemu: Version | None = Field(default=None, description="the oldest version that has it, if newer")
    va_bits: VaBits | None = Field(default=None, description="the width of a program's addresses")


class Machine(Model):
    """A QEMU board; `time_factor` is 1 for the fastest of them."""

    description: str
    qemu: QemuProgram = Field(description="the emulator's program")
    qemu_package: PackageName = Field(description="the package of Debian that it comes in")
    min_qemu: Version = Field(description="the oldest version known to work; with an older one its cells are skipped")
    machine: str = Field(description="QEMU's name of the board, and its options: -M help")
    cpu: str | None = Field(default=None, description="QEMU's name of the CPU: -cpu help; none: the board's own")
    cpu_models: dict[Name, str | CpuModel] = Field(
        default={}, description="further values of -cpu, by the name they have after @"
    )
    va_bits: VaBits | None = Field(
        default=None, description="the width of a program's addresses, as far as the CPU has"
    )
    cpus: int = Field(default=1, ge=1, le=64, description="number of CPUs; fixed on some boards")
    threads: int = Field(default=1, ge=1, le=64, description="host cores that the emulated CPUs keep busy")
    memory_mib: int = Field(ge=64, le=65536, description="RAM; fixed on some boards")
    max_memory_mib: int | None = Field(
        default=None, ge=64, le=65536, description="the most RAM that a guest can have; none: fixed at memory_mib"
    )
    scratch_mib: int = Field(
        default=0, ge=0, le=65536, description="a disk that takes what containers write; 0: they write to RAM"
    )
    max_cpus: int | None = Field(
        default=None, ge=1, le=64, description="the most CPUs that a guest can have; none: fixed at cpus"
    )
    accelerators: tuple[str | Accelerator, ...] = Field(
        default=("tcg",), description="best first; plain values of -accel work on every host"
    )
    arguments: tuple[str, ...] = Field(default=(), description="further arguments of QEMU")
    console: Name = Field(description="the kernel's name of the serial port")
    serial_port: int = Field(default=0, ge=0, le=7, description="which of QEMU's serial ports the console is on")
    cmdline: tuple[str, ...] = Field(default=(), description="further words for the kernel")
    kernel_form: KernelForm = Field(description="what QEMU loads: bzImage, Image, zImage, vmlinux or uImage")
    ram_start: int = Field(default=0, ge=0, description="where the RAM begins, for a kernel_form that has an address")
    dtb: str | None = Field(default=None, description="file name of the device tree in the kernel's packages")
    firmware: str | Firmware | None = Field(
        default=None, description="for -bios: a file that QEMU brings, or one of a package; none: QEMU's own default"
    )
    flash: tuple[Firmware, ...] = Field(default=(), description="read-only flash memories, in the order of their units")
    bus: Bus | None = Field(default=None, description="where virtio devices go; none: the board has none")
    bus_name: Name | None = Field(default=None, description="QEMU's name of that bus, on boards with several")
    disk: str | None = Field(
        default=None, description="where a guest's disk goes, if not on that bus: `sd`, or a QEMU device model"
    )
    network: str | None = Field(default=None, description="the QEMU device model of the network card")
    result: ResultChannel = Field(description="how init reports: virtio-serial, or console on boards without virtio")
    exit: GuestExit = Field(description="how the guest leaves QEMU: poweroff, reboot, watchdog or semihosting")
    sysrq: Sysrq = Field(default="break", description="how the console asks a kernel that hangs what it does")
    modules: tuple[str, ...] = Field(default=(), description="kernel modules the board itself needs")
    network_modules: tuple[str, ...] = Field(default=(), description="those of the network card")
    kernel_options: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]+$")], ...] = Field(
        default=(), description="symbols of Kconfig, without CONFIG_, that a kernel for the board sets"
    )
    faster_kernel_options: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_]+$")], ...] = Field(
        default=(), description="further symbols of a fragment; kernels without them boot, and take longer"
    )
    forks: bool = Field(default=True, description="whether QEMU restores saved guests of it; if not, all boot cold")
    time_factor: float = Field(ge=1, le=100, description="all time limits are multiplied by it: measure it last")
    kernels: dict[Name, KernelSource] | None = Field(default=None, description="in the place of the profile's")
    source: str = Field(default="", description="where these values come from")

    def cpu_model(self, name: str) -> CpuModel:
        """Return a CPU model.

        Raises KeyError if the name is unknown.
        """
        model = self.cpu_models[name]
        return CpuModel(cpu=model) if isinstance(model, str) else model

    def with_cpu(self, name: str) -> Self:
        """Return the machine with a CPU model of its own.

        Accelerators would use the host's CPU instead.

        Raises KeyError if the name is unknown.
        """
        changes = {key: value for key, value in self.cpu_model(name).model_dump().items() if value is not None}
        return self.emulated().model_copy(update=changes)

    def native(self) -> tuple[Accelerator, ...]:
        """Return the accelerators for some hosts only, best first."""
        return tuple(accelerator for accelerator in self.accelerators if isinstance(accelerator, Accelerator))

    def sized(self, size: GuestSize) -> Self:
        """Return the machine with another size, where it is not fixed."""
        changes: dict[str, int] = {}
        if size.memory_mib and self.max_memory_mib is not None:
            changes["memory_mib"] = size.memory_mib
        if size.cpus and self.max_cpus is not None:
            changes |= {"cpus": size.cpus, "threads": size.cpus}
        if size.disk_mib and self.bus:
            changes["scratch_mib"] = size.disk_mib
        return self.model_copy(update=changes) if changes else self

    def size_fault(self, size: GuestSize) -> str:
        """Return why a guest cannot have a size; empty if it can."""
        memory_mib = size.memory_mib or 0
        if memory_mib > (self.max_memory_mib or self.memory_mib):
            most = _most(self.memory_mib, self.max_memory_mib, "MiB")
            return f"the guest needs {memory_mib} MiB of memory, and {most}"
        if (size.cpus or 0) > (self.max_cpus or self.cpus):
            return f"the guest needs {size.cpus} CPUs, and {_most(self.cpus, self.max_cpus, 'CPUs')}"
        if size.disk_mib and not self.bus:
            return "the guest needs a scratch disk, and the machine has no virtio bus"
        return ""

    def is_emulated(self) -> bool:
        """Return whether only QEMU's translator runs it."""
        return all(
            isinstance(accelerator, str) and accelerator.split(",")[0] == "tcg" for accelerator in self.accelerators
        )

    def emulated(self) -> Self:
        """Return the machine without native accelerators."""
        every = tuple(accelerator for accelerator in self.accelerators if isinstance(accelerator, str))
        return self if every == self.accelerators else self.model_copy(update={"accelerators": every})


def _most(own: int, most: int | None, unit: str) -> str:
    """Describe the limit of a machine: `this machine has 1024 MiB, which is fixed`."""
    return f"this machine has {own} {unit}, which is fixed" if most is None else f"this machine can have {most} {unit}"


class Profile(Model):
    """An architecture. `name` is the file's; the first machine is the default.

    `kernel_magic` maps kernel forms to the bytes that identify a kernel of this architecture. `own` are custom
    kernels, and `catalogue` those of other distributions; they are not in the profile's file.
    """

    name: Name
    description: str
    names: Names
    endian: Literal["little", "big"]
    bits: Literal[32, 64]
    kernel_bits: Literal[32, 64] | None = Field(default=None, description="of its kernels, if other than its programs'")
    aliases: tuple[Name, ...] = ()
    suites: tuple[str, ...] = Field(
        default=(), description="where packages come from that the suites of an image's recipe do not have"
    )
    setup: bool = Field(default=False, description="whether `make setup` installs the emulator of its first machine")
    guest: GuestTarget | None = Field(default=None, description="for what `make agent` compiles the guest's init")
    programs: tuple[Magic, ...] = Field(
        default=(), description="bytes of the headers of programs that it runs, the architecture's own first: elf(5)"
    )
    machines: dict[Name, Machine] = Field(min_length=1)
    efi: Efi | None = Field(default=None, description="how UEFI starts it from a disk or an ISO")
    bios: Bios | None = Field(default=None, description="how a BIOS starts it from a disk or an ISO")
    card: Card | None = Field(default=None, description="what a board's SD card holds")
    without_disk: str = Field(default="", description="why nothing is started from a disk, and what to use instead")
    kernels: dict[Name, KernelSource] = Field(min_length=1)
    kernel_magic: dict[KernelForm, Magic] = {}
    own: dict[Name, CustomKernel] = {}
    catalogue: dict[Name, RepositoryKernel] = {}

    def default_machine(self) -> str:
        """Return the name of the default machine."""
        return next(iter(self.machines))

    def machine(self, board: str) -> Machine:
        """Return a machine by name, with the CPU model after `@` applied.

        Raises KeyError if the machine or the CPU model is unknown.
        """
        name, at, cpu = board.partition("@")
        machine = self.machines[name]
        return machine.with_cpu(cpu) if at else machine

    def kernels_of(self, board: str) -> dict[str, AnyKernel]:
        """Return a machine's kernel sources by name: all that it can boot."""
        machine = self.machine(board)
        return {**self.catalogue, **(self.kernels if machine.kernels is None else machine.kernels), **self.own}

    def va_bits(self, board: str, kernel: str) -> int | None:
        """Return the width of programs' addresses: the machine's or kernel's."""
        source = self.kernels_of(board).get(kernel)
        widths = (self.machine(board).va_bits, source.va_bits if source else None, 32 if self.bits == 32 else None)
        return min((width for width in widths if width), default=None)

    def borrows_kernels(self) -> bool:
        """Return whether all kernels are another architecture's."""
        return all(source.architecture not in {None, self.names.debian} for source in self.kernels.values())

    def kernel_architectures(self, board: str) -> set[str]:
        """Return Debian's names of the architectures of a machine's kernels."""
        own = self.machine(board).kernels
        return {self.kernel_architecture(source) for source in (self.kernels if own is None else own).values()}

    def kernel_architecture(self, source: KernelSource) -> str:
        """Return Debian's name of a kernel's architecture."""
        return source.architecture or self.names.debian
