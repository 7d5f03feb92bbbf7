"""QEMU's arguments for a machine and a bootable. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bootmatrix.model import Bootable, Machine

Mode = Literal["cell", "template", "manual", "shell", "auto"]
"""Modes of the guest's init; see docs/guest-protocol.md."""

RESULT_PORT = "org.bootmatrix.result"
"""Name of the virtio-serial port that init reports on."""

AGENT_PORT = "org.bootmatrix.agent"
"""Name of the virtio-serial port of the guest's agent."""

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
"""QEMU's seccomp filter with all restrictions, as libvirt sets it. No guest needs any of these system calls."""

ACTIONS = "reboot=shutdown,shutdown=pause,panic=pause"
"""A guest that leaves is paused until its last events and output have been read; then bootmatrix quits QEMU."""

LEAVE_ACTIONS = "reboot=shutdown,shutdown=poweroff,panic=shutdown"
"""The same for manual boots: QEMU ends with its guest."""

SEMIHOSTING = ("-chardev", "null,id=semihosting", "-semihosting-config")
SEMIHOSTING_VALUE = "enable=on,userspace=on,target=gdb,chardev=semihosting"
"""Gives the guest one call of the emulator: leave with a status. Calls for host files go to a debugger, which does not
exist; otherwise any container could have QEMU open /proc/self/mem and read init's secret. Semihosting output is
discarded, so that QEMU's stderr is QEMU's own."""

LEAVING = {"watchdog": "reboot"}
"""Names of init's exits that differ from the profile's."""

FLASH = "if=pflash,format=raw,readonly=on,file="
"""Option of a flash memory, before the path of its contents; QEMU numbers them in order."""

SERIAL_BUSES = {
    "virtio-pci": "virtio-serial-pci",
    "virtio-mmio": "virtio-serial-device",
    "virtio-ccw": "virtio-serial-ccw",
}
"""The virtio-serial controller of each bus."""

DISK_BUSES = {"virtio-pci": "virtio-blk-pci", "virtio-mmio": "virtio-blk-device", "virtio-ccw": "virtio-blk-ccw"}
"""The virtio disk of each bus."""

CARD_READER = "sd"
"""Value of a machine's `disk` for the board's own SD card reader; else `disk` is a device model."""

CD_BUSES = {"virtio-pci": "virtio-scsi-pci", "virtio-mmio": "virtio-scsi-device"}
"""The virtio SCSI controller of each bus, on which a CD is."""

OUTBOUND = "outbound"
"""QEMU's name of the network that leads outside."""

DISK_SERIAL, SCRATCH_SERIAL = "bootmatrix", "bootmatrix-scratch"
"""Serial numbers by which init knows the disk of a copy, and the one that containers write to."""


@dataclass(frozen=True)
class CommandLine:
    """QEMU's program and arguments, and the kernel command line that is among them."""

    arguments: tuple[str, ...]
    cmdline: str


@dataclass(frozen=True)
class Descriptors:
    """Sockets for QEMU; `result` is None if the console carries results.

    The console is QEMU's standard input and output. `network` carries the frames of an outbound network.
    `disk` has one open file for each access mode, for guests with a
    disk, `scratch` likewise.
    """

    monitor: int
    result: int | None = None
    disk: tuple[int, ...] = ()
    agent: int | None = None
    network: int | None = None
    scratch: tuple[int, ...] = ()


@dataclass(frozen=True)
class ForkFiles:
    """Descriptors of a template or a copy; `state` is None for the template."""

    memory: int
    disk: int
    state: int | None = None

    @property
    def numbers(self) -> tuple[int, ...]:
        """All that QEMU has to inherit."""
        return (self.memory, self.disk, *(() if self.state is None else (self.state,)))


def for_cell(machine: Machine, bootable: Bootable, descriptors: Descriptors, program: str = "") -> CommandLine:
    """Return the command of a cell, paused (`-S`) until the monitor listens.

    `program` is the path of QEMU, by default its plain name.
    """
    channels = (*_channels(machine, descriptors), *_scratch(machine, descriptors.scratch))
    return _command(machine, bootable, "cell", channels, program, descriptors.disk)


