"""The user tier: real programs under user-mode emulation, and verdicts that are never those of a kernel."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bootmatrix import Workspace
from bootmatrix.assembly.tree import Node, Tree
from bootmatrix.cell.bounded_output import CUT, BoundedOutput
from bootmatrix.cell.rejudge import is_expected
from bootmatrix.cell.user_tier import Unsupported, first_program
from bootmatrix.cli.exits import exit_status
from bootmatrix.errors import HostError, InputError
from bootmatrix.history.extract import key_of, standing_of
from bootmatrix.history.values import Standing
from bootmatrix.judge.user_tier import judge_user
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Cell, Judgement, Record, Run, Verdict
from bootmatrix.model.user_tier import UserContainer, UserEnd, UserOutcome
from bootmatrix.qemu.user_mode import ELF_BYTES, check_kernel
from bootmatrix.report.notes import tier_lines
from bootmatrix.signoff.content import sign_off
from bootmatrix.workspace.selection import Selection
from image_maker import make_image, write_layout
from packages import entry, make_tar
from samples import make_cell, make_record

ROOT = Path(__file__).parents[1]
ARCHS = ("x86_64", "s390x")
TOOL = Path(sys.executable).with_name("bootmatrix")
PROFILES = load_profiles([CHECKOUT / "arch"])
HEAD = 'init: ["@pkg:./images/init", "@pkg:./images/crun"]\n'
SHELL = "  - {{name: {name}, image: \"@pkg:./images/busybox\", command: [/bin/sh, -c, '{text}']{more}}}\n"
SPECS = {
    "good": HEAD
    + "onboot:\n"
    + SHELL.format(name="prep", text="echo data > /vol/x; printf half", more=", binds: ['v:/vol', '/conf:/conf:ro']")
    + SHELL.format(name="reads", text="! touch /x && cat /conf/a", more=", readonly: true, binds: ['/conf:/conf:ro']")
    + "services:\n"
    + SHELL.format(
        name="web", text="mkdir /w; cp /vol/x /w; exec busybox httpd -f -p 8080 -h /w", more=", binds: ['v:/vol']"
    )
    + SHELL.format(
        name="asks",
        text="for i in 1 2 3 4 5 6 7 8 9; do wget -q -O - http://127.0.0.1:8080/x && exit; sleep 1; done; exit 1",
        more=", annotations: {bootmatrix.check: 30s}",
    )
    + "volumes: [{name: v}]\nfiles: [{path: conf/a, contents: conf}]\n",
    "fails": HEAD + "onboot:\n" + SHELL.format(name="a", text="exit 3", more=""),
    "dies": HEAD + "services:\n" + SHELL.format(name="a", text="sleep 0.5", more=""),
    "slow": HEAD
    + "services:\n"
    + SHELL.format(name="a", text="sleep 99 & sleep 99", more=", annotations: {bootmatrix.check: 2s}"),
    # The first container's last line has no end: it must not hide the second one's result.
    "tap": HEAD
    + "onboot:\n"
    + SHELL.format(name="a", text="printf half", more="")
    + SHELL.format(name="b", text="echo not ok 1 - it broke", more=""),
    # The two share a root; what ends last is tested too.
    "late": HEAD
    + "onshutdown:\n"
    + SHELL.format(name="z", text="echo 1..2; echo ok 1; echo not ok 2 - lost", more="")
    + "services:\n"
    + SHELL.format(name="a", text="true", more=", annotations: {bootmatrix.check: 30s}"),
    # More than is kept, until the check has failed.
    "loud": HEAD
    + "services:\n"
    + SHELL.format(name="a", text="yes $(seq 1000)", more="")
    + SHELL.format(
        name="b",
        text="sleep 8; echo not ok 1 - it broke",
        more=", annotations: {bootmatrix.check: 60s}",
    ),
    "rights": HEAD + "onboot:\n" + SHELL.format(name="a", text="true", more=", capabilities: [CAP_NET_ADMIN]"),
    "usual": HEAD
    + "onboot:\n"
    + SHELL.format(
        name="a", text="grep -q CapEff:.*400$ /proc/self/status", more=", capabilities: [CAP_NET_BIND_SERVICE]"
    ),
    "etc": HEAD + "onboot:\n" + SHELL.format(name="a", text="true", more=", binds: ['/etc:/host']"),
    "out": HEAD
    + "onboot:\n"
    + SHELL.format(name="a", text="[ ! -e /host/passwd ]", more=", binds: ['/link:/host']")
    + "files: [{path: link, symlink: /etc}]\n",
    "skips": HEAD + "onboot:\n" + SHELL.format(name="a", text='echo 1..0 "#" SKIP no device; exit 4', more=""),
    "later": HEAD
    + "onboot:\n"
    + SHELL.format(
        name="a",
        text="if /conf/tool; then [ $(uname -m) = x86_64 ]; else [ $(uname -m) = s390x ]; fi",
        more=", binds: ['/conf:/conf']",
    )
    + "files: [{path: conf/tool, source: tool, mode: '0755'}]\n",
}
EXPECTED = {
    "good": Verdict.USER_PASS,
    "fails": Verdict.USER_FAIL,
    "dies": Verdict.USER_FAIL,
    "slow": Verdict.USER_FAIL,
    "tap": Verdict.USER_FAIL,
    "late": Verdict.USER_FAIL,
    "loud": Verdict.USER_FAIL,
    "rights": Verdict.USER_UNSUPPORTED,
    "usual": Verdict.USER_PASS,
    "etc": Verdict.USER_UNSUPPORTED,
    "out": Verdict.USER_UNSUPPORTED,
    "skips": Verdict.SKIP,
    "later": Verdict.USER_PASS,
}
CODE = bytes.fromhex("31ff b83c000000 0f05")
"""exit(0) on x86_64."""


def native_program() -> bytes:
    """A program without a loader for this host's processor."""
    size = 64 + 56 + len(CODE)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 4096) + CODE


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, dict[str, dict[str, Any]]]:
    """The run's folder, the exit status, and the records by cell."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copytree(ROOT / "specs/images", folder / "images")
    (folder / "tool").write_bytes(native_program())
    for name, text in SPECS.items():
        (folder / f"{name}.yml").write_text(text)
    names = [f"{name}.yml" for name in SPECS]
    command = ["matrix", *names, "--tier", "user", "--arch", ",".join(ARCHS), "--reports", str(folder / "reports")]
    done = subprocess.run(
        [sys.executable, "-m", "bootmatrix.cli.main", *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    run = folder / "reports/latest"
    assert run.exists(), done.stdout + done.stderr
    records = json.loads((run / "run.json").read_bytes())["records"]
    return run, done.returncode, {f"{one['cell']['spec_name']}/{one['cell']['arch']}": one for one in records}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", SPECS)
def test_verdicts_of_real_programs(tried: Any, name: str, arch: str) -> None:
    record = tried[2][f"{name}/{arch}"]
    assert record["judgement"]["verdict"] == EXPECTED[name], record["judgement"]
    assert record["cell"]["tier"] == "user"
    assert record["cell"]["kernel"] == "user"
    assert not any(one["kind"] in {"kernel", "initrd"} for one in record["artefacts"])


def test_a_foreign_program_is_emulated_and_a_native_one_is_not(tried: Any) -> None:
    native, foreign = (tried[2][f"good/{arch}"]["user_outcome"] for arch in ARCHS)
    assert not native["emulator"]
    assert "s390x" in foreign["emulator"]
    assert foreign["missing_calls"]["0"]  # rseq, at least: the emulator's log is read


def running(words: bytes) -> list[bytes]:
    """Command lines of processes that contain words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" "))
    return [line for line in found if words in line and b"sh -c" not in line]


