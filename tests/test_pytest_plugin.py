"""The plug-in for pytest: parameters, records, faults; guests are booted for real."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from stage import ROOT

MARK = 'pytestmark = pytest.mark.bootmatrix(spec="{spec}", arch=["x86_64", "aarch64"], kernel=["6.1", "7.2"])\n'
NAMES = "def test_names(bootmatrix_cell):\n    assert bootmatrix_cell.arch.split('/')[0] in bootmatrix_cell.id\n"


def run_tests(folder: Path, text: str, *options: str, spec: str = "hello", limit_s: int = 120) -> tuple[int, str]:
    """Run a test file in a process of its own, as a user does."""
    (folder / "test_it.py").write_text(f"import pytest\n{MARK.format(spec=spec)}{text}")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "test_it.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit_s, check=False)
    return done.returncode, done.stdout + done.stderr


def test_cells_are_parameters_by_id(tmp_path: Path) -> None:
    status, text = run_tests(tmp_path, NAMES, "--collect-only", "-q", "--strict-markers")
    assert status == 0
    assert [line for line in text.splitlines() if "::" in line] == [
        f"test_it.py::test_names[hello/{arch}/{kernel}]" for arch in ("x86_64", "aarch64") for kernel in ("6.1", "7.2")
    ]


def test_options_narrow_the_cells(tmp_path: Path) -> None:
    options = ("--bootmatrix-arch", "aarch64", "--bootmatrix-kernel", "7.2", "-v")
    status, text = run_tests(tmp_path, NAMES, *options)
    assert status == 0 and "test_names[hello/aarch64/7.2] PASSED" in text and "1 passed" in text


def test_options_that_leave_out_all_cells_do_so_aloud(tmp_path: Path) -> None:
    status, text = run_tests(tmp_path, NAMES, "--bootmatrix-arch", "amd64", "--bootmatrix-kernel", "7.2", "-v")
    assert status == 0 and "test_names[hello/x86_64/7.2] PASSED" in text and "1 passed" in text
    status, text = run_tests(tmp_path, NAMES, "--bootmatrix-arch", "s390x", "-rs")
    assert status == 0 and "1 skipped" in text and "no cell of its marker is selected" in text
    for options in (("--bootmatrix-arch", "x86-64"), ("--bootmatrix-kernel", "9.9")):
        status, text = run_tests(tmp_path, NAMES, *options)
        assert status != 0 and "INTERNALERROR" not in text
        assert "Did you mean 'x86_64'" in text or "has a kernel '9.9'" in text


def test_a_matrix_with_exceptions_marks_its_tests(tmp_path: Path) -> None:
    (tmp_path / "my.matrix.yml").write_text(
        'specs: [hello]\narch: [x86_64, aarch64]\nkernel: ["6.1"]\n'
        "exclude: [{arch: aarch64, reason: not today}]\nxfail: [{arch: x86_64, reason: known}]\n"
    )
    test = "def test_it(bootmatrix_cell):\n    assert 0\n"
    status, text = run_tests(tmp_path, test, "-rxs", "--bootmatrix-kernel", "6.1", spec="my.matrix.yml")
    assert status == 0, text
    assert "1 skipped, 1 xfailed" in text and "not today" in text and "known" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('pytestmark = pytest.mark.bootmatrix(spec="hello", arch=["aarch46"])\n', "aarch64"),
        ('pytestmark = pytest.mark.bootmatrix(spec="none.yml")\n', "none.yml"),
        ('pytestmark = pytest.mark.bootmatrix(spec="hello", kernels=["6.1"])\n', "takes spec, arch, kernel and at"),
        ("pytestmark = []\n", "needs a marker"),
    ],
)
def test_bad_markers_are_usage_errors(tmp_path: Path, text: str, message: str) -> None:
    status, out = run_tests(tmp_path, text + NAMES)
    assert status != 0 and message in out and "INTERNALERROR" not in out


def test_without_use_nothing_of_bootmatrix_is_imported(tmp_path: Path) -> None:
    test = (
        "import sys\ndef test_it(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.hasplugin('bootmatrix')\n"
        "    ours = {name for name in sys.modules if name.startswith('bootmatrix.')}\n"
        "    assert ours == {'bootmatrix.pytest_plugin'} and 'pydantic' not in sys.modules\n"
    )
    status, text = run_tests(tmp_path, test)
    assert status == 0, text


def test_a_fault_of_ours_is_an_error_and_one_of_the_guest_a_failure(tmp_path: Path) -> None:
    test = (
        "from bootmatrix.errors import AgentError, InfraError\n"
        "@pytest.fixture\ndef ended():\n    raise AgentError('the guest ended: panic')\n"
        "def test_ours(bootmatrix_cell):\n    raise InfraError('no room')\n"
        "def test_ended(bootmatrix_cell, ended):\n    pass\n"
    )
    options = ("--bootmatrix-arch", "x86_64", "--bootmatrix-kernel", "6.1", "--junit-xml", "out.xml")
    status, text = run_tests(tmp_path, test, *options)
    assert status == 1 and "1 failed, 1 error" in text, text
    cases = {
        str(case.get("name")).partition("[")[0]: case
        for case in ElementTree.parse(tmp_path / "out.xml").iter("testcase")
    }
    assert cases["test_ours"].find("error") is not None and cases["test_ours"].find("failure") is None
    assert cases["test_ended"].find("failure") is not None and cases["test_ended"].find("error") is None
    properties = [one.get("value") for one in cases["test_ours"].iter("property")]
    assert properties == ["hello/x86_64/6.1"]


HOSTILE = "\x1b]0;owned\x07\x1b[31m##vso[task.setvariable variable=A]b ##teamcity[x]\n::error::c"


@pytest.mark.parametrize("style", ["auto", "line", "native", "short"])
def test_words_of_a_guest_command_neither_a_terminal_nor_a_ci_system(tmp_path: Path, style: str) -> None:
    test = (
        "from types import SimpleNamespace\nfrom bootmatrix.errors import AgentError\n"
        "from bootmatrix.pytest_plugin import reports\n"
        "before = reports.complete\n"
        f"talks = SimpleNamespace(console={HOSTILE.encode()!r})\n"
        "reports.complete = lambda report, call, cell, guest: before(report, call, cell, talks)\n"
        f"def test_it(bootmatrix_cell):\n    raise AgentError({HOSTILE!r})\n"
    )
    options = ("--bootmatrix-arch", "x86_64", "--bootmatrix-kernel", "6.1", f"--tb={style}")
    status, text = run_tests(tmp_path, test, *options)
    assert (status == 1 and "Console of hello/x86_64/6.1" in text) or style == "line", text
    assert "\x1b" not in text and "\x07" not in text
    shown = [line for line in text.splitlines() if "raise AgentError" not in line]
    assert "# #vso[" in text and not [line for line in shown if "##" in line or line.startswith("::")], text


@pytest.mark.parametrize("phase", ["setup", "call"])
@pytest.mark.parametrize("kind", ["HostError", "BuildError"])
def test_a_fault_of_ours_is_no_expected_failure(tmp_path: Path, phase: str, kind: str) -> None:
    (tmp_path / "my.matrix.yml").write_text(
        'specs: [hello]\narch: [x86_64, aarch64]\nkernel: ["6.1", "7.2"]\nxfail: [{arch: x86_64, reason: known}]\n'
    )
    test = (
        f"from bootmatrix.errors import {kind}\n"
        f"@pytest.fixture\ndef broken():\n    if {phase == 'setup'}:\n        raise {kind}('no room')\n"
        f"def test_it(bootmatrix_cell, broken):\n    raise {kind}('no room')\n"
    )
    options = ("--bootmatrix-arch", "x86_64", "--bootmatrix-kernel", "6.1", "-rE")
    status, text = run_tests(tmp_path, test, *options, spec="my.matrix.yml")
    assert status == 1 and " 1 error in " in text and "no room" in text, text


GUEST = """
def test_commands(guest):
    assert guest.run(["/bin/sh", "-c", "echo $0", guest.id], timeout=20).text == f"{guest.id}\\n"
    assert guest.run(["/bin/sh", "-c", "exit 3"]).exit_status == 3

