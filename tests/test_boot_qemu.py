"""Boots with the real QEMU, of a guest so small that it is written here: what becomes of our arguments and sockets."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import anyio
import pytest

from bootmatrix.assembly.prebuilt_guest import prebuilt_bootable
from bootmatrix.boot.acceleration import Accelerators, accelerator_boots, host
from bootmatrix.boot.guest import boot
from bootmatrix.errors import BuildError
from bootmatrix.judge import judge
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Accelerator, Bootable, ConsoleProof, Machine, PrebuiltGuest, Verdict
from bootmatrix.qemu.command import interactive
from bootmatrix.qemu.version import find_qemu, qemu_version
from bootmatrix.store import Store
from guests import QUICK, artefact, make_bootable, make_machine

pytest_plugins = ("archive_fixtures",)

pytestmark = pytest.mark.boots

LOAD_AT = 0x100000
TEXT = b"[    0.000001] a guest of a hundred bytes\r\n"
RESET = b"\xb0\xfe\xe6\x64"  # mov al, 0xfe; out 0x64, al: the keyboard controller's reset line
HALT = b"\xfa\xf4\xeb\xfd"  # cli; hlt; and again
TRIPLE_FAULT = b"\x0f\x01\x1d\x00\x00\x10\x00\xcc"  # lidt of nonsense; int3


def kernel(end: bytes, text: bytes = TEXT) -> bytes:
    """A 32-bit ELF program with a Multiboot header, which QEMU starts on a PC as it would a kernel.

    It prints on the first serial port and goes on with `end`.
    """
    header = 0x34 + 0x20
    multiboot = struct.pack("<III", 0x1BADB002, 0, 0x100000000 - 0x1BADB002)
    code = b"\x66\xba\xf8\x03" + b"".join(b"\xb0%c\xee" % byte for byte in text) + end + HALT
    body = multiboot + code
    entry = LOAD_AT + header + len(multiboot)
    fields = struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, entry, 0x34, 0, 0, 0x34, 0x20, 1, 0, 0, 0)
    size = header + len(body)
    program = struct.pack("<IIIIIIII", 1, 0, LOAD_AT, LOAD_AT, size, size, 7, 0x1000)
    return b"\x7fELF\x01\x01\x01" + bytes(9) + fields + program + body


def pc(**changes: object) -> Machine:
    values: dict[str, object] = {
        "qemu": "qemu-system-x86_64",
        "qemu_package": "qemu-system-x86",
        "machine": "q35",
        "cpu": "max",
        "exit": "reboot",
        "result": "virtio-serial",
    }
    return make_machine(**{**values, **changes})


def guest(folder: Path, end: bytes, text: bytes = TEXT) -> Bootable:
    folder = folder / "with space, and comma"
    folder.mkdir()
    (folder / "kernel").write_bytes(kernel(end, text))
    initrd = folder.parent / "initrd"  # of a Multiboot kernel, and only of that, it may not have a comma
    initrd.write_bytes(b"none")
    return make_bootable(
        kernel=artefact("kernel", str(folder / "kernel")), initrd=artefact("initrd", str(initrd)), network=True
    )


LEAVE = 0x10000061, 0x52800400, 0xD45E0000
"""adr x1, the parameters that follow; mov w0, #0x20 (SYS_EXIT_EXTENDED); hlt #0xf000."""
OPEN_AND_LEAVE = 0x10000181, 0x10000222, 0xF9000022, 0x52800020, 0xD45E0000, *LEAVE
"""adr x1, the block after those; adr x2, the name after it; str x2, [x1]; mov w0, #1 (SYS_OPEN); hlt #0xf000."""


def arm_board(folder: Path, name: Path) -> tuple[Machine, Bootable]:
    """A board with semihosting, and a guest that opens a file of the host for writing and leaves with status 80."""
    blocks = struct.pack("<QQ", 0x20026, 80) + struct.pack("<QQQ", 0, 4, len(str(name)))
    kernel = folder / "kernel"
    kernel.write_bytes(struct.pack("<8I", *OPEN_AND_LEAVE) + blocks + str(name).encode() + b"\0")
    machine = pc(qemu="qemu-system-aarch64", machine="virt", cpu="cortex-a57", exit="semihosting", result="console")
    return machine, make_bootable(kernel=artefact("kernel", str(kernel)), initrd=artefact("initrd", os.devnull))


FINE = b"disk is well\r\n"
BOOT_SECTOR = (
    b"\x31\xc0\x8e\xd8\x8e\xc0"  # xor ax, ax; mov ds, ax; mov es, ax
    b"\xb8\x01\x03\xbb\x00\x7c\xb9\x02\x00\xba\x80\x00\xcd\x13"  # write this sector over the second one
    b"\x72%c\xba\xf8\x03"
    % (3 + 3 * len(FINE) + len(RESET))  # jc, to the end; mov dx, the serial port
    + b"".join(b"\xb0%c\xee" % byte for byte in FINE)
    + RESET
    + b"\xf4\xeb\xfd"
)


