"""`bootmatrix kernel-test`: what a build tree has, the project made of it, and guests of a tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.kernels import kernels_file, with_custom_kernels
from bootmatrix.load.matrix import load_matrix
from bootmatrix.load.profile import load_profiles
from bootmatrix.load.spec import load_one
from bootmatrix.packaged import packaged
from bootmatrix.scaffold.kernel_test import KernelTestRequest, script
from bootmatrix.workspace.kernel_test import prepare_kernel_test
from command_line import Tool
from kernel_forms import PROFILES as FORMS
from kernel_forms import debians_tree, kernel_files, make_kernel, tree

pytest_plugins = ("command_line",)

PROFILES = load_profiles([CHECKOUT / "arch"])
REPORT = "KTAP version 1\n1..2\n    # Subtest: one\n    ok 1 a\nok 1 one\nok 2 two # SKIP no\n"
EMPTY = "KTAP version 1\n1..0\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A build tree with a kernel for aarch64."""
    return tree(kernel_files(make_kernel(FORMS["aarch64"])), tmp_path)


def test_the_tree_says_which_architectures(source: Path, tmp_path: Path) -> None:
    (source / "arch/other/boot").mkdir(parents=True)
    (source / "arch/other/boot/bzImage").write_bytes(make_kernel(FORMS["x86_64"]))
    matrix, _ = prepare_kernel_test(source, KernelTestRequest(), PROFILES, cache=tmp_path / "cache")
    kernels = yaml.safe_load((matrix.parent / "kernels.yml").read_text(encoding="utf-8"))["kernels"]
    assert set(kernels) == {"linux"}
    assert set(kernels["linux"]) == {"aarch64", "x86_64"}
    assert kernels["linux"]["aarch64"]["parts"] == [{"kind": "tree", "path": str(source)}]
    assert yaml.safe_load(matrix.read_text(encoding="utf-8"))["arch"] == list(kernels["linux"])
    one, _ = prepare_kernel_test(source, KernelTestRequest(), PROFILES, arch=("x86_64",), cache=tmp_path / "cache")
    assert yaml.safe_load(one.read_text(encoding="utf-8"))["arch"] == ["x86_64"]


@pytest.mark.parametrize("target", ["aarch32", "arm64", "aarch64/virt@max"])
def test_programs_of_32_bits_and_other_names_of_an_architecture(source: Path, tmp_path: Path, target: str) -> None:
    matrix, _ = prepare_kernel_test(source, KernelTestRequest(), PROFILES, arch=(target,), cache=tmp_path / "cache")
    (profile,) = yaml.safe_load((matrix.parent / "kernels.yml").read_text(encoding="utf-8"))["kernels"]["linux"]
    assert profile == ("aarch32" if target == "aarch32" else "aarch64")
    assert yaml.safe_load(matrix.read_text(encoding="utf-8"))["arch"] == [target]


