"""Machines and kernels chosen by facts, and the size of guests."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bootmatrix.assembly.initrd.memory import check_memory, grown
from bootmatrix.cell.adjust import adjusted
from bootmatrix.errors import BuildError, InputError
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.matrix import load_matrix
from bootmatrix.load.profile import load_profiles
from bootmatrix.load.spec import load_one
from bootmatrix.model import GuestSize, Plan, Verdict
from bootmatrix.model.guest_size import memory_mib, parse_size
from bootmatrix.plan import plan
from bootmatrix.runs.consoles import read_console
from bootmatrix.workspace.selection import Selection
from bootmatrix.workspace.workspace import Workspace
from guests import artefact, make_bootable, make_machine

PROFILES = load_profiles([CHECKOUT / "arch"])


def expand(selection: Selection, *files: str) -> Plan:
    return Workspace(offline=True).matrix_plan(files or ("hello",), selection)[0]


def ids(selection: Selection, *files: str) -> list[str]:
    return [cell.id.removeprefix("hello/") for cell in expand(selection, *files).cells]


def chosen(*arch: str, **more: object) -> Selection:
    return Selection(arch=arch, needs_qemu=False, **more)  # type: ignore[arg-type]


def test_a_page_size_is_a_kernel_of_any_version_by_default() -> None:
    assert ids(chosen("aarch64", "ppc64le", page_size=("16k", "64k"))) == ["aarch64/7.2-16k", "ppc64le/6.1"]
    assert ids(chosen("aarch64", "x86_64", page_size=("all",))) == ["aarch64/6.1", "aarch64/7.2-16k", "x86_64/6.1"]


def test_a_named_kernel_is_replaced_by_one_of_its_version_only() -> None:
    both = chosen("ppc64le", kernel=("6.1", "7.2"), page_size=("all",))
    assert ids(both) == ["ppc64le/6.1", "ppc64le/7.2", "ppc64le/7.2-64k"]
    assert ids(chosen("ppc64le", kernel=("7.2",), page_size=("64k",))) == ["ppc64le/7.2-64k"]
    with pytest.raises(InputError, match="pages of 16k") as caught:
        expand(chosen("aarch64", kernel=("6.1",), page_size=("16k",)))
    assert caught.value.hint == "These have: aarch64 7.2-16k (16k)."


def test_every_kernel_of_a_page_size() -> None:
    found = ids(chosen("all/all", kernel=("all",), page_size=("64k",)))
    assert "ppc64le/7.2-64k" in found
    assert all(one.startswith("ppc64le") for one in found)


def test_word_size_and_byte_order_narrow_the_architectures() -> None:
    assert ids(chosen("all", endian=("big",))) == ["s390x/6.1"]
    assert {cell.arch for cell in expand(chosen("x86_64", "armv7", bits=(32,))).cells} == {"armv7"}
    with pytest.raises(InputError, match="none of x86_64 has 32 bits, big endian"):
        expand(chosen("x86_64", bits=(32,), endian=("big",)))


def test_programs_on_kernels_of_another_word_size() -> None:
    mixed = ids(chosen("all", bits=(32,), kernel_bits=(64,)))
    assert {"aarch32/6.1", "i386on64/6.1"} <= set(mixed)
    assert not set(mixed) & set(ids(chosen("all", bits=(32,), kernel_bits=(32,))))
    with pytest.raises(InputError, match="none of x86_64 has 32-bit kernels"):
        expand(chosen("x86_64", kernel_bits=(32,)))


def test_kernel_bits_are_those_of_the_profile_that_the_kernels_come_from() -> None:
    own = {profile.names.debian: profile.bits for profile in PROFILES.values() if not profile.borrows_kernels()}
    for profile in PROFILES.values():
        lent = {own[source.architecture] for source in profile.kernels.values() if source.architecture}
        assert lent <= {profile.kernel_bits or profile.bits}, profile.name


def test_a_width_of_addresses_is_of_a_cpu_and_a_kernel() -> None:
    named = ("6.1", "7.2")
    assert ids(chosen("aarch64", kernel=named, va_bits=("all",))) == ["aarch64/6.1", "aarch64/7.2", "aarch64@max/7.2"]
    assert ids(chosen("aarch64", va_bits=(52,))) == ["aarch64@max/7.2"]
    assert ids(chosen("aarch64", va_bits=(52,), page_size=("16k",))) == ["aarch64@max/7.2-16k"]
    both = chosen("x86_64", "x86_64/q35-bios", "s390x", va_bits=(48, 57))
    assert ids(both) == ["x86_64/6.1", "x86_64/q35-bios/5.10", "x86_64/q35-bios/6.1"]
    assert ids(chosen("x86_64/q35-bios", kernel=("5.10", "6.1"), va_bits=(48,))) == ["x86_64/q35-bios/5.10"]
    assert ids(chosen("riscv64", va_bits=("all",))) == [f"riscv64@sv{width}/6.12" for width in (39, 48, 57)]
    assert ids(chosen("armv7", "i386on64", "aarch32", "s390x", va_bits=("all",))) == [
        "armv7/6.1",
        "i386on64/6.1",
        "aarch32/6.1",
    ]
    (cell,) = expand(chosen("riscv64", va_bits=(39,))).cells
    assert cell.traits
    assert cell.traits.va_bits == 39
    assert ids(chosen("aarch64", cpu=("cortex-a53",), kernel=("7.2",), va_bits=("all",))) == ["aarch64@cortex-a53/7.2"]


def test_a_width_that_there_is_not() -> None:
    with pytest.raises(InputError, match="addresses of 39 bits") as caught:
        expand(chosen("aarch64", "x86_64", va_bits=(39,)))
    assert caught.value.hint == "aarch64 has 48, 52; x86_64 has 48."
    with pytest.raises(InputError, match="addresses of all bits") as caught:
        expand(chosen("s390x", va_bits=("all",)))
    assert caught.value.hint == "The widths of these architectures are not known."


def test_a_cpu_model_has_its_own_board_and_version_of_qemu() -> None:
    machine = PROFILES["aarch64"].machine("virt@mte")
    assert (machine.machine, machine.va_bits, machine.is_emulated()) == ("virt,mte=on", 52, True)
    assert PROFILES["riscv64"].machine("virt@sv39").min_qemu == "8.0"
    assert PROFILES["riscv64"].machine("virt").min_qemu == "7.0"


def test_cpu_models() -> None:
    assert ids(chosen("aarch64", "x86_64", cpu=("cortex-a72",))) == ["aarch64@cortex-a72/6.1"]
    models = PROFILES["aarch64"].machines["virt"].cpu_models
    assert len(ids(chosen("aarch64", cpu=("all",)))) == len(models) + 1
    with pytest.raises(InputError, match="Did you mean 'cortex-a72'"):
        expand(chosen("aarch64", cpu=("cortex-a71",)))


def test_the_default_kernel_is_one_that_a_machine_has() -> None:
    found = dict(one.rsplit("/", 1) for one in ids(chosen("x86_64", "loongarch64", kernel=("default",))))
    assert found == {"x86_64": "6.1", "loongarch64": next(iter(PROFILES["loongarch64"].kernels))}


def test_a_machine_is_a_board_of_each_architecture() -> None:
    assert ids(chosen("aarch64", machine="raspi3b")) == ["aarch64/raspi3b/6.1"]
    with pytest.raises(InputError, match="--machine needs --arch"):
        expand(chosen(machine="raspi3b"))


def test_a_matrix_has_the_same_keys(tmp_path: Path) -> None:
    path = tmp_path / "my.matrix.yml"
    resources = [{"memory": "1G", "cpus": 2}, {"arch": "aarch64", "memory": "2G", "disk": "4G"}]
    keys = {"specs": ["hello"], "arch": ["all"], "kernel": ["default"], "bits": [64], "page_size": ["16k"]}
    path.write_text(json.dumps({**keys, "endian": ["little"], "resources": resources}), encoding="utf-8")
    cells = plan(load_matrix(path, PROFILES), tmp_path, PROFILES).cells
    sizes = {cell.id: cell.size for cell in cells}
    assert sizes["hello/aarch64/7.2-16k"] == GuestSize(memory_mib=2048, cpus=2, disk_mib=4096)
    assert sizes["hello/loongarch64/7.2"] == GuestSize(memory_mib=1024, cpus=2)
    path.write_text(json.dumps({**keys, "resources": {"memory": "2Gi"}}), encoding="utf-8")
    with pytest.raises(InputError, match=r"my\.matrix\.yml:1: 'memory' must be an amount of memory such as"):
        load_matrix(path, PROFILES)
    path.write_text(json.dumps({**keys, "resources": {"memory": "9999G"}}), encoding="utf-8")
    with pytest.raises(InputError, match="between 64M and 64G"):
        load_matrix(path, PROFILES)


def test_a_fixed_board_is_skipped_with_the_reason() -> None:
    found = expand(chosen("aarch64", "aarch64/raspi3b", "mipsel", memory="2G"))
    assert [cell.id for cell in found.cells] == ["hello/aarch64/6.1"]
    assert found.skips[0].reason == "the guest needs 2048 MiB of memory, and this machine has 1024 MiB, which is fixed"
    found = expand(chosen("aarch64/raspi3b", "mips64el", memory="1G", cpus=4))
    assert [cell.arch for cell in found.cells] == ["aarch64"]  # a board that has as much by itself is not in the way
    assert found.skips[0].reason == "the guest needs 4 CPUs, and this machine has 1 CPUs, which is fixed"
    found = expand(chosen("aarch64", "aarch64/raspi3b", disk="4G"))
    assert [cell.id for cell in found.cells] == ["hello/aarch64/6.1"]
    assert found.skips[0].reason == "the guest needs a scratch disk, and the machine has no virtio bus"


def test_a_spec_says_what_it_needs(tmp_path: Path) -> None:
    spec = {
        "init": ["linuxkit/init", "linuxkit/runc"],
        "services": [
            {"name": "a", "image": "linuxkit/x", "annotations": {"bootmatrix.resources": "memory=1G cpus=4"}},
            {"name": "b", "image": "linuxkit/x", "annotations": {"bootmatrix.resources": "memory=3G"}},
        ],
    }
    path = tmp_path / "big.yml"
    path.write_text(json.dumps(spec), encoding="utf-8")
    (cell,) = expand(chosen("x86_64"), str(path)).cells
    assert cell.size == GuestSize(memory_mib=3072, cpus=4)
    (cell,) = expand(chosen("x86_64", memory="auto"), str(path)).cells
    assert cell.size == GuestSize(cpus=4, grows=True)
    path.write_text(json.dumps(spec).replace("memory=3G", "memory=lots"), encoding="utf-8")
    with pytest.raises(InputError, match="'lots' is not an amount of memory"):
        expand(chosen("x86_64"), str(path))


@pytest.mark.parametrize("text", ["", "2", "2g", "-1G", "0G", "1.5G", "2GB", "63M", "65G", "auto"])
def test_an_amount_of_memory(text: str) -> None:
    with pytest.raises(InputError):
        memory_mib(text)
    assert (memory_mib("2G"), memory_mib("640M")) == (2048, 640)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "memory",
        "memory=1G memory=2G",
        "disk=4T",
        "disk=1M",
        "disk=auto",
        "swap=1G",
        "cpus=0",
        "cpus=two",
        "cpus=65",
    ],
)
def test_an_annotation_of_the_size(text: str) -> None:
    with pytest.raises(InputError):
        parse_size(text)


def test_a_machine_has_the_size_of_its_cell() -> None:
    machine = PROFILES["x86_64"].machine("q35").sized(GuestSize(memory_mib=2048, cpus=4))
    assert (machine.memory_mib, machine.cpus, machine.threads) == (2048, 4, 4)
    fixed = PROFILES["aarch64"].machine("raspi3b")
    assert fixed.sized(GuestSize(memory_mib=512, cpus=1)) is fixed


def test_the_memory_follows_the_initrd() -> None:
    packed = artefact("initrd", "/store/initrd").model_copy(update={"size_bytes": 100 << 20})
    large = make_bootable(initrd=packed, unpacked_bytes=300 << 20)
    machine = make_machine(memory_mib=512).model_copy(update={"max_memory_mib": 4096})
    with pytest.raises(BuildError) as caught:
        check_memory(machine, large)
    assert caught.value.hint == "Give it more: --memory 768M, or 'resources: {memory: 768M}' in the matrix."
    assert grown(machine, large).memory_mib == 1024
    assert grown(make_machine(memory_mib=512), large).memory_mib == 512
    with pytest.raises(BuildError) as caught:
        check_memory(make_machine(memory_mib=512), large)
    assert "this one cannot have as much" in caught.value.hint
    check_memory(grown(machine, large), large)


def test_the_command_line_and_the_limits_of_checks() -> None:
    (cell,) = expand(chosen("x86_64", append=("a=1", "b"), timeout="5m"), "redis").cells
    assert (cell.append, cell.limit_s, cell.timeouts.services) == ("a=1 b", 300.0, 300.0)
    spec = adjusted(load_one(Path(cell.spec))[0], cell)
    assert spec.kernel.cmdline == "a=1 b"
    assert {check.check for check in spec.checks} == {"300.000s"}
    with pytest.raises(InputError, match="one line of printable text"):
        expand(chosen("x86_64", append=("a\nb",)))


FEATURES = """
init: ["bootmatrix/init", "bootmatrix/crun"]
onboot:
  - name: features
    image: bootmatrix/busybox
    readonly: true
    command: [/bin/sh, -c, 'grep -m 1 -i -E "^(features|flags|mmu)" /proc/cpuinfo']
