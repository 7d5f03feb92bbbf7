"""What profiles can say of boards beyond one file: `extends`, CPU models, firmware; and hosts that lack a QEMU."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bootmatrix.assembly.firmware import firmware_artefact
from bootmatrix.errors import BuildError, HostError, InputError, QemuMissing, QemuTooOld
from bootmatrix.load.data_paths import CHECKOUT, arch_folders
from bootmatrix.load.profile import find_machine, load_profile, load_profiles
from bootmatrix.load.profile_template import new_board
from bootmatrix.model import Firmware, Machine, Matrix
from bootmatrix.plan import plan
from bootmatrix.qemu import sandbox
from bootmatrix.qemu.command import Descriptors, for_cell, interactive
from bootmatrix.qemu.version import qemu_fault
from guests import artefact, make_bootable, make_machine, set_up
from kitchen import Kitchen, add_deb
from packages import Deb, entry, link

pytest_plugins = ("archive_fixtures", "kitchen")
PROFILES = load_profiles(arch_folders())

FIRST = """
description: a toy
names: {kernel: k, qemu: q, debian: toy, oci: linux/toy, gnu: g, uname: u}
endian: little
bits: 64
aliases: [plaything]
machines:
  board:
    description: a board
    qemu: qemu-system-toy
    qemu_package: qemu-system-misc
    min_qemu: "8.0"
    machine: toy
    memory_mib: 256
    console: ttyS0
    kernel_form: Image
    arguments: [-vga, none]
    result: console
    exit: poweroff
    time_factor: 2
    cpu_models: {big: big-cpu}
  larger:
    extends: board
    memory_mib: 512
  largest: {extends: larger, arguments: []}
kernels:
  "6.1": {flavour: toy, suites: [bookworm]}
  "6.12": {flavour: toy, suites: [trixie]}
"""

SECOND = """
extends: first
description: a toy of the same kind
names: {debian: toyel}
machines:
  board: {extends: first/largest, console: ttyS1}
kernels:
  "6.1": {flavour: toyel, suites: [bookworm]}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write profiles; the path of the second."""

    def write_them(second: str = SECOND, first: str = FIRST) -> Path:
        (tmp_path / "first.yml").write_text(first.lstrip(), encoding="utf-8")
        (tmp_path / "second.yml").write_text(second.lstrip(), encoding="utf-8")
        return tmp_path / "second.yml"

    return write_them


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_profile(path)
    return str(caught.value)


# --- extends


def test_a_machine_says_only_what_differs(write: Write) -> None:
    machines = load_profile(write().parent / "first.yml").machines
    board = machines["board"]
    assert machines["larger"] == board.model_copy(update={"memory_mib": 512})
    assert machines["largest"] == board.model_copy(update={"memory_mib": 512, "arguments": ()})


def test_null_leaves_out_what_the_other_says(write: Write) -> None:
    path = write(SECOND.replace("console: ttyS1", "memory_mib: null"))
    assert refusal(path) == f"{path}:5: 'board' has no 'memory_mib'"
    board = load_profile(write(SECOND.replace("console: ttyS1", "cpu_models: null"))).machines["board"]
    assert board.cpu_models == {}
    assert load_profile(write()).machines["board"].cpu_models == {"big": "big-cpu"}
    for mistake in ("cpu_models: ", "bus: null"):  # an oversight, perhaps; and a key that the other has not got
        key = mistake.partition(":")[0]
        path = write(SECOND.replace("console: ttyS1", mistake))
        assert refusal(path) == f"{path}:5: {key!r} has no value. Set one, or remove it"


def test_an_architecture_says_only_what_differs(write: Write) -> None:
    first, second = load_profiles([write().parent]).values()
    assert second.names == first.names.model_copy(update={"debian": "toyel"})
    assert (second.bits, second.endian, second.aliases) == (64, "little", ())
    assert second.machines == {"board": first.machines["largest"].model_copy(update={"console": "ttyS1"})}
    assert {name: source.flavour for name, source in second.kernels.items()} == {"6.1": "toyel"}


FLAVOURS = """\
  other: {extends: board, flavour: big}
  another: {extends: other, kernels: {"6.12": {suites: [sid]}, "7": {flavour: odd, suites: [sid]}}}
  third: {extends: board, kernels: {"6.12": {suites: [sid]}}}
flavour: toy
kernels:
  "6.1": {suites: [bookworm]}
  "6.12": {suites: [trixie]}
  6.12-odd: {version: "6.12", flavour: odd, suites: [trixie]}
