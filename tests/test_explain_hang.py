"""Location of a kernel's hang: initcalls, program counters of all architectures, and the second boot that finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.cell.fault_places import FaultPlaces, is_unexplained
from bootmatrix.console.hang import describe_hang, open_initcalls, program_counters
from bootmatrix.console.symbols import Symbols
from bootmatrix.judge import judge
from bootmatrix.model import CustomKernel, Diagnostic, KernelPart, Verdict
from command_line import booted
from guests import make_bootable, make_machine, make_messages, make_outcome

CONSOLE = b"""\
[    0.10] calling  init_hw_perf_events+0x0/0x6a0 @ 1
[    0.11] initcall init_hw_perf_events+0x0/0x6a0 returned 0 after 0 usecs
[    0.11] calling  virtio_init+0x0/0x1000 [virtio] @ 63
[    0.11] initcall virtio_init+0x0/0x1000 [virtio] returned 0 after 41 usecs
[    0.11] pci 0000:00:00.0: calling  quirk_mmio_always_on+0x0/0x20 @ 1
[    0.11] pci 0000:00:00.0: quirk_mmio_always_on+0x0/0x20 took 0 usecs
[    0.12] calling  planted_init+0x0/0x20 @ 1
"""
SYSTEM_MAP = b"""\
0000000000001000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff81000040 t planted_init
ffffffff81000060 T default_idle
ffffffff81000080 T _etext
ffffffff82000000 D data
ffffffff82800000 t planted_exit
ffffffff83000000 B _end
"""
REGISTERS = {
    "x86": "CPU#0\nRAX=0000000000000000 RBX=1\nRIP=ffffffff81000052 RFL=00000202\nCPU#1\nRIP=ffffffff81000068 RFL=2\n",
    "arm64": "CPU#0\n PC=ffffffff81000052 X00=0000000000000000 X01=00\nCPU#1\n PC=ffffffff81000068 X00=1\n",
    "ppc": "CPU#0\nNIP ffffffff81000052   LR c0000000000117a8\nCPU#1\nNIP ffffffff81000068   LR 0\n",
    "s390": "CPU#0\nPSW=mask 0704c00180000000 addr ffffffff81000052\nCPU#1\nPSW=mask 0 addr ffffffff81000068\n",
    "riscv": "CPU#0\n V      =   0\n pc       ffffffff81000052\n mhartid  0\nCPU#1\n pc       ffffffff81000068\n",
}


@pytest.mark.parametrize("kind", REGISTERS)
def test_program_counters_have_names_on_every_architecture(kind: str) -> None:
    looks = f"{REGISTERS[kind]}\n--- 0.3 s later ---\n\n{REGISTERS[kind]}"
    assert dict(program_counters(looks)) == {0: (0xFFFFFFFF81000052,) * 2, 1: (0xFFFFFFFF81000068,) * 2}
    assert describe_hang(CONSOLE, looks, Symbols.of_map(SYSTEM_MAP)) == (
        "initcall planted_init+0x0/0x20 did not return; CPU 0 at planted_init+0x12; CPU 1 at default_idle+0x8"
    )


STUCK = {
    "RIP=ffffffff81000052 RFL=00000046": "RIP=ffffffff81000052 RFL=00000246",
    " PC=ffffffff81000052\nPSTATE=600000c5": " PC=ffffffff81000052\nPSTATE=60000005",
    "NIP ffffffff81000052\nMSR 8000000002001033": "NIP ffffffff81000052\nMSR 8000000002009033",
    "PSW=mask 0404c00180000000 addr ffffffff81000052": "PSW=mask 0704c00180000000 addr ffffffff81000052",
}


@pytest.mark.parametrize("stuck", STUCK)
def test_a_cpu_that_takes_no_interrupts(stuck: str) -> None:
    symbols = Symbols.of_map(SYSTEM_MAP)
    assert describe_hang(b"", f"CPU#0\n{stuck}\n", symbols) == "CPU 0 at planted_init+0x12, interrupts off"
    assert describe_hang(b"", f"CPU#0\n{STUCK[stuck]}\n", symbols) == "CPU 0 at planted_init+0x12"
    idle = stuck.replace("052", "068")
    assert describe_hang(b"", f"CPU#0\n{idle}\n", symbols) == "CPU 0 at default_idle+0x8"


def test_an_arm_cpu_that_moves_and_has_no_names() -> None:
    first, second = ("R12=00000000 R13=80800000 R14=80100f00 R15=" + pc for pc in ("80101234\n", "80105678\n"))
    told = describe_hang(b"", f"CPU#0\n{first}\n--- 0.3 s later ---\nCPU#0\n{second}", None)
    assert told == "CPU 0 at 0x80101234, then 0x80105678"


def test_what_there_is_nothing_to_tell_of() -> None:
    assert describe_hang(b"", "", None) == "its kernel printed no initcall"
    returned = CONSOLE + b"initcall planted_init+0x0/0x20 returned 0 after 1 usecs\n"
    assert describe_hang(returned, "no registers", None) == "all initcalls returned"
    assert open_initcalls(returned) == []
    for text in (b"", b"garbage\n\xff\xff", b"zzz T x\n"):
        assert Symbols.of_map(text).name(0xFFFFFFFF81000052) == ""
    symbols = Symbols.of_map(SYSTEM_MAP)
    outside = (0, 0xFFF, 0xFFFFFFFF83000000, 0xFFFFFFFF82000000)
    assert [symbols.name(at) for at in outside] == [""] * len(outside)
    assert symbols.name(0xFFFFFFFF81000000) == "_text+0x0"
    assert symbols.name(0xFFFFFFFF82800004) == "planted_exit+0x4"


def test_the_place_is_in_the_reason_of_a_hang_also_when_it_is_judged_again() -> None:
    hangs = {"messages": (), "ended_by": "host", "limit": "silence", "limit_phase": "boot", "events": ()}
    told = Diagnostic(kind="hang", file="diagnosis/hang.txt", note="initcall planted_init+0x0/0x20 did not return")
    outcome = make_outcome(**hangs, diagnostics=(told,))
    judgement = judge(outcome, make_machine(), make_bootable(), b"[    0.1] Linux version 6.1\n")
    assert judgement.verdict is Verdict.HANG
    assert judgement.reason.endswith("; by a second boot: initcall planted_init+0x0/0x20 did not return")
    assert is_unexplained(outcome, Verdict.HANG)
    assert not is_unexplained(make_outcome(messages=make_messages()), Verdict.HANG)
    assert not is_unexplained(outcome, Verdict.PANIC)


def test_symbols_are_those_of_the_build_tree(tmp_path: Path) -> None:
    (tmp_path / "linux").mkdir()
    kernel = CustomKernel(parts=(KernelPart(kind="tree", path="linux"),), folder=str(tmp_path))
    console = b"[    0.000000] Linux version 6.18.0 (me@here) #1\r\n"
    assert FaultPlaces(kernel).symbols(console) is None
    (tmp_path / "linux/System.map").write_bytes(SYSTEM_MAP)
    symbols = FaultPlaces(kernel).symbols(console)
    assert symbols
    assert symbols.name(0xFFFFFFFF81000061) == "default_idle+0x1"
    assert FaultPlaces().symbols(console) is None
    (tmp_path / "linux/vmlinux").write_bytes(b"Linux version 6.18.0 (me@here) #2\n")
    assert FaultPlaces(kernel).symbols(console) is None, "it was built again since"
    (tmp_path / "linux/vmlinux").write_bytes(b"Linux version 6.18.0 (me@here) #1\n")
    assert FaultPlaces(kernel).symbols(console), "a vmlinux without debugging information"


SILENT = """
init: ["@pkg:./images/silent"]
onboot: []
"""
RECIPE = """\
from: bootmatrix/busybox
files:
  - path: init
    mode: "0755"
    contents: |
      #!/bin/busybox sh
      while :; do /bin/busybox sleep 60; done
