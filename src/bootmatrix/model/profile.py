"""How an architecture is emulated: what `arch/<name>.yml` says."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints

from bootmatrix.model.base import Model, Name
from bootmatrix.model.kernel import CustomKernel, PageKib

Version = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)*$")]
KernelForm = Literal["bzImage", "Image", "zImage", "vmlinux", "uImage"]
"""What QEMU loads. A `vmlinux` is taken out of a bzImage, and a `uImage` made of a zImage, where one is found."""
QemuProgram = Annotated[str, StringConstraints(pattern=r"^qemu-system-[a-z0-9_]+$")]
_MAGIC = r"\d+:([0-9a-f]{2})+(/([0-9a-f]{2})+)?"
Magic = Annotated[str, StringConstraints(pattern=rf"^{_MAGIC}( {_MAGIC})*$")]
"""`OFFSET:BYTES[/MASK]`, one or several: bytes, in hexadecimal, by which a kernel's file is known."""
Bus = Literal["virtio-pci", "virtio-mmio", "virtio-ccw", "pci", "usb"]
MachineCode = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}){4,256}$")]
ResultChannel = Literal["virtio-serial", "console"]
GuestExit = Literal["poweroff", "reboot", "watchdog", "semihosting"]
"""How a guest leaves QEMU; `watchdog`: it reboots, on a board that does so by its watchdog, of which QEMU tells;
`semihosting`: by a call of the emulator, which its `exit_program` makes."""

Sysrq = Literal["break", "ctrl-o"]
"""How the console asks its kernel for a sysrq: by a break on a serial line, or by Ctrl-O on a hypervisor's console."""


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
    Debian's; `suites` are those searched, all of them, for the newest match. `architecture` is Debian's name of the
    kernel's, where that is not the userland's: a 64-bit kernel runs 32-bit programs. `page_kib` is the size of a page
    of memory that its configuration chooses.
    """

    version: str | None = None
    flavour: str
    architecture: str | None = None
    suites: tuple[str, ...] = Field(min_length=1)
    page_kib: PageKib = 4


class Firmware(Model):
    """A file of firmware, out of a package of the Debian archive; `path` is where it is in the package.

    `architecture` is the one whose index lists the package, and matters little: firmware is for all of them.
    """

    package: str
    path: Annotated[str, StringConstraints(pattern=r"^[^/].*$")]
    suites: tuple[str, ...] = Field(min_length=1)
    architecture: str | None = None


class Efi(Model):
    """How UEFI starts kernels of an architecture from a disk.

    `program` is the file's name by which it looks for one, in EFI/BOOT; `stub` the program that is put before kernel,
    initrd and command line to make it (systemd-stub(7)); `machine` the profile's machine that starts with UEFI;
    `room_kib` what kernels use behind themselves while they unpack, without asking UEFI for it.
    """

    program: Annotated[str, StringConstraints(pattern=r"^BOOT[A-Z0-9]+\.EFI$")]
    stub: Firmware
    machine: Name
    room_kib: int = Field(default=0, ge=0, le=1 << 20)


class Bios(Model):
    """How a BIOS starts kernels from a disk: ISOLINUX, the module of its that it loads, and a sector for hard disks.

    `machine` is the profile's machine that starts with a BIOS.
    """

    loader: Firmware
    module: Firmware
    sector: Firmware
    machine: Name


class Card(Model):
    """What a board loads from the first partition of an SD card, beside its maker's firmware.

    `kernel` and `initrd` are the names of these two there, `config` the contents of config.txt; `machine` is the board.
    `cmdline` stands before the machine's command line; `dtbs` are device trees of boards that are like it.
    """

    kernel: str
    initrd: str
    config: str
    machine: Name
    cmdline: str = ""
    dtbs: tuple[str, ...] = ()


class Accelerator(Model):
    """A faster way to run a machine than emulation, on some hosts; used only where a guest was seen to boot by it.

    `name` is a value of QEMU's -accel; `hosts` are systems and processors as uname has them, `Linux/…`. `cpu`,
    `machine` and `qemu` stand in the place of the machine's own.
    """

    name: str
    hosts: tuple[str, ...] = Field(min_length=1)
    cpu: str = "host"
    machine: str | None = None
    qemu: QemuProgram | None = None


class Machine(Model):
    """A QEMU board. Times are multiplied by `time_factor`, which is 1 for the fastest of them."""

    description: str
    qemu: QemuProgram = Field(description="the emulator's program")
    qemu_package: str = Field(description="the package of Debian that it comes in")
    min_qemu: Version = Field(description="the oldest version known to work; with an older one its cells are skipped")
    machine: str = Field(description="QEMU's name of the board, and its options: -M help")
    cpu: str | None = Field(default=None, description="QEMU's name of the CPU: -cpu help; none: the board's own")
    cpu_models: dict[Name, str] = Field(default={}, description="further values of -cpu, by the name they have after @")
    cpus: int = Field(default=1, ge=1, le=64, description="how many; some boards know one number only")
    threads: int = Field(default=1, ge=1, le=64, description="host cores that the emulated CPUs keep busy")
    memory_mib: int = Field(ge=64, le=65536, description="of RAM; some boards know one size only")
    accelerators: tuple[str | Accelerator, ...] = Field(
        default=("tcg",), description="the best first; those that are mere values of -accel work on every host"
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
    exit_program: str = Field(default="", description="for exit: semihosting, the static program in base64")
    sysrq: Sysrq = Field(default="break", description="how the console asks a kernel that hangs what it does")
    modules: tuple[str, ...] = Field(default=(), description="kernel modules the board itself needs")
    network_modules: tuple[str, ...] = Field(default=(), description="those of the network card")
    forks: bool = Field(default=True, description="whether QEMU restores saved guests of it; if not, all boot cold")
    time_factor: float = Field(ge=1, le=100, description="all time limits are multiplied by it: measure it last")
    kernels: dict[Name, KernelSource] | None = Field(default=None, description="in the place of the profile's")
    source: str = Field(default="", description="where these values come from")

    def native(self) -> tuple[Accelerator, ...]:
        """Accelerators that work on some hosts only, the best first."""
        return tuple(one for one in self.accelerators if isinstance(one, Accelerator))

    def is_emulated(self) -> bool:
        """Whether it runs on no accelerator but QEMU's own translator."""
        return all(isinstance(one, str) and one.split(",")[0] == "tcg" for one in self.accelerators)

    def emulated(self) -> Self:
        """The machine without these."""
        every = tuple(one for one in self.accelerators if isinstance(one, str))
        return self if every == self.accelerators else self.model_copy(update={"accelerators": every})