def for_fork(
    machine: Machine, bootable: Bootable, descriptors: Descriptors, files: ForkFiles, program: str = ""
) -> CommandLine:
    """Return the command of a template, or of a copy if there is a `state`.

    A copy needs no kernel, which is in its memory.
    """
    is_copy = files.state is not None
    shared = (
        *(
            "-object",
            f"memory-backend-file,id=ram,size={machine.memory_mib}M,mem-path=/dev/fd/{files.memory},"
            f"share={'off' if is_copy else 'on'}",
        ),
        *(
            "-blockdev",
            f"driver=raw,node-name=disk,read-only=on,file.driver=file,file.locking=off,"
            f"file.filename=/dev/fd/{files.disk}",
        ),
        *("-device", f"{_on_bus(machine, DISK_BUSES[machine.bus or ''])},drive=disk,serial={DISK_SERIAL}"),
    )
    board = machine.model_copy(update={"machine": f"{machine.machine},memory-backend=ram"})
    bootable = bootable.model_copy(update={"roots": ()})  # all is on the copy's own disk
    channels = (*_channels(machine, descriptors), *shared)
    line = _command(board, bootable, "template", channels, program)
    if not is_copy:
        return line
    start = line.arguments.index("-kernel")
    return CommandLine((*line.arguments[:start], "-incoming", "defer"), line.cmdline)


def _channels(machine: Machine, descriptors: Descriptors) -> tuple[str, ...]:
    arguments = (
        "-S",
        *("-action", ACTIONS),
        *_socket("monitor", descriptors.monitor),
        *("-mon", "chardev=monitor,mode=control"),
        *("-chardev", "stdio,id=console,signal=off"),
        *_serial(machine, "chardev:console"),
    )
    ports = {"result": descriptors.result, "agent": descriptors.agent}
    sockets = (word for name, end in ports.items() if end is not None for word in _socket(name, end))
    outbound = () if descriptors.network is None else ("-netdev", f"socket,id={OUTBOUND},fd={descriptors.network}")
    return (*arguments, *sockets, *outbound)


def interactive(machine: Machine, bootable: Bootable, shell: bool = False, gdb_port: int | None = None) -> CommandLine:
    """Return a command with console and monitor (Ctrl-A C) here.

    `shell` leaves the guest at a shell. With a `gdb_port` the guest waits, before its first instruction, for gdb on
    this port of the loopback.
    """
    result = ("-chardev", "null,id=result") if machine.result == "virtio-serial" else ()
    gdb = ("-S", "-gdb", f"tcp:127.0.0.1:{gdb_port}") if gdb_port is not None else ()
    arguments = ("-action", LEAVE_ACTIONS, *_serial(machine, "mon:stdio"), *result, *gdb)
    return _command(machine, bootable, "shell" if shell else "manual", arguments, "")


def scale(machine: Machine) -> int:
    """Whole number by which the guest multiplies its own time limits."""
    return math.ceil(machine.time_factor)


def kernel_cmdline(machine: Machine, bootable: Bootable, mode: Mode) -> str:
    """Return the kernel command line. It contains no secret and no proof of a pass."""
    ours = (
        f"bootmatrix.channel={machine.result}",
        f"bootmatrix.scale={scale(machine)}",
        f"bootmatrix.exit={LEAVING.get(machine.exit, machine.exit)}",
        "" if mode == "cell" else f"bootmatrix.mode={mode}",
        f"bootmatrix.agent={bootable.agent}" if bootable.agent else "",
        "bootmatrix.scratch=1" if machine.scratch_mib and mode == "cell" else "",
    )
    words = [
        f"console={machine.console}",
        "sysrq_always_enabled",  # so that a guest that hangs can be asked what it is doing
        *machine.cmdline,
        bootable.cmdline.strip(),
        *(ours if bootable.reports else ()),
    ]
    return " ".join(word for word in words if word)


def _command(  # noqa: PLR0913, PLR0917
    machine: Machine, bootable: Bootable, mode: Mode, channels: Iterable[str], program: str, disk: Iterable[int] = ()
) -> CommandLine:
    cmdline = kernel_cmdline(machine, bootable, mode)
    arguments = (
        program or machine.qemu,
        *("-no-user-config", "-nodefaults", "-display", "none", "-sandbox", SANDBOX),
        *_board(machine),
        *_firmware(machine, bootable),
        *channels,
        *_ports(machine, bootable),
        *_network(machine, bootable, mode),
        *_kernel(bootable),
        *_disk(machine, bootable, disk),
        *_roots(machine, bootable),
        *bootable.qemu_args,
        *(("-append", cmdline) if bootable.kernel else ()),
    )
    return CommandLine(arguments, cmdline)


def _board(machine: Machine) -> tuple[str, ...]:
    # What may not work here is left out: where a guest booted by it, boot/accelerate.py has made it plain.
    plain = (accelerator for accelerator in machine.accelerators if isinstance(accelerator, str))
    accelerators = (word for accelerator in plain for word in ("-accel", accelerator))
    return (
        *("-M", machine.machine),
        *(("-cpu", machine.cpu) if machine.cpu else ()),
        *("-smp", str(machine.cpus), "-m", str(machine.memory_mib)),
        *accelerators,
        *((*SEMIHOSTING, SEMIHOSTING_VALUE) if machine.exit == "semihosting" else ()),
        *machine.arguments,
    )


