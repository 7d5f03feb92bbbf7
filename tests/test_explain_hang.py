"""Location of a kernel's hang: initcalls, program counters of all architectures, and the second boot that finds it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bootmatrix.cell.fault_places import FaultPlaces, is_unexplained
from bootmatrix.console.hang import blocked_in, describe_hang, describe_init, open_initcalls, program_counters
from bootmatrix.console.symbols import Symbols
from bootmatrix.console.transcript import describe
from bootmatrix.judge import judge
from bootmatrix.model import CustomKernel, Diagnostic, KernelFault, KernelPart, Verdict
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
HANGS = {"messages": (), "ended_by": "host", "limit": "silence", "limit_phase": "boot", "events": ()}
REGISTERS = {
    "x86": "CPU#0\nR14=0 R15=0000000000000000\nRIP=ffffffff81000052 RFL=202\nCPU#1\nRIP=ffffffff81000068 RFL=2\n",
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


TASKS = {
    "x86": b"""\
[   26.941474] task:busybox         state:S stack:0     pid:1     ppid:0      flags:0x00000002\r
[   26.941706] Call Trace:\r
[   26.941791]  <TASK>\r
[   26.941837]  __schedule+0x34d/0x9e0\r
[   26.941917]  schedule+0x5a/0xd0\r
[   26.941967]  do_nanosleep+0x7b/0x130\r
[   26.942022]  hrtimer_nanosleep+0x9e/0x170\r
[   26.942084]  ? __hrtimer_init+0xe0/0xe0\r
[   26.942141]  common_nsleep+0x3f/0x50\r
[   26.943190]  </TASK>\r
""",
    "arm": b"""\
[   36.653519] task:busybox         state:S stack:0     pid:1     ppid:0      flags:0x00000004
[   36.653738]  __schedule from schedule+0x54/0xe8
[   36.653831]  schedule from do_nanosleep+0x78/0x154
[   36.653903]  do_nanosleep from hrtimer_nanosleep+0xa8/0x10c
[   36.653985]  hrtimer_nanosleep from common_nsleep+0xf8/0x154
[   36.654079]  common_nsleep from ret_fast_syscall+0x0/0x1c
""",
    "s390": b"""\
task:busybox         state:S stack:    0 pid:    1 ppid:     0 flags:0x00000000
Call Trace:
 [<000000013a4f2a50>] __schedule+0x2f0/0x930
 [<000000013a4f30f4>] schedule+0x64/0xf0
([<000000013a4f30f4>] schedule+0x64/0xf0)
 [<000000013a4f9a1c>] do_nanosleep+0x9c/0x1a0
 [<00000001399a1e2e>] hrtimer_nanosleep+0x9e/0x170
 [<00000001399a1f10>] common_nsleep+0x9e/0x170
""",
    "ppc": b"""\
[   12.1] task:busybox         state:S stack:0     pid:1     ppid:0      flags:0x00042000
[   12.1] Call Trace:
[   12.1] [c0000000033535a0] [c0000000001436e8] __irq_exit_rcu+0x138/0x170 (unreliable)
[   12.1] [c000000004a0baa0] [c00000000001f3a4] __switch_to+0x124/0x1e0
[   12.1] [c000000004a0bb00] [c000000000f8a9d4] __schedule+0x2d4/0x8e0
[   12.1] [c000000004a0bbd0] [c000000000f8b060] schedule+0x80/0x140
[   12.1] [c000000004a0bc40] [c000000000f92a10] do_nanosleep+0xd0/0x240
[   12.1] [c000000004a0bcc0] [c000000000217b94] hrtimer_nanosleep+0xb4/0x1a0
[   12.1] [c000000004a0bd90] [c000000000217b94] common_nsleep+0xb4/0x1a0
""",
}
OTHERS = b"[   26.94] task:kthreadd        state:S stack:0     pid:2     ppid:0      flags:0\n  kthreadd+0x2bc/0x2d0\n"


@pytest.mark.parametrize("kind", TASKS)
def test_init_s_place_by_sysrq_on_every_architecture(kind: str) -> None:
    told = "init (busybox) sleeps in do_nanosleep, from hrtimer_nanosleep, from common_nsleep"
    assert describe_init(OTHERS + TASKS[kind] + OTHERS) == told
    tasks = Diagnostic(kind="tasks", file="diagnosis/tasks.log", note=told)
    outcome = make_outcome(**HANGS, diagnostics=(tasks,))
    assert judge(outcome, make_machine(), make_bootable(), CONSOLE).reason.endswith(f"console; {told}")
    later = outcome.model_copy(update={"messages": make_messages()[:2]})
    assert "init" not in judge(later, make_machine(), make_bootable(), CONSOLE).reason, "it waits for its containers"


def test_a_blocked_task_s_place_is_in_the_first_line() -> None:
    trace = ("INFO: task sh:117 blocked for more than 10 seconds.", *TASKS["x86"].decode().splitlines())
    waits = [line.replace("state:S", "state:D") for line in trace]
    fault = KernelFault(name="hung task", is_fatal=True, text=trace[0], line=1, trace=tuple(waits))
    place = "in do_nanosleep, from hrtimer_nanosleep, from common_nsleep"
    assert describe(fault) == f"INFO: task sh:117 blocked for more than 10 seconds, {place}"
    assert blocked_in(trace) == "", "it sleeps, and nothing says that it must not"
    assert blocked_in(waits[:2]) == blocked_in(()) == ""


def test_answers_without_init_s_place() -> None:
    running = TASKS["x86"].replace(b"state:S", b"state:R").partition(b"Call Trace")[0]
    for answer in (b"", b"sysrq: Show State\n", OTHERS, running + OTHERS, b"task:\xff state:S pid:1 \n x+0x1/0x2\n"):
        assert describe_init(answer) == ""


def test_an_answer_made_to_be_slow_to_read_is_not() -> None:
    begun = time.process_time()
    assert describe_init(b"task:a state:R " * 100_000) == ""
    assert time.process_time() - begun < 10


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
    told = Diagnostic(kind="hang", file="diagnosis/hang.txt", note="initcall planted_init+0x0/0x20 did not return")
    outcome = make_outcome(**HANGS, diagnostics=(told,))
    judgement = judge(outcome, make_machine(), make_bootable(), b"[    0.1] Linux version 6.1\n")
    assert judgement.verdict is Verdict.HANG
    assert judgement.reason.endswith("; by a second boot: initcall planted_init+0x0/0x20 did not return")
    assert is_unexplained(outcome, Verdict.HANG)
    assert not is_unexplained(make_outcome(messages=make_messages()), Verdict.HANG), "it ended by itself"
    later = make_outcome(**{**HANGS, "messages": make_messages()[:2]}, diagnostics=(told,))
    assert is_unexplained(later, Verdict.HANG), "with interrupts off, it does not answer to sysrq"
    tasks = Diagnostic(kind="tasks", file="diagnosis/tasks.log")
    assert not is_unexplained(later.model_copy(update={"diagnostics": (tasks,)}), Verdict.HANG)
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
    reason = record["judgement"]["reason"]
    assert "; init (" in reason
    assert "; by a second boot: all initcalls returned; CPU 0 at 0x" in reason
    cell = tmp_path / "reports/latest/cells/silent/aarch64/virt/6.1"
    assert "initcall_debug" in (cell / "diagnosis/hang.txt").read_text(encoding="utf-8", errors="replace")
    assert b"calling  " not in (cell / "console.log").read_bytes(), "the cell's console is the first boot's"
    assert not list(cell.glob("explain-*"))
