"""QEMU's arguments."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.model import ConsoleProof, Machine
from bootmatrix.qemu.command import RESULT_PORT, CommandLine, Descriptors, for_cell, interactive
from guests import artefact, make_bootable, make_machine

WIRES = Descriptors(monitor=10, result=12)


def values(line: CommandLine, option: str) -> list[str]:
    """What follows each occurrence of an option."""
    arguments = line.arguments
    return [arguments[index + 1] for index, word in enumerate(arguments) if word == option]


def test_a_cell_is_held_back_until_its_monitor_listens() -> None:
    line = for_cell(make_machine(), make_bootable(), WIRES)
    assert line.arguments[0] == "qemu-system-fake"
    assert "-S" in line.arguments
    assert values(line, "-chardev") == [
        "socket,id=monitor,fd=10",
        "stdio,id=console,signal=off",
        "socket,id=result,fd=12",
    ]
    assert values(line, "-action") == ["reboot=shutdown,shutdown=pause,panic=pause"]
    assert values(line, "-serial") == ["chardev:console"]
    assert values(line, "-mon") == ["chardev=monitor,mode=control"]


def test_the_board_is_as_its_profile_says() -> None:
    machine = make_machine(
        cpus=4,
        memory_mib=1024,
        accelerators=("kvm", "tcg,thread=multi"),
        firmware="vof.bin",
        arguments=("-vga", "none"),
    )
    line = for_cell(machine, make_bootable(dtb=artefact("dtb", "/store/a,b.dtb")), WIRES, "/usr/bin/qemu")
    assert line.arguments[0] == "/usr/bin/qemu"
    expected = {
        "-M": ["board,option=on"],
        "-cpu": ["any"],
        "-smp": ["4"],
        "-m": ["1024"],
        "-accel": ["kvm", "tcg,thread=multi"],
        "-bios": ["vof.bin"],
        "-vga": ["none"],
        "-kernel": ["/store/kernel"],
        "-initrd": ["/store/initrd"],
        "-dtb": ["/store/a,b.dtb"],
        "-append": [line.cmdline],
    }
    assert {option: values(line, option) for option in expected} == expected
    assert "-cpu" not in for_cell(make_machine(cpu=None), make_bootable(), WIRES).arguments


@pytest.mark.parametrize(
    ("bus", "device"), [("virtio-pci", "virtio-serial-pci"), ("virtio-mmio", "virtio-serial-device")]
)
def test_the_result_port_is_on_the_boards_bus(bus: str, device: str) -> None:
    line = for_cell(make_machine(bus=bus), make_bootable(), WIRES)
    assert values(line, "-device") == [device, f"virtserialport,chardev=result,name={RESULT_PORT}"]


def test_a_board_with_several_buses_says_which() -> None:
    machine = make_machine(bus_name="port.0")
    line = for_cell(machine, make_bootable(disk=artefact("disk", "/a")), Descriptors(10, 12, disk=(13,)))
    assert [value for value in values(line, "-device") if "bus=" in value] == [
        "virtio-serial-pci,bus=port.0",
        "virtio-blk-pci,bus=port.0,drive=disk",
    ]


@pytest.mark.parametrize(
    ("disk", "devices"),
    [("sd", []), ("usb-storage", ["usb-storage,drive=disk"]), (None, ["virtio-blk-pci,drive=disk"])],
)
def test_a_disk_goes_where_the_board_has_a_place_for_it(disk: str | None, devices: list[str]) -> None:
    machine = make_machine(disk=disk, result="console")
    bootable = make_bootable(disk=artefact("disk", "/a,b.img"))
    place = "sd" if disk == "sd" else "none"
    line = for_cell(machine, bootable, Descriptors(10, disk=(13, 14)))
    assert values(line, "-drive") == [f"if={place},id=disk,format=raw,file.locking=off,file=/dev/fdset/1"]
    assert values(line, "-device") == devices
    assert values(interactive(machine, bootable), "-drive") == [
        f"if={place},id=disk,format=raw,snapshot=on,file=/a,,b.img"
    ]


def test_where_the_console_is_the_result_channel_there_is_no_port() -> None:
    line = for_cell(make_machine(result="console"), make_bootable(), Descriptors(monitor=10))
    assert values(line, "-device") == []
    assert len(values(line, "-chardev")) == 2
    assert "bootmatrix.channel=console" in line.cmdline.split()


def test_a_network_card_only_where_it_is_asked_for_and_shut_off_from_the_host() -> None:
    machine = make_machine(result="console")
    wires = Descriptors(monitor=10)
    assert values(for_cell(machine, make_bootable(), wires), "-netdev") == []
    line = for_cell(machine, make_bootable(network=True), wires)
    assert values(line, "-netdev") == ["user,id=net0,restrict=on"]
    assert values(line, "-device") == ["virtio-net-pci,romfile=,netdev=net0"]
    without = make_machine(result="console", network=None)
    assert values(for_cell(without, make_bootable(network=True), wires), "-netdev") == []


def test_the_kernel_is_told_how_to_report_and_to_leave() -> None:
    machine = make_machine(time_factor=1.5, exit="reboot")
    line = for_cell(machine, make_bootable(cmdline=" quiet  loud "), WIRES)
    assert line.cmdline == (
        "console=ttyS0 sysrq_always_enabled panic=-1 quiet  loud"
        " bootmatrix.channel=virtio-serial bootmatrix.scale=2 bootmatrix.exit=reboot"
    )


def test_a_board_that_resets_by_its_watchdog_is_told_to_reboot() -> None:
    assert "bootmatrix.exit=reboot" in for_cell(make_machine(exit="watchdog"), make_bootable(), WIRES).cmdline.split()


def test_the_command_for_people_needs_no_socket_and_nobody_to_answer() -> None:
    line = interactive(make_machine(), make_bootable())
    assert not any("fd=" in word for word in line.arguments)
    assert "-S" not in line.arguments
    assert values(line, "-serial") == ["mon:stdio"]
    assert values(line, "-action") == ["reboot=shutdown,shutdown=poweroff,panic=shutdown"]
    assert values(line, "-chardev") == ["null,id=result"]
    assert line.cmdline.endswith(" bootmatrix.mode=manual")
    assert shlex.split(shlex.join(line.arguments)) == list(line.arguments)


def test_the_console_is_on_the_serial_port_that_the_profile_says() -> None:
    machine = make_machine(serial_port=1)
    assert values(for_cell(machine, make_bootable(), WIRES), "-serial") == ["null", "chardev:console"]
    assert values(interactive(machine, make_bootable()), "-serial") == ["null", "mon:stdio"]


def test_a_shell_is_asked_for_on_the_command_line() -> None:
    assert interactive(make_machine(), make_bootable(), shell=True).cmdline.endswith(" bootmatrix.mode=shell")


MACHINES = st.builds(
    make_machine,
    result=st.sampled_from(["virtio-serial", "console"]),
    bus=st.sampled_from(["virtio-pci", "virtio-mmio", None]),
    exit=st.sampled_from(["poweroff", "reboot"]),
    time_factor=st.floats(1, 100),
)


@given(MACHINES, st.booleans())
def test_every_machine_is_confined_and_told_no_secret(machine: Machine, network: bool) -> None:
    line = for_cell(machine, make_bootable(network=network), WIRES)
    assert values(line, "-sandbox") == [
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]
    assert {"-nodefaults", "-no-user-config"} <= set(line.arguments)
    for text in ("bootmatrix hello", "end pass"):
        assert text not in line.cmdline


def test_semihosting_opens_nothing_but_the_way_out() -> None:
    line = interactive(make_machine(exit="semihosting"), make_bootable())
    assert values(line, "-semihosting-config") == ["enable=on,userspace=on,target=gdb,chardev=semihosting"]
    assert "null,id=semihosting" in values(line, "-chardev")
    assert "bootmatrix.exit=semihosting" in line.cmdline
    assert not values(interactive(make_machine(), make_bootable()), "-semihosting-config")


def test_a_guest_that_is_not_ours_is_told_nothing_of_us() -> None:
    bootable = make_bootable(reports=False, proof=ConsoleProof(console="fine"), cmdline="root=/dev/ram")
    assert interactive(make_machine(), bootable).cmdline == "console=ttyS0 sysrq_always_enabled panic=-1 root=/dev/ram"