def disk_guest(folder: Path, **changes: Any) -> Bootable:
    """A disk whose boot sector writes to the disk, says that all is well, and resets."""
    disk = folder / "disk, of 1 MiB.img"
    disk.write_bytes((BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    guest = PrebuiltGuest(disk=disk.name, expect=ConsoleProof(console="disk is well", **changes))
    profile = load_profiles([CHECKOUT / "arch"])["x86_64"]
    return prebuilt_bootable(guest, folder, profile, pc())


async def test_a_disk_boots_and_is_not_written_to(tmp_path: Path) -> None:
    bootable = disk_guest(tmp_path)
    assert bootable.disk
    before = bootable.disk.file.read_bytes()
    outcome = await boot(pc(), bootable, QUICK, tmp_path)
    console = (tmp_path / "console.log").read_bytes()
    judgement = judge(outcome, pc(), bootable, console)
    assert (judgement.verdict, judgement.is_weak) == (Verdict.PASS, True), (console, outcome)
    assert bootable.disk.file.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"console.log", bootable.disk.file.name}


async def test_a_disk_that_shows_what_is_forbidden_fails(tmp_path: Path) -> None:
    bootable = disk_guest(tmp_path, forbid=("disk is",))
    outcome = await boot(pc(), bootable, QUICK, tmp_path)
    assert judge(outcome, pc(), bootable, (tmp_path / "console.log").read_bytes()).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "header",
    [
        b"QFI\xfb\x00\x00\x00\x02" + b"\0\0\0\0\0\0\x02\0",
        b"QFI\xfb\x00\x00\x00\x03" + bytes(64) + b"\0\0\0\0\0\0\0\x04",
        b"KDMV\x01\0\0\0\x03\0\0\0" + bytes(8),
        b"KDMV\x01\0\0\0\x03\0\0\0" + b"\x01".ljust(500, b"\0") + b'parentFileNameHint="/etc/passwd"',
    ],
)
def test_an_image_that_opens_other_files_of_the_host_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.qcow2").write_bytes(header.ljust(1024, b"\0"))
    profile = load_profiles([CHECKOUT / "arch"])["x86_64"]
    with pytest.raises(BuildError, match="refers to another file"):
        prebuilt_bootable(PrebuiltGuest(disk="a.qcow2"), tmp_path, profile, pc())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/dev/zero", "the disk /dev/zero is not a regular file"),
        ("pipe", "pipe is not a regular file"),
        ("{arch:>99999999999}", "the only placeholders are"),
        ("{arch!r}", "the only placeholders are"),
        ("{arch.x}", "the only placeholders are"),
        ("{", "the only placeholders are"),
    ],
)
def test_a_disk_that_would_never_be_read_to_its_end(tmp_path: Path, name: str, words: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    profile = load_profiles([CHECKOUT / "arch"])["x86_64"]
    with pytest.raises(BuildError, match=words):
        prebuilt_bootable(PrebuiltGuest(disk=name), tmp_path, profile, pc())


@pytest.mark.parametrize("name", ["card.img", "card.qcow2"])
def test_a_card_has_a_size_that_a_card_can_have(tmp_path: Path, name: str) -> None:
    (tmp_path / "card.img").write_bytes(bytes(3 << 20))
    qcow2 = b"QFI\xfb\x00\x00\x00\x03" + bytes(16) + struct.pack(">Q", 3 << 20)
    (tmp_path / "card.qcow2").write_bytes(qcow2.ljust(512, b"\0"))
    profile = load_profiles([CHECKOUT / "arch"])["armv7"]
    with pytest.raises(BuildError, match="a power of two, and this has 3145728 bytes") as caught:
        prebuilt_bootable(PrebuiltGuest(disk=name), tmp_path, profile, pc(disk="sd"))
    assert "qemu-img resize FILE 4194304" in caught.value.hint
    assert prebuilt_bootable(PrebuiltGuest(disk=name), tmp_path, profile, pc()).disk
    with (tmp_path / "card.img").open("r+b") as file:
        file.truncate(4 << 20)
    assert prebuilt_bootable(PrebuiltGuest(disk="card.img"), tmp_path, profile, pc(disk="sd")).disk


def test_a_board_without_a_place_for_a_disk(tmp_path: Path) -> None:
    (tmp_path / "card.img").write_bytes(bytes(512))
    profile = load_profiles([CHECKOUT / "arch"])["armv7"]
    with pytest.raises(BuildError, match="has no place for a disk"):
        prebuilt_bootable(PrebuiltGuest(disk="card.img"), tmp_path, profile, pc(bus=None, result="console"))


def make_reachable(folder: Path) -> None:
    """So that it is not for want of access that nothing is opened."""
    folder.chmod(0o777)
    for parent in folder.parents:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o001)