def test_the_project_is_valid_and_needs_no_container_runtime(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/run.sh").write_text("exit 0\n", encoding="utf-8")
    request = KernelTestRequest(
        ("./run.sh", "a b"),
        copy=tmp_path / "tests",
        kunit="list*",
        modules=("x",),
        results=("/out",),
        append=("quiet",),
    )
    matrix, notes = prepare_kernel_test(source, request, PROFILES, save=tmp_path / "saved")
    monkeypatch.setenv("BOOTMATRIX_KERNELS", str(tmp_path / "saved/kernels.yml"))
    spec, _ = load_one(tmp_path / "saved/kernel-test.yml")
    (check,) = spec.checks
    assert spec.init == ("bootmatrix/init", "bootmatrix/chroot")
    assert check.readonly, "else it would need an overlay"
    assert check.annotations == {
        "bootmatrix.check": "5m",
        "bootmatrix.modules": "x",
        "bootmatrix.results": "/out",
    }
    assert (
        load_matrix(matrix, with_custom_kernels(PROFILES, kernels_file())).append
        == "kunit.enable=1 kunit.filter_glob=list* quiet"
    )
    assert (tmp_path / "saved/images/kernel-test/files/run.sh").is_file()
    assert any("copied 1 file," in note for note in notes)
    text = script(request)
    assert "cd /kernel-test/files || exit" in text
    assert "./run.sh 'a b'" in text


@pytest.mark.parametrize(
    ("arch", "message"),
    [(("armv7",), "not a kernel for armv7: it is one for aarch64"), (("armv77",), "unknown architecture 'armv77'")],
)
def test_targets_that_the_tree_is_not_for(source: Path, tmp_path: Path, arch: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        prepare_kernel_test(source, KernelTestRequest(), PROFILES, arch=arch, cache=tmp_path / "cache")


@pytest.mark.parametrize("words", [("--tier", "user"), ("--boot", "fork"), ("--roots", "ram")])
def test_options_that_it_would_ignore(source: Path, tool: Tool, words: tuple[str, str]) -> None:
    done = tool("kernel-test", str(source), *words)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"kernel-test does not take {words[0]}")


def test_what_is_no_kernel(source: Path, tmp_path: Path) -> None:
    for image in ("arch/mine/boot/Image", "vmlinux"):
        (source / image).unlink()
    for path, message in (
        (source, "no kernel of a known architecture"),
        (tmp_path / "none", "no such file or folder"),
        (tmp_path, "not a kernel"),
    ):
        with pytest.raises(InputError, match=message):
            prepare_kernel_test(path, KernelTestRequest(), PROFILES, cache=tmp_path / "cache")
    with pytest.raises(InputError, match="must be NAME=VALUE"):
        script(KernelTestRequest(env=("A B=c",)))


@pytest.mark.parametrize(
    ("report", "status", "printed"),
    [
        (REPORT, 0, REPORT),
        ("", 1, "not ok - no KUnit test ran: "),
        ("KTAP version 1\n1..0\n", 1, "KTAP version 1\n1..0\nnot"),
    ],
)
def test_results_of_kunit_are_printed_and_none_is_a_failure(
    tmp_path: Path, report: str, status: int, printed: str
) -> None:
    (tmp_path / "kunit/suite").mkdir(parents=True)
    (tmp_path / "kunit/suite/results").write_text(f"{report}# suite: pass:1\nnoise\n", encoding="utf-8")
    text = (
        packaged("scaffold/kunit.sh")
        .replace("/sys/kernel/debug/kunit", str(tmp_path / "kunit"))
        .replace("/tmp/kunit", str(tmp_path / "k"))
    )
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert done.stdout.startswith(printed)


@pytest.mark.parametrize("words", [[], ["--arch", "all"]])
def test_defaults_of_a_project_are_not_taken_for_targets(
    source: Path, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """It comes as far as the look for QEMU, with the tree's own architecture."""
    (tmp_path / "pyproject.toml").write_text('[tool.bootmatrix]\narch = ["all"]\n', encoding="utf-8")
    monkeypatch.setenv("BOOTMATRIX_KERNELS", "")
    done = tool("kernel-test", str(source), *words, "--save", "saved", "--offline", "--append", "a\nb")
    assert "unknown architecture" not in done.stderr
    assert yaml.safe_load((tmp_path / "saved/kernel-test.matrix.yml").read_text(encoding="utf-8"))["arch"] == [
        "aarch64"
    ]


@pytest.mark.parametrize(("status", "ends"), [(0, "x\n"), (3, "x\n"), (4, "kselftest has it for a skip\n")])
def test_the_status_of_the_command_is_that_of_the_script(tmp_path: Path, status: int, ends: str) -> None:
    text = script(KernelTestRequest(("sh", "-c", f"echo x; exit {status}"))).replace("/root", str(tmp_path))
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stdout.endswith(ends)


COMMANDS: dict[str, tuple[list[str], int, str]] = {
    "passes": (
        ["sh", "-c", "echo 1..1; test -e /proc/self/fd -a -e /dev/null && uname -r && echo ok 1 - up"],
        0,
        "pass",
    ),
    "fails": (["sh", "-c", "ls /sys/kernel; exit 3"], 1, "check test exited with status 3"),
    "skips": (["./skips.sh"], 2, "check test skipped all of its tests: the command ended with status 4"),
}


@pytest.mark.boots
@pytest.mark.parametrize("case", ["passes", "fails", pytest.param("skips", marks=pytest.mark.long)])
def test_a_tree_is_booted_and_judged(case: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp() / "kernel-test"
    if not base.exists():
        debians_tree(base / "linux")
        (base / "tests").mkdir()
        (base / "tests/skips.sh").write_text("#!/bin/sh\nexit 4\n", encoding="utf-8")
        (base / "tests/skips.sh").chmod(0o755)
    words, status, said = COMMANDS[case]
    command = [sys.executable, "-m", "bootmatrix.cli.main", "kernel-test", str(base / "linux")]
    done = subprocess.run(
        [*command, "--copy", str(base / "tests"), "--reports", str(base / case), "--", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "CI": "true"},
        timeout=240,
        check=False,
    )
    assert (done.returncode, said in done.stdout) == (status, True), done.stdout + done.stderr
    assert "kernel-test/aarch64/linux" in done.stdout
    assert ("\nOutput on aarch64:\n1..1\n6.1." in done.stdout) == (case == "passes")
    if case == "passes":
        assert "2 of 2 results passed" in (base / case / "latest/run.json").read_text(encoding="utf-8")