"""


@pytest.mark.boots
@pytest.mark.long
def test_guests_have_what_their_cpu_models_are_named_after(tmp_path: Path) -> None:
    (tmp_path / "features.yml").write_text(FEATURES)
    wanted = {
        "aarch64": "!paca !bti !sve !mte",
        "aarch64@max": "paca bti sve !mte",
        "aarch64@no-pac": "!paca bti sve",
        "aarch64@no-sve": "paca bti !sve",
        "aarch64@mte": "paca bti sve mte",
        "x86_64": "!la57 avx2",
        "x86_64/q35-bios": "la57",
        "x86_64@x86-64-v2": "!la57 sse4_2 !avx2",
        "x86_64@x86-64-v3": "!la57 avx2",
        "riscv64@sv39": "sv39",
        "riscv64@sv48": "sv48",
        "riscv64@sv57": "sv57",
    }
    workspace = Workspace(reports=tmp_path / "reports")
    planned = workspace.plan(tmp_path / "features.yml", arch=list(wanted), kernel=["7.2"])
    run = workspace.run_sync(planned)
    assert len(run.records) == len(wanted)
    for record in run.records:
        if record.verdict is Verdict.SKIP:  # its QEMU is too old
            assert record.cell.arch == "riscv64"
            continue
        console = read_console(run.folder, record).decode()
        found = set(re.findall(r"features\| .*", console)[-1].split())
        for word in wanted[record.cell.target].split():
            assert (word.strip("!") in found) is not word.startswith("!"), (record.cell.id, word, found)