class Profile(Model):
    """An architecture. `name` is the file's; the first machine is the one meant when none is named.

    `kernel_magic` says by which bytes a kernel of this architecture is known, for each form that there is of it. `own`
    are kernels of the user's own; they do not stand in the profile's file.
    """

    name: Name
    description: str
    names: Names
    endian: Literal["little", "big"]
    bits: Literal[32, 64]
    aliases: tuple[Name, ...] = ()
    suites: tuple[str, ...] = Field(
        default=(), description="where packages come from that the suites of an image's recipe do not have"
    )
    setup: bool = Field(default=False, description="whether `make setup` installs the emulator of its first machine")
    reseed: MachineCode | None = Field(
        default=None,
        description="machine code that seeds the kernel's random numbers anew and exits: a forked guest's first act",
    )
    machines: dict[Name, Machine] = Field(min_length=1)
    efi: Efi | None = Field(default=None, description="how UEFI starts it from a disk or an ISO")
    bios: Bios | None = Field(default=None, description="how a BIOS starts it from a disk or an ISO")
    card: Card | None = Field(default=None, description="what a board's SD card holds")
    without_disk: str = Field(default="", description="why nothing is started from a disk, and what to use instead")
    kernels: dict[Name, KernelSource] = Field(min_length=1)
    kernel_magic: dict[KernelForm, Magic] = {}
    own: dict[Name, CustomKernel] = {}

    def default_machine(self) -> str:
        """Name of the machine meant when none is named."""
        return next(iter(self.machines))

    def machine(self, board: str) -> Machine:
        """The machine of a name, with the CPU model that stands after an `@`.

        Raises:
            KeyError: there is no such machine or CPU model.
        """
        name, at, cpu = board.partition("@")
        machine = self.machines[name]
        if not at:
            return machine
        # An accelerator brings the host's CPU, and this one was asked for.
        return machine.emulated().model_copy(update={"cpu": machine.cpu_models[cpu]})

    def kernels_of(self, board: str) -> dict[str, KernelSource | CustomKernel]:
        """Kernel sources of a machine, by kernel name: its own, or else all of the profile's; and the user's."""
        machine = self.machine(board)
        return {**(self.kernels if machine.kernels is None else machine.kernels), **self.own}

    def borrows_kernels(self) -> bool:
        """Whether all of its kernels are another architecture's, on which its programs run as well."""
        return all(source.architecture not in {None, self.names.debian} for source in self.kernels.values())

    def kernel_architecture(self, source: KernelSource) -> str:
        """Debian's name of a kernel's architecture."""
        return source.architecture or self.names.debian