def test_files(guest, tmp_path):
    (tmp_path / "points.txt").write_bytes(b"\\0points")
    guest.put(tmp_path / "points.txt", "/tmp/points.txt")
    assert guest.get("/tmp/points.txt", tmp_path / "back").read_bytes() == b"\\0points"

def test_fresh(fresh_guest):
    assert fresh_guest.run(["/bin/sh", "-c", "test -e /tmp/points.txt"]).exit_status == 1

def test_slow(guest):
    guest.run(["/bin/sh", "-c", "while :; do :; done"], timeout=0.2)
"""


@pytest.mark.boots
def test_guests_as_fixtures(tmp_path: Path) -> None:
    options = ("--bootmatrix-arch", "x86_64", "--bootmatrix-kernel", "6.1", "--tb=short")
    documented = re.search(r"\ndef test_ping.*?\n(?=```)", (ROOT / "docs/ci.md").read_text(encoding="utf-8"), re.DOTALL)
    assert documented
    status, text = run_tests(tmp_path, documented[0] + GUEST, *options, spec="influxdb", limit_s=240)
    assert status == 1 and "1 failed, 4 passed" in text, text
    assert "TimeoutError" in text and "Console of influxdb/x86_64/6.1" in text


KILLED = """
import os, signal
from pathlib import Path