def test_failures_have_status_1_and_no_process_is_left(tried: Any) -> None:
    assert tried[1] == 1
    assert not running(b"sleep 99")


def test_a_killed_tool_leaves_no_process(tried: Any, tmp_path: Path) -> None:
    folder = tried[0].parents[1]
    text = SHELL.format(name="a", text="echo it runs; exec sleep 9871", more="")
    (folder / "stays.yml").write_text(f"{HEAD}onboot:\n{text}")
    command = [sys.executable, "-m", "bootmatrix.cli.main", "matrix", "stays.yml", "--tier", "user", "--arch", "s390x"]
    with subprocess.Popen(
        [*command, "--reports", str(tmp_path)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as tool:
        assert _within(60, lambda: bool(running(b"sleep 9871")))
        tool.kill()
    assert _within(20, lambda: not running(b"sleep 9871"))


def _within(limit_s: float, holds: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.1)
    return True


def printed(run: Path, form: str) -> str:
    command = [sys.executable, "-m", "bootmatrix.cli.main", "report", str(run), "--format", form]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.replace("&#39;", "'")


def test_reports_never_call_it_a_pass(tried: Any) -> None:
    run, _, records = tried
    junit = (run / "junit.xml").read_text()
    assert "user tier, no verdict on a kernel" in junit
    assert junit.count("<failure ") >= 8
    for form in ("html", "md"):
        assert f"{len(records)} cells are of the user tier: programs on the host's kernel" in printed(run, form)
    assert printed(run, "tap").count("\nnot ok ") == 18
    assert ",user-pass,yes," in printed(run, "csv")
    assert {one["judgement"]["verdict"] for one in records.values()} == set(EXPECTED.values())


def make_run(records: list[Record]) -> Run:
    return Run(name="r", title="r", tool_version="1", started_at="2026-01-01T00:00:00+00:00", records=tuple(records))


def container(role: Any = "onboot", name: str = "a") -> UserContainer:
    return UserContainer(role=role, name=name, root="r", arguments=("x",))


def outcome(*ends: UserEnd, **changes: Any) -> UserOutcome:
    values = {"emulator": "qemu-x", "kernel_release": "6", "started": tuple(end.number for end in ends), "ends": ends}
    return UserOutcome.model_validate({**values, "finished": True, **changes})


GOOD = UserEnd(number=0, status=0)


def test_a_pass_needs_every_end() -> None:
    one = [container()]
    assert judge_user(outcome(GOOD), one, "").verdict is Verdict.USER_PASS
    for bad in (
        outcome(),
        outcome(started=(0,)),
        outcome(GOOD, finished=False),
        outcome(GOOD, is_late=True),
        outcome(UserEnd(number=0, status=1)),
    ):
        assert judge_user(bad, one, "").verdict is Verdict.USER_FAIL, bad
    assert judge_user(outcome(GOOD), one, "a| not ok 1\n").verdict is Verdict.USER_FAIL
    assert judge_user(outcome(GOOD), one, "a| 1..2\na| ok 1\n").verdict is Verdict.USER_FAIL
    assert judge_user(outcome(fault="no tmpfs"), one, "").verdict is Verdict.INFRA_ERROR


def test_a_failure_names_the_containers_last_output() -> None:
    console = "b| from another\na| loading\na| cannot open /etc/x: No such file\nb| more\n"
    containers = [container(), container("service", "b")]
    ends = (UserEnd(number=0, status=3), UserEnd(number=1, status=137, was_stopped=True))
    judged = judge_user(outcome(*ends), containers, console)
    assert judged.reason == "onboot a exited with status 3: cannot open /etc/x: No such file"
    assert [piece.text for piece in judged.evidence][-2:] == ["a| loading", "a| cannot open /etc/x: No such file"]


def test_a_service_runs_until_it_is_stopped() -> None:
    service = [container("service")]
    assert (
        judge_user(outcome(UserEnd(number=0, status=137, was_stopped=True)), service, "").verdict is Verdict.USER_PASS
    )
    for status, was_stopped in ((137, False), (0, True), (139, True)):
        end = UserEnd(number=0, status=status, was_stopped=was_stopped)
        assert judge_user(outcome(end), service, "").verdict is Verdict.USER_FAIL


def test_a_skip_is_a_skip_unless_something_failed() -> None:
    skip, skipped = "a| TAP version 13\na| 1..0 # SKIP no device\n", UserEnd(number=0, status=4)
    judged = judge_user(outcome(skipped), [container(), container(name="b")], skip)
    assert (judged.verdict, judged.reason) == (Verdict.SKIP, "onboot a skipped all of its tests: no device")
    assert [result.verdict for result in judged.subresults if result.name == "onboot a"] == [Verdict.SKIP]
    for console, ends in (
        ("", (skipped,)),
        (f"{skip}a| ok 1\n", (skipped,)),
        (skip, (skipped, UserEnd(number=1, status=1))),
        (skip, (UserEnd(number=0, status=3),)),
    ):
        judged = judge_user(outcome(*ends), [container("check"), container("check", "b")], console)
        assert judged.verdict is Verdict.USER_FAIL, (console, ends)


def test_a_missing_system_call_explains_a_failure_and_never_a_pass() -> None:
    failed = outcome(UserEnd(number=0, status=1), missing_calls={0: (425,)})
    judged = judge_user(failed, [container()], "")
    assert judged.verdict is Verdict.USER_UNSUPPORTED
    assert "425" in judged.reason
    assert judge_user(outcome(GOOD, missing_calls={0: (425,)}), [container()], "").verdict is Verdict.USER_PASS
    probed = outcome(UserEnd(number=0, status=1), missing_calls={0: (293, 435)})
    assert judge_user(probed, [container()], "").verdict is Verdict.USER_FAIL


def user_record(verdict: Verdict, **changes: Any) -> Record:
    cell = make_cell("x86_64").model_copy(update={"kernel": "user", "tier": "user", **changes})
    return make_record(cell, Verdict.PASS).model_copy(
        update={
            "judgement": Judgement(verdict=verdict, reason="r"),
            "outcome": None,
            "expected": is_expected(cell, verdict),
        }
    )


def test_no_verdict_of_this_tier_is_a_guests() -> None:
    for verdict in (Verdict.USER_PASS, Verdict.USER_FAIL, Verdict.USER_UNSUPPORTED):
        assert not verdict.is_guests
        assert verdict is not Verdict.PASS
        assert key_of(user_record(verdict)).mode == "user"
    assert standing_of(user_record(Verdict.USER_PASS)) is Standing.GOOD
    assert standing_of(user_record(Verdict.USER_FAIL)) is Standing.BAD
    assert standing_of(user_record(Verdict.USER_UNSUPPORTED)) is Standing.FAULT
    assert standing_of(user_record(Verdict.USER_FAIL, expect="known")) is Standing.FORESEEN


@pytest.mark.parametrize(
    ("verdict", "status"), [(Verdict.USER_PASS, 0), (Verdict.USER_FAIL, 1), (Verdict.USER_UNSUPPORTED, 3)]
)
def test_exit_statuses(verdict: Verdict, status: int) -> None:
    assert exit_status(make_run([user_record(verdict)])) == status


@pytest.mark.parametrize("verdict", [Verdict.USER_PASS, Verdict.USER_FAIL, Verdict.PASS])
def test_a_run_with_a_cell_of_this_tier_is_never_signed_off(verdict: Verdict) -> None:
    """Not even beside cells that passed, nor if a record says something else."""
    run = make_run([make_record(make_cell("x86_64"), Verdict.PASS), user_record(verdict)])
    with pytest.raises(InputError, match="was tried in the user tier"):
        sign_off(run, release="1", date="2026-01-01", acceptances=(), comparison=None, manifest_sha256="0" * 64)


def test_differences_between_the_tiers_are_told() -> None:
    def system(kernel: str, verdict: Verdict) -> Record:
        cell: Cell = make_cell("x86_64").model_copy(update={"kernel": kernel})
        return make_record(cell, verdict)

    booted = [system("6.1", Verdict.PASS), system("7.2-64k", Verdict.FAIL)]
    name = booted[0].cell.spec_name
    assert tier_lines(booted) == ()
    assert tier_lines([user_record(Verdict.USER_PASS), *booted])[1:] == (
        f"{name}/x86_64: passes by user emulation, fails on 7.2-64k.",
    )
    assert tier_lines([user_record(Verdict.USER_FAIL), *booted])[1:] == (
        f"{name}/x86_64: fails by user emulation, passes on 6.1.",
    )
    assert len(tier_lines([user_record(Verdict.USER_PASS), booted[0]])) == 1


def test_cells_of_the_tier_stand_beside_booted_ones() -> None:
    workspace = Workspace(offline=True)
    both = workspace.plan("hello", selection=Selection(arch=("aarch64/raspi3b", "aarch64"), tier=("user", "system")))
    ids = [cell.id for cell in both.cells]
    assert ids.count("hello/aarch64/user") == 1
    assert "hello/aarch64/6.1" in ids
    assert {cell.tier for cell in workspace.plan("hello", arch=["aarch64"]).cells} == {"system"}


def test_a_run_without_guests_is_no_baseline_of_one_with_guests() -> None:
    workspace = Workspace(offline=True)
    titles = {
        tier: workspace.plan("hello", selection=Selection(arch=("aarch64",), tier=tier)).title
        for tier in (("user",), ("system",), ("user", "system"))
    }
    assert titles[("user",)] == "hello (user tier)"
    assert titles[("system",)] == titles[("user", "system")] == "hello"


def kept(*pieces: bytes, **limits: int) -> bytes:
    file = io.BytesIO()
    output = BoundedOutput(file, **limits)
    for piece in pieces:
        output.feed(piece)
    output.finish()
    return file.getvalue()


def test_output_that_is_too_long_loses_no_test() -> None:
    noise = b"a| prose\n"
    whole = b"a| 1..2\na| ok 1\n" + 9 * noise + b"b| not ok 2 - x\nb|   ---\nb| book\n" + noise + b"a| last"
    expected = b"a| 1..2\na| ok 1\n" + CUT + b"b| not ok 2 - x\nb|   ---\n"
    assert kept(whole[:30], whole[30:], keep_bytes=20) == expected
    assert kept(*(whole[at : at + 1] for at in range(len(whole))), keep_bytes=20) == expected
    assert kept(whole) == whole + b"\n"


def test_more_tests_than_are_kept_are_a_failure() -> None:
    printed = kept(
        b"".join(b"a| ok %d\nb| prose\n" % number for number in range(1000)), keep_bytes=9, keep_tap_bytes=99
    )
    assert printed.splitlines()[-1:] == [b"a| Bail out! more output than is kept"]
    assert printed.count(b"Bail out!") == 1


def elf(arch: str) -> Node:
    """A program for an architecture, as far as its header says."""
    data = bytearray(64)
    for rule in PROFILES[arch].programs[0].split():
        offset, _, text = rule.partition(":")
        data[int(offset) : int(offset) + len(text) // 2] = bytes.fromhex(text)
    return Node("file", data=bytes(data))


@pytest.mark.parametrize(
    ("programs", "arch"),
    [
        (("x86_64", "s390x"), "s390x"),
        (("s390x", "x86_64"), "s390x"),
        (("armv7", "aarch64"), "aarch64"),
        (("x86_64", "armv7"), "aarch64"),
    ],
)
def test_the_emulator_is_for_the_architectures_programs_and_not_for_others_beside_them(
    programs: tuple[str, str], arch: str
) -> None:
    tree = Tree()
    for number, name in enumerate(programs):
        tree.put(f"containers/services/a/lower/src/{number}", elf(name))
    chosen = arch if arch in programs else programs[1]
    assert first_program(tree, PROFILES[arch]) == elf(chosen).read()[:ELF_BYTES]


def test_a_container_with_programs_for_others_only_is_not_run_on_the_host() -> None:
    tree = Tree()
    tree.put("containers/services/a/lower/bin/sh", elf("x86_64"))
    with pytest.raises(Unsupported, match="no container has a program for s390x"):
        first_program(tree, PROFILES["s390x"])


@pytest.mark.boots
def test_a_program_that_the_host_would_run_itself_is_no_pass_of_another_architecture(tmp_path: Path) -> None:
    image = make_image(make_tar([entry("bin/tool", elf("x86_64").read(), mode=0o755)]), platform="linux/arm64")
    layout = write_layout(tmp_path, image)
    command = [str(TOOL), "try", f"oci:{layout}", "--tier", "user", "--arch", "aarch64", "--", "/bin/tool"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "/bin/tool in the image is a program for 64-bit little-endian X86_64" in done.stdout


def test_an_old_kernel_is_refused() -> None:
    check_kernel("6.7.0-1-amd64")
    with pytest.raises(HostError, match=r"needs Linux 6\.7 or later"):
        check_kernel("6.6.99")