"""


def flavoured(write: Write, text: str) -> Path:
    path = write().parent / "first.yml"
    path.write_text(FIRST[: FIRST.index("kernels:")] + text)
    return path


def test_a_flavour_is_the_default_of_kernels(write: Write) -> None:
    path = flavoured(write, FLAVOURS)
    profile = load_profile(path)

    def flavours(board: str) -> dict[str, tuple[str, tuple[str, ...]]]:
        sources = profile.machines[board].kernels or profile.kernels
        return {name: (source.flavour, source.suites) for name, source in sources.items()}

    old, new = {"6.1": ("toy", ("bookworm",))}, {"6.12": ("toy", ("trixie",))}
    assert flavours("board") == {**old, **new, "6.12-odd": ("odd", ("trixie",))}
    assert flavours("other") == {"6.1": ("big", ("bookworm",)), "6.12": ("big", ("trixie",))}
    assert flavours("another") == {"6.12": ("big", ("sid",)), "7": ("odd", ("sid",))}
    assert flavours("third") == {"6.12": ("toy", ("sid",))}
    (path.parent / "second.yml").write_text(SECOND.replace("first/largest", "first/other"))
    second = load_profile(path.parent / "second.yml")
    assert (second.machines["board"].kernels or {})["6.12"].flavour == "big"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("flavour: toy\n", "", "first.yml:28: '6.12' has no 'flavour'"),
        (
            "flavour: toy\n",
            "flavour: 1\n",
            "first.yml:29: 'flavour' should be text. Put it in quotes",
        ),
        ("flavour: toy\n", "flavour:\n", "first.yml:29: 'flavour' has no value"),
        ("flavour: big", "flavour: [big]", "first.yml:26: 'flavour' should be text"),
    ],
)
def test_faults_of_flavours(write: Write, old: str, new: str, message: str) -> None:
    assert message in refusal(flavoured(write, FLAVOURS.replace(old, new)))


def test_no_line_of_a_profile_is_too_long() -> None:
    files = [*CHECKOUT.glob("arch/*.yml")]
    lines = [(file.name, line) for file in files for line in file.read_text().splitlines() if len(line) > 120]
    assert files
    assert not lines


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("extends: first\n", "extends: frist\n", "second.yml:1: unknown architecture 'frist' to extend. Did you"),
        ("first/largest", "first/lagrest", "second.yml:5: unknown machine 'first/lagrest' to extend. Did you mean"),
        ("first/largest", "[board]", "second.yml:5: unknown machine ['board'] to extend."),
        ("first/largest", "board", "second.yml:5: circular 'extends'"),
        ("extends: first\n", "extends: second\n", "second.yml:1: the extended definition is invalid:"),
        ("console: ttyS1", "cosnole: ttyS1", "second.yml:5: unknown key 'cosnole'. Did you mean 'console'?"),
        ("console: ttyS1", "memory_mib: 1", "second.yml:5: 'memory_mib' is the number 1: input must be greater"),
    ],
)
def test_faults_of_what_extends(write: Write, old: str, new: str, message: str) -> None:
    assert old in SECOND
    path = write(SECOND.replace(old, new))
    assert refusal(path).removeprefix(f"{path.parent}/").startswith(message)


def test_faults_of_what_is_extended_are_told_at_their_place(write: Write) -> None:
    path = write(first=FIRST.replace("{extends: larger,", "{extends: huge,"))
    assert f"{path.parent}/first.yml:24: unknown machine 'huge' to extend." in refusal(path)


def test_machines_that_extend_each_other(write: Write) -> None:
    path = write(first=FIRST.replace("    description: a board\n", "    extends: largest\n"))
    assert "first.yml:8: circular 'extends'" in refusal(path.parent / "first.yml")


# --- CPU models


def test_a_cpu_model_is_a_part_of_the_cells_name(write: Write, tmp_path: Path) -> None:
    profiles = load_profiles([write().parent])
    assert find_machine(profiles, "plaything@big")[1] == "board@big"
    assert find_machine(profiles, "first/larger@big")[1] == "larger@big"
    assert profiles["first"].machine("larger@big").cpu == "big-cpu"
    (tmp_path / "a.yml").write_text("{}", encoding="utf-8")
    found = plan(matrix("first", "first@big", "first/larger@big"), tmp_path, profiles)
    assert [cell.id for cell in found.cells] == ["a/first/6.1", "a/first@big/6.1", "a/first/larger@big/6.1"]
    excluding = matrix("first", "first@big", "first/larger@big", exclude=({"arch": "first/board", "reason": "no"},))
    assert [cell.id for cell in plan(excluding, tmp_path, profiles).cells] == ["a/first/larger@big/6.1"]
    excluding = matrix("first", "first@big", exclude=({"arch": "first@big", "reason": "no"},))
    assert [cell.id for cell in plan(excluding, tmp_path, profiles).cells] == ["a/first/6.1"]


def test_a_cpu_model_has_to_be_known(write: Write) -> None:
    profiles = load_profiles([write().parent])
    with pytest.raises(InputError, match=r"first/board has no CPU model 'bgi'\. Did you mean 'big'"):
        find_machine(profiles, "first@bgi")


# --- all of them, and hosts that lack one


def matrix(*arch: str, **fields: object) -> Matrix:
    return Matrix.model_validate({"specs": ("a.yml",), "arch": arch, "kernel": ("6.1",), **fields})


def test_all_machines_of_an_architecture_and_of_all(write: Write, tmp_path: Path) -> None:
    profiles = load_profiles([write().parent])
    (tmp_path / "a.yml").write_text("{}", encoding="utf-8")
    first = ["a/first/6.1", "a/first/larger/6.1", "a/first/largest/6.1"]
    assert [cell.id for cell in plan(matrix("first/all"), tmp_path, profiles).cells] == first
    assert [cell.id for cell in plan(matrix("all/all"), tmp_path, profiles).cells] == [*first, "a/second/6.1"]
    assert [cell.id for cell in plan(matrix("all"), tmp_path, profiles).cells] == ["a/first/6.1", "a/second/6.1"]


@pytest.mark.parametrize(
    ("arch", "fault", "reason"),
    [
        ("first", QemuTooOld("it is old"), "it is old"),
        ("all", QemuTooOld("it is old"), "it is old"),
        ("first", QemuMissing("it is not here", "Install it."), None),
        ("all", QemuMissing("it is not here", "Install it."), "it is not here. Install it."),
        ("all/all", QemuMissing("it is not here", "Install it."), "it is not here. Install it."),
        ("all", HostError("it does not run"), None),
        ("all", None, None),
    ],
)
def test_a_machine_is_skipped_for_its_qemu(
    write: Write, tmp_path: Path, arch: str, fault: HostError | None, reason: str | None
) -> None:
    """What was asked for by name and is not installed is an error of the host, and no skip."""
    profiles = load_profiles([write().parent])
    (tmp_path / "a.yml").write_text("{}", encoding="utf-8")
    found = plan(matrix(arch), tmp_path, profiles, lambda _machine: fault)
    assert bool(found.cells) is not bool(found.skips)
    assert {skip.reason for skip in found.skips} == ({reason} if reason else set())


def test_the_fault_of_a_qemu() -> None:
    machine = PROFILES["x86_64"].machines["q35"]
    assert qemu_fault(machine) is None
    assert isinstance(qemu_fault(machine.model_copy(update={"min_qemu": "99"})), QemuTooOld)
    assert isinstance(qemu_fault(machine.model_copy(update={"qemu": "qemu-system-none"})), QemuMissing)


# --- firmware


FIRMWARE = Firmware(package="fw", path="usr/share/fw/code.fd", suites=("old",), architecture="amd64")


def test_firmware_comes_out_of_a_package(kitchen: Kitchen) -> None:
    data = Deb("fw").of(entry("./usr/share/fw/code.fd", b"code"), link("./usr/share/fw/link.fd", "code.fd"))
    add_deb(kitchen.small, "old", "fw", "1.0-1", data)
    kitchen.small.publish()
    found = firmware_artefact(FIRMWARE, PROFILES["aarch64"], kitchen.builder)
    assert (found.kind, found.name, found.size_bytes, found.file.read_bytes()) == ("firmware", "fw 1.0-1", 4, b"code")
    assert firmware_artefact(FIRMWARE, PROFILES["aarch64"], kitchen.builder) == found
    for path in ("usr/share/fw/none.fd", "usr/share/fw/link.fd"):
        with pytest.raises(BuildError, match=f"holds no file {path}"):
            firmware_artefact(FIRMWARE.model_copy(update={"path": path}), PROFILES["aarch64"], kitchen.builder)


def firmware_options(machine: Machine, **fields: object) -> list[str]:
    arguments = for_cell(machine, make_bootable(**fields), Descriptors(3, 4)).arguments
    return [value for option, value in itertools.pairwise(arguments) if option in {"-bios", "-drive"}]


def test_qemu_gets_firmware_and_read_only_flash(tmp_path: Path) -> None:
    machine = make_machine(firmware="own.bin")
    assert firmware_options(machine) == ["own.bin"]
    file = tmp_path / "a,b.fd"
    file.write_bytes(b"flash")
    flash = (artefact("firmware", str(file)),)
    found = firmware_options(machine, firmware=artefact("firmware", "/store/fw"), flash=flash)
    assert found == ["/store/fw", f"if=pflash,format=raw,readonly=on,file={str(file).replace(',', ',,')}"]
    with sandbox.opened(["qemu", "-drive", found[1]]) as files:
        (descriptor,) = files.descriptors
        assert files.arguments[2] == f"if=pflash,format=raw,readonly=on,file=/dev/fd/{descriptor}"


# --- the beginning of a new one


@pytest.mark.parametrize("like", ["first", "plaything/largest", "second/board"])
def test_a_new_board_is_at_first_another_one(write: Write, like: str) -> None:
    folder = write().parent
    profile, machine = find_machine(load_profiles([folder]), like)
    (folder / "mine.yml").write_text(new_board(profile, machine, "mine"), encoding="utf-8")
    mine = load_profiles([folder])["mine"]
    before = profile.machines[machine]
    assert mine.kernels == profile.kernels
    assert mine.machines == {
        "mine": before.model_copy(
            update={"description": "what mine is, and its CPU", "source": "where these values come from"}
        )
    }
    assert "console: ttyS" in (folder / "mine.yml").read_text()


def test_a_new_board_replaces_no_file(tmp_path: Path) -> None:
    def new(file: Path, like: str = "aarch64/virt") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bootmatrix.cli.main", "arch", "new", str(file), "--like", like]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    file = tmp_path / "arch/mine.yml"
    assert new(file).returncode == 0
    text = file.read_text()
    link = file.with_name("link.yml")
    link.symlink_to(tmp_path / "elsewhere")
    for path, like, message in (
        (file, "aarch64", "already exists"),
        (link, "aarch64", "already exists"),
        (tmp_path / "arch/armv7.yml", "armv7", "would replace the architecture 'armv7'"),
        (tmp_path / "a b.yml", "aarch64", "without blanks"),
        (tmp_path / "mine.yaml", "aarch64", "file name must be NAME.yml"),
        (file / "mine.yml", "aarch64", "mine.yml: File exists"),
        (tmp_path / "other.yml", "aarch64/vrit", "Did you mean 'virt'"),
    ):
        done = new(path, like)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert (file.read_text(), [path.name for path in tmp_path.iterdir()]) == (text, ["arch"])


# --- what is shipped


def every_board() -> Iterator[tuple[str, Machine]]:
    """All machines, and those with each of their CPU models."""
    for profile in PROFILES.values():
        for name, machine in profile.machines.items():
            for board in (name, *(f"{name}@{model}" for model in machine.cpu_models)):
                yield f"{profile.name}/{board}", profile.machine(board)


def test_qemu_knows_every_board_and_cpu_model() -> None:
    """They are set up, with all their devices, and never run: that says nothing yet of whether a kernel boots."""
    refused = {}
    present = [(name, machine) for name, machine in every_board() if not qemu_fault(machine)]
    assert {name for name, profile in PROFILES.items() if profile.setup} <= {name.split("/")[0] for name, _ in present}
    for name, machine in present:
        line = interactive(machine, make_bootable(kernel=None, initrd=None, network=True)).arguments
        command = ["null" if word == "mon:stdio" else word for word in line]
        done = set_up([*command, "-S", "-monitor", "stdio"], b"quit\n")
        if done.returncode:
            refused[name] = done.stderr
    assert refused == {}


def test_every_machine_says_where_its_values_come_from() -> None:
    every = {f"{name}/{board}": one for name, profile in PROFILES.items() for board, one in profile.machines.items()}
    assert [name for name, machine in every.items() if not machine.source] == []


def test_every_machine_says_what_it_is() -> None:
    told = [machine.description for profile in PROFILES.values() for machine in profile.machines.values()]
    assert len(told) == len(set(told))


@pytest.mark.boots
def test_a_profile_is_checked_by_booting_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bootmatrix.cli.main", "arch", "check"]
    profile = str(CHECKOUT / "arch/aarch64.yml")
    reports = ["--reports", str(tmp_path / "reports")]
    done = subprocess.run(
        [*command, profile, "--machine", "virt", *reports], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass" in done.stdout
    table = subprocess.run(
        [*command[:-1], "table", *reports, "latest"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    (row,) = (line for line in table.splitlines() if line.startswith("| `aarch64/virt` |"))
    assert "| pass |" in row
    (tmp_path / "bad.yml").write_text("machines: {}\n", encoding="utf-8")
    bad = subprocess.run([*command, str(tmp_path / "bad.yml")], capture_output=True, text=True, timeout=60, check=False)
    assert (bad.returncode, "Traceback" in bad.stderr) == (2, False)
