"""Source lines of kernel's addresses: from a vmlinux with debugging information to the reason of a verdict."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bootmatrix.console.kernel_messages import find_kernel_faults
from bootmatrix.console.symbols import Symbols
from bootmatrix.judge import judge
from bootmatrix.model import Diagnostic, Verdict
from bootmatrix.source.kernel_symbols import SourceLines, find_symbols
from guests import make_bootable, make_machine, make_outcome

BANNER = b"Linux version 6.18.0 (me@here) #1"
SOURCE = """\
const char banner[] = "Linux version 6.18.0 (me@here) #1";
int planted(int *place)
{
\t*place = 1;
\treturn 0;
}
int main(void) { return banner[0] + planted(0); }
"""
OOPS = b"""\
[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000
[    1.000000] Oops: 0002 [#1] SMP
[    1.000000] RIP: 0010:planted+0x%x/0x20
[    1.000000] Call Trace:
[    1.000000]  main+0x%x/0x20
[    1.000000]  elsewhere+0x1/0x20 [module]
[    1.000000] ---[ end trace 0000000000000000 ]---
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program as its vmlinux."""
    folder = tmp_path_factory.mktemp("linux")
    (folder / "lib").mkdir()
    (folder / "lib/x.c").write_text(SOURCE, encoding="utf-8")
    subprocess.run(["gcc", "-g", "-O0", "-no-pie", "-o", "vmlinux", "lib/x.c"], cwd=folder, check=True)
    return folder


def test_addresses_have_functions_and_lines(tree: Path) -> None:
    symbols = find_symbols([tree], "6.18.0", BANNER)
    assert symbols
    addresses = {name: address for address, name in SourceLines(tree / "vmlinux").functions()}
    assert symbols.name(addresses["planted"]) == "planted+0x0 (lib/x.c:3)"
    places = [symbols.name(addresses["planted"] + offset) for offset in range(0x20)]
    assert any(place.endswith("(lib/x.c:4)") for place in places)
    assert find_symbols([tree / "vmlinux"], "6.18.0", BANNER), "a file in the tree"
    assert find_symbols([tree], "6.18.0", b"Linux version 6.18.0 (me@here) #2") is None, "another kernel's"


def test_what_has_no_lines_has_names(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes((tree / "vmlinux").read_bytes()[:5000] + BANNER)
    (tmp_path / "System.map").write_text("0000000000401000 T planted\n0000000000402000 T _end\n", encoding="utf-8")
    symbols = find_symbols([tmp_path], "6.18.0", BANNER)
    assert symbols
    assert symbols.name(0x401004) == "planted+0x4"
    assert list(symbols.lines_of(["RIP: 0010:planted+0x4/0x20"])) == []


def test_a_trace_has_lines_and_so_has_the_reason(tree: Path) -> None:
    lines = SourceLines(tree / "vmlinux")
    start = next(address for address, name in lines.functions() if name == "planted")
    store = next(offset for offset in range(0x20) if lines(start + offset) == "lib/x.c:4")
    console = OOPS % (store, 0x10)
    symbols = Symbols(lines.functions(), line=lines)
    (fault,) = find_kernel_faults(console)
    places = dict(symbols.lines_of(fault.trace))
    assert places == {f"planted+0x{store:x}/0x20": "lib/x.c:4", "main+0x10/0x20": "lib/x.c:7"}
    told = Diagnostic(kind="places", file="diagnosis/places.txt", lines=places)
    judgement = judge(make_outcome(diagnostics=(told,)), make_machine(), make_bootable(), console)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason.endswith(f"address: 0000000000000000, at planted+0x{store:x}/0x20 (lib/x.c:4)")
    assert any("main+0x10/0x20 (lib/x.c:7)" in line for line in judgement.kernel_faults[0].trace)


def test_a_failed_test_of_the_kernel_tells_why() -> None:
    console = b"""\
[    1.0] ignored
[    1.000000]     # planted_bad: EXPECTATION FAILED at lib/planted-test.c:4
[    1.000000]     Expected 3 == 1 + 1, but
[    1.000000]     not ok 2 planted_bad
"""
    (fault,) = find_kernel_faults(console)
    assert fault.text == "not ok 2 planted_bad: EXPECTATION FAILED at lib/planted-test.c:4"


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "vmlinux").open("wb") as file:
        file.truncate(1 << 40)
    assert find_symbols([tmp_path], "6.18.0", BANNER) is None