def _firmware(machine: Machine, bootable: Bootable) -> tuple[str, ...]:
    """QEMU's file by name, ours by path; then read-only flash memories."""
    own = machine.firmware if isinstance(machine.firmware, str) else ""
    name = bootable.firmware.path if bootable.firmware else own
    flash = (word for flash in bootable.flash for word in ("-drive", FLASH + flash.path.replace(",", ",,")))
    return (*(("-bios", name) if name else ()), *flash)


def _kernel(bootable: Bootable) -> tuple[str, ...]:
    # These options take a file name as it is, commas and all.
    files = (("-kernel", bootable.kernel), ("-initrd", bootable.initrd), ("-dtb", bootable.dtb))
    return tuple(word for option, file in files if file for word in (option, file.path))


def _disk(machine: Machine, bootable: Bootable, descriptors: Iterable[int]) -> tuple[str, ...]:
    """The guest's own disk; manual boots discard writes."""
    if not bootable.disk:
        return ()
    is_card = machine.disk == CARD_READER
    drive = f"if={CARD_READER if is_card else 'none'},id=disk,format={bootable.disk_format}"
    model = machine.disk or _on_bus(machine, DISK_BUSES.get(machine.bus or "", "virtio-blk"))
    device: tuple[str, ...] = () if is_card else ("-device", f"{model},drive=disk")
    if bootable.disk_is_cd:
        drive += ",media=cdrom"
        device = ("-device", CD_BUSES.get(machine.bus or "", "virtio-scsi"), "-device", "scsi-cd,drive=disk")
    if descriptor_args := _fdset(1, descriptors):
        return (*descriptor_args, "-drive", f"{drive},file.locking=off,file=/dev/fdset/1", *device)
    name = bootable.disk.path.replace(",", ",,")
    return ("-drive", f"{drive},snapshot=on,file={name}", *device)


def _fdset(number: int, descriptors: Iterable[int]) -> tuple[str, ...]:
    return tuple(word for descriptor in descriptors for word in ("-add-fd", f"fd={descriptor},set={number}"))


def _scratch(machine: Machine, descriptors: tuple[int, ...]) -> tuple[str, ...]:
    """An empty disk, gone after the boot: flushes need not reach the host's."""
    if not descriptors:
        return ()
    drive = "if=none,id=scratch,format=raw,cache=unsafe,discard=unmap,file.locking=off,file=/dev/fdset/2"
    device = f"{_on_bus(machine, DISK_BUSES[machine.bus or ''])},drive=scratch,serial={SCRATCH_SERIAL}"
    return (*_fdset(2, descriptors), "-drive", drive, "-device", device)


def _roots(machine: Machine, bootable: Bootable) -> tuple[str, ...]:
    """Read-only disks with images' roots, known by serial numbers."""
    words: list[str] = []
    for number, root in enumerate(bootable.roots):
        name = root.path.replace(",", ",,")
        device = f"{_on_bus(machine, DISK_BUSES[machine.bus or ''])},drive=root{number},serial={root.name}"
        words += ("-drive", f"if=none,id=root{number},format=raw,readonly=on,file={name}", "-device", device)
    return tuple(words)


def _ports(machine: Machine, bootable: Bootable) -> tuple[str, ...]:
    """The ports of init and of the agent, if the machine has them."""
    if machine.result != "virtio-serial":
        return ()
    controller = _on_bus(machine, SERIAL_BUSES.get(machine.bus or "", "virtio-serial"))
    ports = {"result": RESULT_PORT, **({"agent": AGENT_PORT} if bootable.agent else {})}
    devices = (f"virtserialport,chardev={name},name={port}" for name, port in ports.items())
    return ("-device", controller, *(word for device in devices for word in ("-device", device)))


def _on_bus(machine: Machine, model: str) -> str:
    """A virtio device on the profile's bus, where QEMU does not choose one."""
    return f"{model},bus={machine.bus_name}" if machine.bus_name else model


def _network(machine: Machine, bootable: Bootable, mode: Mode) -> tuple[str, ...]:
    """A card on QEMU's user network; `restrict` allows only DHCP.

    An outbound network is among the channels.
    """
    if not bootable.network or not machine.network:
        return ()
    if bootable.outbound and mode == "cell":
        return ("-device", f"{machine.network},netdev={OUTBOUND}")
    return ("-netdev", "user,id=net0,restrict=on", "-device", f"{machine.network},netdev=net0")


def _serial(machine: Machine, console: str) -> tuple[str, ...]:
    """The console's serial port, after those before it, which lead nowhere."""
    ports = (*("null" for _ in range(machine.serial_port)), console)
    return tuple(word for port in ports for word in ("-serial", port))


def _socket(name: str, descriptor: int) -> tuple[str, ...]:
    return ("-chardev", f"socket,id={name},fd={descriptor}")