async def test_semihosting_is_a_way_out_and_nothing_more(tmp_path: Path) -> None:
    make_reachable(tmp_path)
    machine, bootable = arm_board(tmp_path, tmp_path / "made")
    outcome = await boot(machine, bootable, QUICK, tmp_path)
    assert (outcome.exit_status, outcome.ended_by, outcome.stderr) == (80, "guest", "")
    assert judge(outcome, machine, bootable, b"").verdict is Verdict.FAIL
    assert not (tmp_path / "made").exists()


async def test_semihosting_that_opens_files_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_reachable(tmp_path)
    monkeypatch.setattr("bootmatrix.qemu.command.SEMIHOSTING_VALUE", "enable=on,target=native,chardev=semihosting")
    machine, bootable = arm_board(tmp_path, tmp_path / "made")
    await boot(machine, bootable, QUICK, tmp_path)
    assert (tmp_path / "made").exists()


def children() -> set[str]:
    """Process ids of this process's children that have not been waited for."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.parametrize("result", ["virtio-serial", "console"])
async def test_a_guest_that_resets_has_left_without_a_result(tmp_path: Path, result: str) -> None:
    before = children()
    machine, bootable = pc(result=result), guest(tmp_path, RESET)
    outcome = await boot(machine, bootable, QUICK, tmp_path)
    console = (tmp_path / "console.log").read_bytes()
    assert console.endswith(TEXT)
    assert (outcome.exit_status, outcome.ended_by, outcome.host_error) == (0, "guest", "")
    reasons = [event.data["reason"] for event in outcome.events if event.name == "SHUTDOWN"]
    assert reasons == ["guest-reset", "host-qmp-quit"]
    judgement = judge(outcome, machine, bootable, console)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason == "the guest ended without a result: its init never reported"
    assert children() <= before


async def test_a_guest_that_halts_hangs(tmp_path: Path) -> None:
    machine, bootable = pc(), guest(tmp_path, HALT)
    outcome = await boot(machine, bootable, QUICK.model_copy(update={"silence": 1.0}), tmp_path, dump=True)
    assert (outcome.ended_by, outcome.limit, outcome.limit_phase) == ("host", "silence", "boot")
    assert outcome.exit_status == 0
    assert judge(outcome, machine, bootable, b"").verdict is Verdict.HANG
    kept = {one.kind: one for one in outcome.diagnostics}
    assert set(kept) == {"screen", "registers", "tasks", "memory"}
    assert (tmp_path / kept["screen"].file).read_bytes().endswith(TEXT.strip() + b"\n")
    assert (tmp_path / kept["registers"].file).read_text().count("EIP=") == 2
    assert kept["tasks"].note == "the guest does not answer to sysrq"
    check_core(tmp_path / kept["memory"].file)


def check_core(file: Path) -> None:
    """An ELF core with all of the guest's memory, of which what is empty takes no room on the disk."""
    data = file.read_bytes()
    assert data[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", data, 16) == (4,), "ET_CORE"
    assert TEXT[:4] and kernel(HALT)[:0x200] in data
    assert len(data) >= 128 << 20
    assert file.stat().st_blocks * 512 < 64 << 20


async def test_a_triple_fault_is_a_reset(tmp_path: Path) -> None:
    outcome = await boot(pc(), guest(tmp_path, TRIPLE_FAULT), QUICK, tmp_path)
    assert outcome.ended_by == "guest"
    assert judge(outcome, pc(exit="poweroff"), make_bootable(), b"").verdict is Verdict.FAIL


async def test_a_panic_is_seen_as_it_is_printed(tmp_path: Path) -> None:
    text = TEXT + b"[    0.000002] Kernel panic - not syncing: made for a test\r\n"
    machine, bootable = pc(), guest(tmp_path, HALT, text)
    outcome = await boot(machine, bootable, QUICK, tmp_path)
    assert outcome.limit == "panic"
    judgement = judge(outcome, machine, bootable, (tmp_path / "console.log").read_bytes())
    assert (judgement.verdict, judgement.reason) == (Verdict.PANIC, "kernel panic: made for a test")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": "nonsense"}, "unsupported machine type"),
        ({"cpu": "nonsense"}, "nonsense"),
        ({"arguments": ("-device", "nonsense")}, "'nonsense' is not a valid device model name"),
        ({"arguments": ("-nonsense",)}, "invalid option"),
        ({"firmware": "/nonsense"}, "/nonsense"),
    ],
)
async def test_a_qemu_that_refuses_is_no_fault_of_the_guest(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    machine, bootable = pc(**changes), guest(tmp_path, RESET)
    outcome = await boot(machine, bootable, QUICK, tmp_path)
    judgement = judge(outcome, machine, bootable, b"")
    assert judgement.verdict is Verdict.INFRA_ERROR
    assert words in judgement.reason


async def test_the_command_for_people_runs_as_it_is(tmp_path: Path) -> None:
    line = interactive(pc(), guest(tmp_path, RESET))
    done = await anyio.run_process(line.arguments, input=b"", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(TEXT)


def test_the_real_qemu_says_its_version() -> None:
    assert int(qemu_version(pc()).split(".")[0]) >= 7
    assert find_qemu(pc()).is_absolute()


async def test_kvm_is_judged_by_a_guest_that_boots(tmp_path: Path) -> None:
    """This guest never says hello, so wherever this runs, KVM is not proven by it."""
    boots, reason = await accelerator_boots(pc(), Accelerator(name="kvm", hosts=(host(),)), guest(tmp_path, HALT), 1.5)
    assert not boots
    assert "\n" not in reason
    assert reason


async def test_an_accelerator_by_which_no_guest_boots_is_not_used(store: Store, tmp_path: Path) -> None:
    """TCG, named as if it were one."""
    one = Accelerator(name="tcg,thread=single", hosts=(host(),), cpu="qemu64")
    machine, resets = pc(accelerators=(one, "tcg")), guest(tmp_path, RESET)
    never = await Accelerators(store).choose(machine, resets)
    assert (never.accelerators, never.cpu) == (("tcg",), machine.cpu)
    elsewhere = one.model_copy(update={"hosts": ("Plan9/toy",)})
    assert await Accelerators(store).choose(pc(accelerators=(elsewhere, "tcg")), resets) == pc()


async def test_what_an_accelerator_showed_is_remembered(store: Store, tmp_path: Path) -> None:
    one = Accelerator(name="tcg,thread=single", hosts=(host(),), cpu="qemu64")
    machine, resets = pc(accelerators=(one, "tcg")), guest(tmp_path, RESET)
    await Accelerators(store).choose(machine, resets)
    (memo,) = [path for path in (store.folder / "memo").rglob("*") if path.is_file()]
    assert memo.read_bytes().endswith(b"\n0")
    memo.write_bytes(hashlib.sha256(b"1").hexdigest().encode() + b"\n1")
    chosen = await Accelerators(store).choose(machine, resets)
    assert (chosen.accelerators, chosen.cpu) == (("tcg,thread=single",), "qemu64")


async def test_a_guest_that_boots_by_nothing_says_nothing_of_others(store: Store, tmp_path: Path) -> None:
    """Its kernel may be broken, or its init another one, which never says hello."""
    one = Accelerator(name="tcg,thread=single", hosts=(host(),), cpu="qemu64")
    machine, resets = pc(accelerators=(one, "tcg")), guest(tmp_path, RESET)
    await Accelerators(store).choose(machine, resets)
    (memo,) = [path for path in (store.folder / "memo").rglob("*") if path.is_file()]
    (tmp_path / "other").mkdir()
    other = guest(tmp_path / "other", RESET).model_copy(update={"cmdline": "other"})
    await Accelerators(store).choose(machine, other)
    assert len([path for path in memo.parent.rglob("*") if path.is_file()]) == 2


async def test_an_accelerator_that_qemu_refuses_is_not_tried_at_once_again(store: Store, tmp_path: Path) -> None:
    one = Accelerator(name="tcg,thread=single", hosts=(host(),), cpu="qemu64")
    rom = tmp_path / "rom"
    machine, resets = pc(accelerators=(one, "tcg"), arguments=("-bios", str(rom))), guest(tmp_path, RESET)

    def kept() -> list[Path]:
        return sorted(path for path in (store.folder / "memo").rglob("*") if path.is_file())

    await Accelerators(store).choose(machine, resets)
    (refused,) = kept()
    # At the reset vector: mov dx, 0xcf9; mov al, 6; out dx, al, which resets the machine.
    rom.write_bytes(bytes(0xFFF0) + bytes.fromhex("baf90c b006 ee").ljust(16))
    await Accelerators(store).choose(machine, resets)
    assert kept() == [refused]
    refused.write_bytes(hashlib.sha256(b"1").hexdigest().encode() + b"\n1")  # in 1970
    await Accelerators(store).choose(machine, resets)
    assert [path.read_bytes()[-2:] for path in kept() if path != refused] == [b"\n0"]
