"""QEMU arguments of the user's own: none of them touches what a verdict rests on, and all of them are on record."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.assembly.extra_qemu_args import COLD, drive_files, with_qemu_args
from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.input_digests import digests
from bootmatrix.cell.run import with_proof
from bootmatrix.errors import BuildError, InputError
from bootmatrix.history.extract import inputs_of
from bootmatrix.judge import judge
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.matrix import load_matrix
from bootmatrix.load.profile import load_profiles
from bootmatrix.load.qemu_args import FILE_OF_OPTIONS, load_options, parse_qemu_args
from bootmatrix.load.spec import load_one
from bootmatrix.model import ConsoleProof, Verdict
from bootmatrix.model.artefact import Forkable
from bootmatrix.packaged import packaged_table
from bootmatrix.plan import plan
from bootmatrix.progress import NullObserver
from bootmatrix.qemu.command import Descriptors, for_cell, interactive
from bootmatrix.source.archive import open_archive
from bootmatrix.store import Store
from command_line import booted
from guests import artefact, make_bootable, make_machine, make_outcome
from samples import make_cell, make_record

ELSEWHERE = packaged_table(FILE_OF_OPTIONS)["elsewhere"]
PROFILES = load_profiles([CHECKOUT / "arch"])
DRIVE = "-drive file=data.img,if=none,id=d,readonly=on -device virtio-blk-pci,drive=d"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.img"
    path.write_bytes(b"hello".ljust(1024, b"\0"))
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-device edu", ["-device", "edu"]),
        ("--device 'edu,id=a b' -usb", ["-device", "edu,id=a b", "-usb"]),
        ("-netdev user,id=n", ["-netdev", "user,id=n,restrict=on"]),
        ("-device e1000,romfile=", ["-device", "e1000,romfile="]),
        ("-global virtio-net-pci.romfile=", ["-global", "virtio-net-pci.romfile="]),
        ("-netdev user,id=n,restrict=on", ["-netdev", "user,id=n,restrict=on"]),
        ("-object rng-builtin,id=r", ["-object", "rng-builtin,id=r"]),
    ],
)
def test_arguments_are_split_as_a_shell_does(tmp_path: Path, text: str, words: list[str]) -> None:
    assert parse_qemu_args(text, tmp_path) == tuple(words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty QEMU arguments"),
        ("-device 'edu", "cannot be split"),
        ("-device", "-device has no value"),
        ("edu", "'edu' is not an allowed QEMU argument. Known: -audiodev"),
        ("-devise edu", "Did you mean '-device'?"),
        ("-device help", "prints QEMU's help"),
        ("-device edu,help", "prints QEMU's help"),
        ('-device \'{"driver": "loader"}\'', "must be KEY=VALUE"),
        ("-device loader,file=/x,addr=0", "-device 'loader' is not allowed"),
        ("-device edu,driver=loader,file=/x", "-device 'loader' is not allowed"),
        ("-device driver=edu,driver=loader,file=/x", "-device 'loader' is not allowed"),
        ("-netdev hubport,id=n,type=tap", "-netdev 'tap' is not allowed"),
        ("-netdev type=user,id=n,type=tap", "-netdev 'tap' is not allowed"),
        ("-device addr=0,driver=loader,file=/x", "-device 'loader' is not allowed"),
        ("-device usb-mtp,rootdir=/home", "-device 'usb-mtp' is not allowed"),
        ("-device usb-host,vendorid=1", "-device 'usb-host' is not allowed"),
        ("-device vhost-vsock-pci,guest-cid=3", "-device 'vhost-vsock-pci' is not allowed"),
        ("-device usb-kbd,pcap=/home/u/.bashrc", "-device: 'pcap' is not allowed"),
        ("-device virtio-net-pci,romfile=/etc/shadow", "-device: 'romfile' is not allowed"),
        ("-device ipmi-bmc-sim,frudatafile=/etc/shadow", "-device: 'frudatafile' is not allowed"),
        ("-global usb-kbd.pcap=/home/u/.bashrc", "-global: 'pcap' is not allowed"),
        ("-global usb-mtp.desc=x", "-global 'usb-mtp' is not allowed"),
        ("-global driver=usb-kbd,property=pcap,value=/x", "-global: 'pcap' is not allowed"),
        ("-global pci-device.romfile=/etc/shadow", "-global: 'romfile' is not allowed"),
        ("-chardev file,id=c,path=/x", "-chardev 'file' is not allowed; of -chardev, there are null, ringbuf"),
        ("-chardev backend=file,id=c,path=/x", "-chardev 'file' is not allowed"),
        ("-chardev null,id=c,logfile=/x", "-chardev: 'logfile' is not allowed"),
        ("-object memory-backend-file,id=m,mem-path=/x", "-object 'memory-backend-file' is not allowed"),
        ("-object id=m,qom-type=secret,file=/x", "-object 'secret' is not allowed"),
        ("-fw_cfg name=opt/x,file=/etc/shadow", "-fw_cfg: 'file' is not allowed"),
        ("-netdev tap,id=n", "-netdev 'tap' is not allowed"),
        ("-netdev user,id=n,hostfwd=tcp::80-:80", "-netdev: 'hostfwd' is not allowed"),
        ("-netdev user,id=n,restrict=off", "restrict is on"),
        ("-drive file=data.img", "would be writable"),
        ("-drive file=data.img,readonly=off", "would be writable"),
        ("-drive if=none,readonly=on", "one file="),
        ("-drive file=data.img,file=/etc/shadow,readonly=on", "one file="),
        ("-drive file=none.img,readonly=on", "none.img is not a regular file"),
        ("-drive file=data.img,readonly=on,driver=nbd", "-drive: 'driver' is not allowed"),
        ("-drive file.filename=/x,file=data.img,readonly=on", "-drive: 'file.filename' is not allowed"),
    ],
)
def test_what_cannot_be_given(tmp_path: Path, data: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_qemu_args(text, data.parent)
    assert message in str(caught.value)


@pytest.mark.parametrize("option", sorted(name for names in ELSEWHERE.values() for name in names.split()))
def test_what_a_verdict_rests_on_cannot_be_given_in_any_spelling(tmp_path: Path, option: str) -> None:
    assert option not in load_options()
    for spelling in (option, f"-{option}"):
        with pytest.raises(InputError, match="is not allowed: "):
            parse_qemu_args(f"{spelling} x", tmp_path)


def test_no_option_that_is_set_here_can_be_set_again() -> None:
    """But for those that may stand any number of times."""
    machine = make_machine(firmware="x", accelerators=("tcg",))
    line = for_cell(machine, make_bootable(dtb=artefact("dtb", "/dtb"), network=True), Descriptors(3, 4))
    ours = {word for word in line.arguments if word.startswith("-") and not word.startswith("-1")}
    assert ours & set(load_options()) <= {"-chardev", "-device", "-drive", "-netdev"}


def test_a_drives_file_is_known_by_digest_and_its_format_is_said(data: Path) -> None:
    words = parse_qemu_args(DRIVE, data.parent)
    assert list(drive_files(words)) == [data]
    guest = with_qemu_args(make_bootable(), words)
    assert f"format=raw,if=none,id=d,readonly=on,file={data}" in guest.qemu_args
    assert [(one.kind, one.path, one.size_bytes) for one in guest.attached] == [("attached", str(data), 1024)]
    qcow2 = data.with_name("a,b.qcow2")
    qcow2.write_bytes(b"QFI\xfb\0\0\0\3" + bytes(200))
    (_, value) = with_qemu_args(
        make_bootable(), parse_qemu_args("-drive file=a,,b.qcow2,snapshot=on", data.parent)
    ).qemu_args
    assert value == f"format=qcow2,snapshot=on,file={str(qcow2).replace(',', ',,')}"


def test_a_drive_that_names_another_file_of_the_host_is_refused(data: Path) -> None:
    data.write_bytes(b"QFI\xfb\0\0\0\2" + b"\0" * 7 + b"\x68" + bytes(200))
    with pytest.raises(BuildError, match="refers to another file"):
        with_qemu_args(make_bootable(), parse_qemu_args(DRIVE, data.parent))


@pytest.mark.parametrize("kind", ["vmdk", "qed", "qcow2", "raw,format=vmdk"])
def test_a_drive_is_not_read_as_something_else(data: Path, kind: str) -> None:
    """As a text that names the files of a disk, such as those of the host."""
    data.write_text('# Disk DescriptorFile\nCID=fffffffe\ncreateType="monolithicFlat"\nRW 8 FLAT "/etc/shadow" 0\n')
    with pytest.raises(BuildError, match=r"format=.*, and its contents are raw"):
        with_qemu_args(make_bootable(), parse_qemu_args(f"-drive format={kind},readonly=on,file=data.img", data.parent))


def test_a_guest_with_arguments_of_its_own_is_no_copy() -> None:
    copied = make_bootable(forkable=Forkable(initrd=artefact("initrd", "/i"), disk=artefact("disk", "/d")))
    guest = with_qemu_args(copied, ("-device", "edu"))
    assert (guest.forkable, guest.cold_reason) == (None, COLD)
    assert with_qemu_args(copied, ()) is copied
    assert not with_qemu_args(make_bootable(), ("-device", "edu")).cold_reason  # nobody asked for a copy


def test_they_stand_on_the_command_line_after_what_is_ours() -> None:
    guest = with_qemu_args(make_bootable(), ("-device", "edu"))
    for line in (for_cell(make_machine(), guest, Descriptors(3, 4)), interactive(make_machine(), guest)):
        where = line.arguments.index("edu")
        assert line.arguments[where + 1] == "-append"
        assert any("virtserialport" in word for word in line.arguments[:where])


def test_a_text_among_them_is_no_proof() -> None:
    guest = make_bootable(reports=False, proof=ConsoleProof(console="all is well"))
    assert with_proof(guest, None, make_machine()).proof
    with pytest.raises(BuildError, match="in QEMU's arguments"):
        with_proof(with_qemu_args(guest, ("-smbios", "type=1,serial=all is well")), None, make_machine())


def test_a_qemu_that_does_not_take_them_is_no_guests_fault() -> None:
    broken = make_outcome(ended_by="error", host_error="qemu exited with status 1", messages=(), events=())
    guest = with_qemu_args(make_bootable(), ("-device", "nonsense"))
    judgement = judge(broken, make_machine(), guest, b"")
    assert (judgement.verdict, "does it boot without them" in judgement.advice) == (Verdict.INFRA_ERROR, True)


MATRIX = "specs: [a.yml]\narch: [x86_64, aarch64]\nkernel: ['6.1', '7.2']\nqemu_args:\n  - {{args: '{}'}}\n"


@pytest.mark.parametrize("text", ["'-device edu'", "{args: '-device edu'}", "[{args: '-device edu'}]"])
def test_a_matrix_gives_them_to_cells(tmp_path: Path, data: Path, text: str) -> None:
    (tmp_path / "a.yml").write_text("init: []\n")
    path = tmp_path / "m.matrix.yml"
    path.write_text(f"specs: [a.yml]\narch: [x86_64]\nkernel: ['6.1']\nqemu_args: {text}\n")
    (cell,) = plan(load_matrix(path, PROFILES), tmp_path, PROFILES).cells
    assert cell.qemu_args == ("-device", "edu")


def test_a_matrix_gives_them_to_some_cells_in_their_order(tmp_path: Path, data: Path) -> None:
    (tmp_path / "a.yml").write_text("init: []\n")
    path = tmp_path / "m.matrix.yml"
    path.write_text(MATRIX.format("-usb") + f"  - {{arch: arm64, kernel: '7.2', args: '{DRIVE}'}}\n")
    cells = plan(load_matrix(path, PROFILES), tmp_path, PROFILES).cells
    assert {cell.id: cell.qemu_args[:2] for cell in cells} == {
        "a/x86_64/6.1": ("-usb",),
        "a/x86_64/7.2": ("-usb",),
        "a/aarch64/6.1": ("-usb",),
        "a/aarch64/7.2": ("-usb", "-drive"),
    }
    (found,) = {file for cell in cells for file in drive_files(cell.qemu_args)}
    assert found == data


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "  - {args: '-m 4G'}\n",
            "m.matrix.yml:6: QEMU's argument '-m' is not allowed: the machine's profile says it",
        ),
        ("  - {arch: armv7, args: -usb}\n", "m.matrix.yml:6: this entry of 'qemu_args' matches no cell"),
        ("  - {arch: x86_64}\n", "m.matrix.yml:6: 'qemu_args[1]' has no 'args'"),
    ],
)
def test_faults_in_a_matrix_have_a_line(tmp_path: Path, more: str, message: str) -> None:
    (tmp_path / "a.yml").write_text("init: []\n")
    path = tmp_path / "m.matrix.yml"
    path.write_text(MATRIX.format("-usb") + more)
    with pytest.raises(InputError) as caught:
        load_matrix(path, PROFILES)
    assert message in str(caught.value)


def test_a_run_is_not_taken_up_with_another_drive(tmp_path: Path, data: Path) -> None:
    spec = tmp_path / "a.yml"
    spec.write_text("init: []\n")
    words = parse_qemu_args(DRIVE, tmp_path)
    cell = make_cell("x86_64", spec="a", machine="q35").model_copy(update={"spec": str(spec), "qemu_args": words})
    store = Store(tmp_path / "store")
    archive = open_archive(store, offline=True, lock=None, address=None, progress=NullObserver())
    builder = Builder(store, archive)

    def taken() -> dict[str, str]:
        return digests([cell], {str(spec): load_one(spec)[0]}, PROFILES, builder)

    before = taken()
    data.write_bytes(b"other")
    assert {name for name, digest in taken().items() if digest != before[name]} == {f"drive {data}"}


def test_they_are_an_input_when_runs_are_compared() -> None:
    record = make_record(make_cell("x86_64"))
    other = record.model_copy(update={"cell": record.cell.model_copy(update={"qemu_args": ("-device", "edu")})})
    more = set(inputs_of(other, "1")) - set(inputs_of(record, "1"))
    assert [(one.kind, one.version) for one in more] == [("QEMU arguments", "-device edu")]


@pytest.mark.boots
def test_a_runtime_of_32_bit_time_is_not_the_guests_fault(tmp_path: Path) -> None:
    hello = str(CHECKOUT / "specs/hello.yml")
    arguments = ("matrix", hello, "--arch", "aarch32", "--kernel", "6.1", "--qemu-args=-rtc base=2040-01-01")
    record, _ = booted(*arguments, reports=tmp_path / "reports", limit_s=120, status=3)
    assert record["judgement"]["verdict"] == "build-error"
    assert "the OCI runtime has 32-bit time" in record["judgement"]["reason"]