"""


@pytest.mark.boots
def test_a_guest_that_hangs_is_booted_again_and_tells_where(tmp_path: Path) -> None:
    (tmp_path / "images/silent").mkdir(parents=True)
    (tmp_path / "images/silent/build.yml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "silent.yml").write_text(SILENT, encoding="utf-8")
    matrix = 'specs: [silent.yml]\narch: [aarch64]\nkernel: ["6.1"]\nconsole: never shown\ntimeouts: {silence: 5s}\n'
    (tmp_path / "silent.matrix.yml").write_text(matrix, encoding="utf-8")
    arguments = ("matrix", str(tmp_path / "silent.matrix.yml"), "--explain-hang")
    record, _ = booted(*arguments, reports=tmp_path / "reports", limit_s=280, status=1)
    assert record["judgement"]["verdict"] == "hang"
    assert "; by a second boot: all initcalls returned; CPU 0 at 0x" in record["judgement"]["reason"]
    cell = tmp_path / "reports/latest/cells/silent/aarch64/virt/6.1"
    assert "initcall_debug" in (cell / "diagnosis/hang.txt").read_text(encoding="utf-8", errors="replace")
    assert b"calling  " not in (cell / "console.log").read_bytes(), "the cell's console is the first boot's"
    assert not list(cell.glob("explain-*"))
