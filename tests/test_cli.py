"""Bad input as a user sees it: one clear message, an exit status, no traceback."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix import __version__
from bootmatrix.cli.main import COMMANDS, main
from bootmatrix.load.data_paths import CHECKOUT
from command_line import Tool, refused

pytest_plugins = ("command_line",)


def test_help_names_every_command_and_the_exit_statuses(process: Tool) -> None:
    result = process("--help")
    assert result.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^    {command}\s", result.stdout, re.M)
    for status in ("0 ", "1 ", "2 ", "3 ", "130 "):
        assert re.search(rf"^  {status}", result.stdout, re.M)
    assert process("--version").stdout == f"bootmatrix {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(tool: Tool, command: str) -> None:
    result = tool(command, "--help")
    assert result.returncode == 0
    assert f"bootmatrix {command}" in result.stdout


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from bootmatrix.cli.main import parser; parser().format_help(); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert not loaded & {"pydantic", "yaml", "httpx", "rich", "jinja2", "debian", "anyio", "asyncio", "qemu", "tap"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("matrx",), "invalid choice: 'matrx'"),
        (("matrix",), "name a matrix, or specs"),
        (("plan", "hello", "--archs=x"), "unrecognized arguments: --archs=x"),
        (("plan", "helo"), "helo: file not found, and no shipped spec has this name. Did you mean 'hello'?"),
        (("plan", "hello", "--arch", "x68_64"), "unknown architecture 'x68_64'. Did you mean 'x86_64'?"),
        (("plan", "hello", "--arch", "armv7/pi"), "armv7 has no machine 'pi'."),
        (
            ("plan", "hello", "--kernel", "6.2"),
            "none of the selected architectures has a kernel '6.2'. Did you mean '6.12'?",
        ),
        (("plan", "hello", "--kernel", "../.."), "'../..' cannot be the name of a kernel"),
        (("plan", "influxdb.matrix", "hello"), "a matrix stands alone"),
        (("plan", "."), ".: a folder, not a spec"),
        (("matrix", "hello", "--arch", "x68_64"), "unknown architecture 'x68_64'. Did you mean 'x86_64'?"),
        (("matrix", "hello", "--arch", ","), "argument --arch: ',' contains no name"),
        (("matrix", "hello", "--kernel", "6.2"), "none of the selected architectures has a kernel '6.2'."),
        (("matrix", "nothing.yml"), "nothing.yml: file not found"),
        (("build", "hello", "--arch", "sparc"), "unknown architecture 'sparc'."),
        (("build", "hello", "--arch", "ppc64le", "--kernel", "5.10"), "has a kernel '5.10'"),
        (("build", "hello", "--arch", "x86_64", "-o", "-"), "kernel+initrd: several files, and the standard output"),
        (("build", "nothing.yml", "--arch", "x86_64"), "nothing.yml: file not found"),
        (("fetch", "nothing.yml"), "nothing.yml: file not found"),
        (("lock", "nothing.yml"), "nothing.yml: file not found"),
        (("fetch", "hello", "--locked", "none.lock"), "none.lock: lock file not found"),
        (("validate", "nothing.yml"), "nothing.yml: cannot be read: No such file or directory"),
        (("validate", "/"), "/: not a regular file"),
    ],
)
def test_bad_usage(tool: Tool, arguments: tuple[str, ...], message: str) -> None:
    refused(tool(*arguments), message)


SPEC = "services:\n  - name: a\n    image: busybox\n"

FILES = [
    ("s.yml", SPEC + "    cosnole: x\n", "s.yml:4: unknown key 'cosnole'."),
    ("s.yml", SPEC + "    command: sh\n", "s.yml:4: 'command' must be a list, not the text 'sh'. Write [sh]"),
    ("s.yml", "services:\n  - name: a\n", "s.yml:2: 'services[0]' has no 'image'"),
    ("s.yml", "services:\n\t- name: a\n", "s.yml:2: the line begins with a tab. Indent YAML with blanks"),
    ("s.yml", "services: [\n", "s.yml:2: invalid YAML: "),
    ("s.yml", "", "s.yml:1: the file is empty"),
    ("m.matrix.yml", 'specs: [hello]\narch: [x]\nkernel: ["6.1"]\n', "m.matrix.yml:2: unknown architecture 'x'."),
    ("m.matrix.yml", "specs: [hello]\narch: [all]\nkernel: [6.1]\n", "m.matrix.yml:3: 'kernel[0]' must be text"),
    ("m.matrix.yml", 'specs: [helo]\narch: [all]\nkernel: ["6.1"]\n', "m.matrix.yml:1: helo: file not found"),
]


@pytest.mark.parametrize("command", ["validate", "plan", "matrix", "fetch", "lock"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file[2]))
def test_a_faulty_file(tool: Tool, tmp_path: Path, command: str, file: tuple[str, str, str]) -> None:
    name, text, message = file
    (tmp_path / name).write_text(text)
    refused(tool(command, name), message)
    assert {path.name for path in tmp_path.iterdir()} <= {name, "cache"}


@pytest.mark.parametrize("command", ["validate", "matrix", "fetch"])
def test_a_faulty_file_as_a_user_sees_it(process: Tool, tmp_path: Path, command: str) -> None:
    name, text, message = FILES[0]
    (tmp_path / name).write_text(text)
    result = process(command, name)
    refused(result, message)
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout


def test_a_faulty_profile_of_ones_own(process: Tool, tmp_path: Path) -> None:
    (tmp_path / "arch").mkdir()
    (tmp_path / "arch" / "riscv64.yml").write_text("cosnole: x\n")
    result = process("arch")
    refused(result, "arch/riscv64.yml:1: unknown key 'cosnole'.")
    assert "arch/riscv64.yml:1: the file has no 'machines'" in result.stderr


def test_validate_goes_on_after_a_faulty_file(process: Tool, tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("x: 1\ny: 2\n")
    (tmp_path / "b.yml").write_text("onboot:\n  - {name: a, image: busybox}\n")
    (tmp_path / "c.yml").write_text("init: ['nobody/nothing:']\n")
    result = process("validate", "a.yml", "b.yml", "c.yml")
    assert result.returncode == 2
    assert result.stdout == "b.yml: a spec: 1 onboot, 0 services, 0 checks\n"
    starts = [
        "a.yml:1: unknown key 'x'.",
        "a.yml:2: unknown key 'y'.",
        "c.yml:1: 'nobody/nothing:' is not a valid name of an image",
    ]
    found = [line for line in result.stderr.splitlines() if re.match(r"[abc]\.yml", line)]
    assert all(line.startswith(start) for line, start in zip(found, starts, strict=True))


def test_validate_names_everything_of_a_recipe(tool: Tool, tmp_path: Path) -> None:
    recipe = tmp_path / "images[1]" / "build.yml"
    recipe.parent.mkdir()
    recipe.write_text(
        'from: bootmatrix/debian\ndebs: ["./x_*_{debian_arch}.deb", "y.deb"]\nconfigure: true\nprepare: ["true"]\n'
    )
    for arch in ("amd64", "s390x"):
        (recipe.parent / f"x_1_{arch}.deb").touch()
    assert tool("validate", str(recipe)).stdout == (
        f"{recipe}: an image: from bootmatrix/debian, local packages ./x_*_{{debian_arch}}.deb (2 files now), "
        "local packages y.deb (0 files now), scripts of packages and 1 command in a guest\n"
    )
    recipe.write_text("packages: [jq]\n")
    assert tool("validate", str(recipe)).stdout == f"{recipe}: an image: 1 package\n"


def test_validate_accepts_what_is_shipped(tool: Tool) -> None:
    files = [str(file) for folder in ("specs", "arch") for file in sorted((CHECKOUT / folder).rglob("*.yml"))]
    result = tool("validate", *files)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(files)


def test_plan_prints_cells_and_skips(tool: Tool) -> None:
    result = tool("plan", "hello", "--arch", "ppc64el,x64", "--kernel", "5.10,6.1")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:3] == ["hello/ppc64le/6.1", "hello/x86_64/5.10", "hello/x86_64/6.1"]
    assert lines[3].startswith("hello/ppc64le/5.10  skipped: the profile ppc64le has no kernel '5.10'; it has 6.1")
    assert lines[4] == "3 cells, 1 skipped"


def test_the_shipped_matrix_is_eight_cells(tool: Tool) -> None:
    result = tool("plan", "influxdb.matrix.yml")
    assert result.stdout.splitlines()[-1] == "8 cells, 0 skipped"


def test_a_closed_pipe_is_no_fault_to_show(tmp_path: Path) -> None:
    command = f"{sys.executable} -m bootmatrix.cli.main arch | true"
    result = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr


def test_help_is_quick(process: Tool) -> None:
    """By processor time, whatever runs beside it. It takes 0.2 s; a core that is shared is slower."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(3)) < 0.6


def test_a_fault_of_ours_does_not_end_with_the_status_that_speaks_of_a_guest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> int:
        raise IndexError("out of range")

    monkeypatch.setattr("bootmatrix.cli.arch.run", broken)
    assert main(["arch"]) == 3
    assert "internal error" in capsys.readouterr().err