def test_killed(guest):
    children = [pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
    guests = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().startswith("qemu")]
    os.kill(*guests, signal.SIGKILL)
    guest.run(["/bin/sh", "-c", "sleep 60"], timeout=60)
"""


@pytest.mark.boots
def test_a_guest_that_the_host_kills_is_an_error(tmp_path: Path) -> None:
    options = ("--bootmatrix-arch", "x86_64", "--bootmatrix-kernel", "6.1", "--tb=short")
    status, text = run_tests(tmp_path, KILLED, *options, limit_s=240)
    assert status == 1 and " 1 error" in text and "failed" not in text.splitlines()[-1], text


OOPS = """
def test_it(guest):
    command = "busybox mknod /k c 1 11 && echo '<2>BUG: stands for an oops' >/k"
    assert guest.run(["/bin/sh", "-c", command]).exit_status == 0
"""


@pytest.mark.boots
def test_a_fault_of_the_kernel_fails_a_test_that_did_not_see_it(tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(ROOT / "specs/images")
    (tmp_path / "own.yml").write_text(
        'init: ["@pkg:./images/init", "@pkg:./images/crun"]\n'
        'services: [{name: a, image: "@pkg:./images/busybox", command: [/bin/busybox, sleep, inf]}]\n'
    )
    options = ("--bootmatrix-arch", "x86_64", "--bootmatrix-kernel", "6.1")
    status, text = run_tests(tmp_path, OOPS, *options, spec="own.yml", limit_s=240)
    assert status == 1 and "the guest's kernel reported a fault: BUG: stands for an oops" in text, text


@pytest.mark.boots
def test_a_record_is_in_the_report(tmp_path: Path) -> None:
    options = ("--bootmatrix-arch", "x86_64", "--bootmatrix-kernel", "6.1", "--junit-xml", "out.xml")
    test = "def test_it(bootmatrix_record):\n    assert bootmatrix_record.verdict == 'pass'\n"
    test += "def test_no(bootmatrix_cell):\n    pass\n"
    status, text = run_tests(tmp_path, test, *options, "--bootmatrix-reports", "kept", limit_s=240)
    assert status == 0 and "2 passed" in text, text
    cases = list(ElementTree.parse(tmp_path / "out.xml").iter("testcase"))
    found, other = ({str(one.get("name")): one.get("value") for one in case.iter("property")} for case in cases)
    (run,) = (tmp_path / "kept").glob("20*")
    assert found == {
        "bootmatrix_cell": "hello/x86_64/6.1",
        "bootmatrix_verdict": "pass",
        "bootmatrix_run": str(run.relative_to(tmp_path)),
    }
    assert other == {"bootmatrix_cell": "hello/x86_64/6.1"}


GROUPS = """
import os
from pathlib import Path

@pytest.mark.parametrize("number", range(3))
def test_it(request, bootmatrix_cell, number):
    group = request.node.get_closest_marker("xdist_group").kwargs["name"]
    with Path("notes").open("a") as file:
        file.write(f"{bootmatrix_cell.id} {group} {os.environ['PYTEST_XDIST_WORKER']}\\n")
"""


@pytest.mark.parametrize(("dist", "workers"), [("loadfile", 1), ("loadgroup", 2)])
def test_xdist_runs_the_tests_of_a_cell_in_one_worker(tmp_path: Path, dist: str, workers: int) -> None:
    options = ("-n", "2", "--dist", dist, "--bootmatrix-kernel", "6.1")
    status, text = run_tests(tmp_path, GROUPS, *options)
    assert status == 0 and "6 passed" in text, text
    notes = [line.split(" ") for line in (tmp_path / "notes").read_text().splitlines()]
    assert {(cell, group) for cell, group, _ in notes} == {
        ("hello/aarch64/6.1", "hello/aarch64/6.1"),
        ("hello/x86_64/6.1", "hello/x86_64/6.1"),
    }
    of_cells = {cell: {worker for name, _, worker in notes if name == cell} for cell, _, _ in notes}
    assert [len(names) for names in of_cells.values()] == [1, 1]
    assert len(notes) == 6 and len(set.union(*of_cells.values())) == workers
